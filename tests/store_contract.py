"""What every store must keep to: subclass `StoreContract`, supply a `store` fixture, and the claims are tried on it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import pytest

from gateway.stores.store import (
    AccountRecord,
    Client,
    GrantEvent,
    KillSwitch,
    Store,
    StoreConflict,
    StoreError,
)
from policy.asking import RequestState
from policy.grants import Change, GrantChange
from policy.model import (
    Account,
    AccountId,
    AccountType,
    AssumptionId,
    ClientId,
    Duration,
    Grant,
    GrantId,
    Permission,
)
from tests.awaiting_contract import AwaitingContract
from tests.browser_contract import HELD, JAR, BrowserContract
from tests.changes_contract import ChangesContract
from tests.hold_contract import HOLD, HoldContract
from tests.key_contract import KeyContract
from tests.outbox_contract import CONTACTS, OutboxContract, a_claim, a_notice
from tests.request_contract import ASKED, ROOM, RequestContract
from tests.rules_contract import RulesContract
from tests.search_contract import SearchContract
from tests.session_contract import DIGEST, SESSION, SessionContract
from tests.sign_out_contract import SignOutContract
from tests.store_examples import (
    ACME,
    ACTOR,
    ASSUMPTION,
    AWKWARD,
    CLIENT,
    EARLIEST,
    KEY,
    LATEST,
    NOW,
    OTHER,
    STAFF,
    a_change,
    a_grant,
    begin,
)

DECLINED = RequestState.DECLINED


async def listen_once(store: Store) -> None:
    async with store.listen():
        pass


CALLS = {
    "listen": listen_once,
    "read_changes": lambda store: store.read_changes(0),
    "raise_position": lambda store: store.raise_position(7),
    "touch_account": lambda store: store.touch_account(ACME.id),
    "find_kill_switch": lambda store: store.find_kill_switch(),
    "set_kill_switch": lambda store: store.set_kill_switch(KillSwitch(on=True, by="x", at=NOW)),
    "add_hold": lambda store: store.add_hold(HOLD),
    "list_holds": lambda store: store.list_holds(),
    "remove_hold": lambda store: store.remove_hold(ACME.id),
    "check_room": lambda store: store.check_room(ASKED, room=ROOM),
    "add_grant_request": lambda store: store.add_grant_request(ASKED, room=ROOM),
    "find_grant_request": lambda store: store.find_grant_request(ASKED.id),
    "list_waiting": lambda store: store.list_waiting(ACME.id, at=NOW),
    "list_asked": lambda store: store.list_asked(ACTOR, since=NOW),
    "answer_grant_request": lambda store: store.answer_grant_request(ASKED.id, DECLINED, by="x", at=NOW),
    "tidy_grant_requests": lambda store: store.tidy_grant_requests(at=NOW),
    "save_approval": lambda store: store.save_approval(a_change(ACME), ASKED.id, by="x", at=NOW),
    "find_account": lambda store: store.find_account(ACME.id),
    "add_account": lambda store: store.add_account(OTHER),
    "list_accounts": lambda store: store.list_accounts(),
    "search_accounts": lambda store: store.search_accounts("a", most=1),
    "save_change": lambda store: store.save_change(a_change(ACME), by="x", at=NOW),
    "list_changes": lambda store: store.list_changes(ACME.id),
    "find_grant": lambda store: store.find_grant(GrantId("g1")),
    "begin_assumption": lambda store: store.begin_assumption(ASSUMPTION, STAFF, at=NOW),
    "list_begun": lambda store: store.list_begun(ACTOR, at=NOW),
    "expect_browser": lambda store: store.expect_browser(ASSUMPTION.id, until=NOW, now=NOW),
    "list_over": lambda store: store.list_over(at=NOW, since=NOW, most=1),
    "list_unclaimed": lambda store: store.list_unclaimed(at=NOW),
    "find_actor_of": lambda store: store.find_actor_of(ACTOR.issuer, "s1"),
    "find_assumption": lambda store: store.find_assumption(ASSUMPTION.id),
    "end_assumption": lambda store: store.end_assumption(ASSUMPTION.id, at=NOW),
    "end_assumptions_of": lambda store: store.end_assumptions_of(ACTOR, at=NOW),
    "list_assumptions": lambda store: store.list_assumptions(at=NOW),
    "sign_out": lambda store: store.sign_out(ACTOR, since=NOW, at=NOW),
    "save_staff": lambda store: store.save_staff(STAFF, at=NOW),
    "find_staff": lambda store: store.find_staff(ACTOR),
    "disable_staff": lambda store: store.disable_staff(ACTOR, disabled=True),
    "begin_session": lambda store: store.begin_session(SESSION, STAFF, at=NOW),
    "find_session": lambda store: store.find_session(DIGEST),
    "touch_session": lambda store: store.touch_session(DIGEST, at=NOW),
    "end_session": lambda store: store.end_session(DIGEST),
    "add_one_time": lambda store: store.add_one_time(DIGEST, "x", expires_at=NOW, now=NOW),
    "redeem": lambda store: store.redeem(DIGEST, now=NOW),
    "find_one_time": lambda store: store.find_one_time(DIGEST, now=NOW),
    "swap_one_time": lambda store: store.swap_one_time(DIGEST, "x", known="y", now=NOW),
    "count": lambda store: store.count(DIGEST, most=1, expires_at=NOW, now=NOW),
    "discount": lambda store: store.discount(DIGEST, now=NOW),
    "add_browser": lambda store: store.add_browser(HELD, at=NOW),
    "find_browser": lambda store: store.find_browser(DIGEST),
    "list_held": lambda store: store.list_held(ACTOR, ASSUMPTION.account, at=NOW),
    "touch_browser": lambda store: store.touch_browser(DIGEST, at=NOW),
    "find_jar": lambda store: store.find_jar(DIGEST),
    "save_jar": lambda store: store.save_jar(DIGEST, JAR),
    "tidy_browsers": lambda store: store.tidy_browsers(at=NOW),
    "add_client": lambda store: store.add_client(CLIENT),
    "find_client": lambda store: store.find_client(CLIENT.id),
    "list_clients": lambda store: store.list_clients(),
    "remove_client": lambda store: store.remove_client(CLIENT.id),
    "add_key": lambda store: store.add_key(KEY),
    "start_key": lambda store: store.start_key(KEY.id, at=NOW),
    "find_contacts": lambda store: store.find_contacts(ACME.id),
    "list_contacts": lambda store: store.list_contacts(),
    "page_contacts": lambda store: store.page_contacts("", most=1),
    "save_contacts": lambda store: store.save_contacts(CONTACTS, tell=[], now=NOW),
    "add_notices": lambda store: store.add_notices([a_notice()], now=NOW),
    "is_due": lambda store: store.is_due(now=NOW),
    "claim_notices": lambda store: store.claim_notices("x", now=NOW, until=NOW, most=1),
    "settle_notices": lambda store: store.settle_notices(["n1"], outcome="sent"),
    "finish_claim": lambda store: store.finish_claim(a_claim(), noted=[], not_before=NOW, failures=0),
    "list_pending": lambda store: store.list_pending(most=9),
    "list_given_up": lambda store: store.list_given_up(most=9),
    "retry_notices": lambda store: store.retry_notices(None, now=NOW),
    "count_waiting": lambda store: store.count_waiting(),
    "tidy_notices": lambda store: store.tidy_notices(before=NOW, contacts_before=NOW, now=NOW),
    "retire_key": lambda store: store.retire_key(KEY.id, at=NOW),
    "end_key": lambda store: store.end_key(KEY.id, at=NOW),
    "list_keys": lambda store: store.list_keys(),
}


class StoreContract(
    AwaitingContract,
    BrowserContract,
    ChangesContract,
    HoldContract,
    KeyContract,
    OutboxContract,
    RequestContract,
    RulesContract,
    SearchContract,
    SessionContract,
    SignOutContract,
):
    async def test_nothing_is_known_at_first(self, store: Store):
        """An empty store says None, an empty list or False; it invents nothing and raises nothing."""
        assert None is await store.find_account(ACME.id)
        assert None is await store.find_grant(GrantId("g1"))
        assert None is await store.find_assumption(ASSUMPTION.id)
        assert None is await store.find_staff(ACTOR)
        assert None is await store.find_client(CLIENT.id)
        assert [*await store.list_accounts(), *await store.list_changes(ACME.id), *await store.list_keys()] == []
        assert [] == list(await store.list_clients())
        assert False is await store.remove_client(CLIENT.id)
        assert False is await store.end_assumption(ASSUMPTION.id, at=NOW)
        assert False is await store.disable_staff(ACTOR, disabled=True)
        assert [*await store.list_assumptions(at=NOW), *await store.end_assumptions_of(ACTOR, at=NOW)] == []

    @pytest.mark.parametrize("account", [ACME, Account(id=AccountId(AWKWARD), type=AccountType.TRIAL, suspended=True)])
    async def test_an_account_comes_back_as_it_went_in(self, store: Store, account: Account):
        """A new account has no grant, whatever its id looks like."""
        await store.add_account(account)
        assert AccountRecord(account=account, grant=None) == await store.find_account(account.id)

    async def test_who_decided_before_an_account_was_touched_decides_again(self, store: Store):
        """Its epoch has gone up by one, and nothing else of it has changed."""
        await store.add_account(ACME)
        await store.save_change(a_change(ACME, grant=a_grant(ACME)), by="x", at=NOW)
        before = await store.find_account(ACME.id)
        history = await store.list_changes(ACME.id)
        await store.touch_account(ACME.id)
        touched = replace(before, account=replace(before.account, epoch=before.account.epoch + 1))
        assert touched == await store.find_account(ACME.id)
        with pytest.raises(StoreConflict):
            await store.save_change(a_change(before.account), by="x", at=NOW)
        assert history == await store.list_changes(ACME.id)
        await store.save_change(a_change(touched.account), by="x", at=NOW)
        await store.touch_account(OTHER.id)
        assert None is await store.find_account(OTHER.id)

    async def test_ids_that_look_alike_are_different_accounts(self, store: Store):
        """Ids are compared byte for byte: case, white space and Unicode form count."""
        ids = ["acme", "Acme", "acme ", "acm\u0065\u0301", "acm\u00e9", ""]
        for id_ in ids:
            await store.add_account(Account(id=AccountId(id_), type=AccountType.PAID))
        assert sorted(ids) == [record.account.id for record in await store.list_accounts()]
        assert None is await store.find_account(AccountId("ACME"))

    @pytest.mark.parametrize(
        "grant",
        [
            a_grant(ACME),
            a_grant(ACME, duration=Duration.ALWAYS, expires_at=None, permissions=frozenset(Permission)),
            a_grant(ACME, revoked_at=NOW + timedelta(microseconds=1), permissions=frozenset()),
            a_grant(ACME, not_before=EARLIEST, expires_at=LATEST, given_by=AWKWARD, id=AWKWARD),
            a_grant(ACME, not_before=datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
            a_grant(ACME, not_before=NOW.astimezone(timezone(timedelta(hours=-9, minutes=-30)))),
        ],
        ids=["plain", "always", "revoked", "extreme", "before-1970", "another-zone"],
    )
    async def test_a_grant_comes_back_to_the_microsecond(self, store: Store, grant: Grant):
        """A saved grant is found with its account, by its id and in the history, equal in every field."""
        await store.add_account(ACME)
        change = a_change(ACME, grant=grant)
        await store.save_change(change, by=AWKWARD, at=NOW)
        assert AccountRecord(account=change.account, grant=change.grant) == await store.find_account(ACME.id)
        assert change.grant == await store.find_grant(grant.id)
        event = GrantEvent(account=ACME.id, epoch=1, at=NOW, by=AWKWARD, change=Change.ENABLED, grant=change.grant)
        assert [event] == list(await store.list_changes(ACME.id))

    async def test_the_type_and_the_suspension_are_saved_with_the_change(self, store: Store):
        """A change carries the whole account."""
        await store.add_account(replace(ACME, type=AccountType.TRIAL))
        change = a_change(replace(ACME, suspended=True), Change.CONVERTED)
        await store.save_change(change, by="billing", at=NOW)
        assert AccountRecord(account=change.account, grant=None) == await store.find_account(ACME.id)

    async def test_a_conversion_leaves_no_grant_whatever_was_stored_before(self, store: Store):
        """After a change without a grant the account has none; an earlier grant stays readable as history."""
        trial = replace(ACME, type=AccountType.TRIAL)
        await store.add_account(trial)
        enabled = a_change(trial, grant=a_grant(trial))
        await store.save_change(enabled, by="import", at=NOW)
        converted = a_change(replace(enabled.account, type=AccountType.PAID), Change.CONVERTED)
        await store.save_change(converted, by="billing", at=NOW)
        assert AccountRecord(account=converted.account, grant=None) == await store.find_account(ACME.id)
        assert enabled.grant == await store.find_grant(GrantId("g1"))

    async def test_history_keeps_each_grant_as_it_was_newest_first(self, store: Store):
        """A later change of the grant does not rewrite the line that an earlier one left."""
        await store.add_account(ACME)
        await store.add_account(OTHER)
        first = a_change(ACME, grant=a_grant(ACME))
        second = a_change(first.account, Change.REDUCED, grant=a_grant(ACME, expires_at=NOW + timedelta(days=1)))
        third = a_change(second.account, Change.TURNED_OFF, grant=replace(second.grant, revoked_at=NOW))
        fourth = a_change(third.account, grant=a_grant(ACME, id="g2"))
        elsewhere = a_change(OTHER, grant=a_grant(OTHER, id="g9"))
        for change in (first, second, elsewhere, third, fourth):
            await store.save_change(change, by="admin-7", at=NOW)
        events = await store.list_changes(ACME.id)
        assert [event.epoch for event in events] == [4, 3, 2, 1]
        assert [fourth.grant, third.grant, second.grant, first.grant] == [event.grant for event in events]
        assert third.grant == await store.find_grant(GrantId("g1"))

    @pytest.mark.parametrize("raised_by", [-4, 0, 2, 1000])
    async def test_a_change_on_other_facts_than_the_stored_ones_is_refused_whole(self, store: Store, raised_by: int):
        """Unless the epoch is exactly one above the stored one, nothing of the change is stored."""
        account = replace(ACME, epoch=5)
        await store.add_account(account)
        after = replace(account, epoch=account.epoch + raised_by)
        stale = GrantChange(change=Change.ENABLED, account=after, grant=a_grant(after))
        with pytest.raises(StoreConflict):
            await store.save_change(stale, by="late", at=NOW)
        assert AccountRecord(account=account, grant=None) == await store.find_account(ACME.id)
        assert None is await store.find_grant(GrantId("g1"))
        assert list(await store.list_changes(ACME.id)) == []

    async def test_a_change_of_an_unknown_account_is_refused(self, store: Store):
        """A change never makes an account."""
        with pytest.raises(StoreConflict):
            await store.save_change(a_change(ACME, grant=a_grant(ACME)), by="x", at=NOW)
        assert None is await store.find_account(ACME.id)
        assert None is await store.find_grant(GrantId("g1"))

    async def test_of_two_who_decided_on_the_same_facts_one_wins(self, store: Store):
        """Twenty writers at once: one change is stored, nineteen are told, and the winner's is what is there."""
        await store.add_account(ACME)
        changes = [a_change(ACME, grant=a_grant(ACME, id=f"g{n}")) for n in range(20)]
        saves = (store.save_change(change, by=change.grant.id, at=NOW) for change in changes)
        outcomes = await asyncio.gather(*saves, return_exceptions=True)
        [winner] = [change for change, outcome in zip(changes, outcomes, strict=True) if outcome is None]
        assert sum(isinstance(outcome, StoreConflict) for outcome in outcomes) == 19
        assert AccountRecord(account=winner.account, grant=winner.grant) == await store.find_account(ACME.id)
        assert [winner.grant] == [event.grant for event in await store.list_changes(ACME.id)]

    @pytest.mark.parametrize("revoked_at", [None, NOW + timedelta(days=1)], ids=["unrevoked", "revoked-later"])
    async def test_a_revoked_grant_does_not_come_back(self, store: Store, revoked_at: datetime | None):
        """Whoever saves a revoked grant's id again as live, or as revoked later, is refused whole."""
        await store.add_account(ACME)
        off = a_change(ACME, Change.TURNED_OFF, grant=a_grant(ACME, revoked_at=NOW))
        await store.save_change(off, by="admin-7", at=NOW)
        with pytest.raises(StoreConflict):
            await store.save_change(a_change(off.account, grant=a_grant(ACME, revoked_at=revoked_at)), by="x", at=NOW)
        assert AccountRecord(account=off.account, grant=off.grant) == await store.find_account(ACME.id)

    async def test_a_grant_does_not_change_accounts(self, store: Store):
        """The id of another account's grant is refused, and that grant stays as it was."""
        await store.add_account(ACME)
        await store.add_account(OTHER)
        ours = a_change(ACME, grant=a_grant(ACME))
        await store.save_change(ours, by="admin-7", at=NOW)
        with pytest.raises(StoreConflict):
            await store.save_change(a_change(OTHER, grant=a_grant(OTHER)), by="x", at=NOW)
        assert ours.grant == await store.find_grant(GrantId("g1"))
        assert AccountRecord(account=OTHER, grant=None) == await store.find_account(OTHER.id)

    async def test_an_assumption_comes_back_and_ends_once(self, store: Store):
        """Ending is True the first time only, and the first end stays."""
        await begin(store, ASSUMPTION)
        assert await store.find_assumption(ASSUMPTION.id) == ASSUMPTION
        ends = [NOW + timedelta(seconds=n) for n in range(5)]
        outcomes = await asyncio.gather(*(store.end_assumption(ASSUMPTION.id, at=end) for end in ends))
        assert outcomes.count(True) == 1
        ended = await store.find_assumption(ASSUMPTION.id)
        assert replace(ASSUMPTION, ended_at=ends[outcomes.index(True)]) == ended

    async def test_an_assumption_without_scopes_keeps_none(self, store: Store):
        """The empty set stays empty."""
        bare = replace(ASSUMPTION, scopes=frozenset(), ended_at=NOW)
        await begin(store, bare)
        assert bare == await store.find_assumption(bare.id)

    async def test_staff_come_back_as_last_seen(self, store: Store):
        """A later sign-in replaces name, permissions and groups; the issuer is part of who somebody is."""
        await store.save_staff(STAFF, at=NOW)
        assert await store.find_staff(ACTOR) == STAFF
        less = replace(STAFF, name="", permissions=frozenset(), groups=frozenset())
        await store.save_staff(less, at=NOW + timedelta(days=1))
        assert less == await store.find_staff(ACTOR)
        assert None is await store.find_staff(ACTOR._replace(issuer="https://evil.example"))

    async def test_a_disabled_member_cannot_sign_in_out_of_it(self, store: Store):
        """`disabled` stays through every later sign-in until it is lifted by name; a sign-in can set it."""
        await store.save_staff(STAFF, at=NOW)
        assert True is await store.disable_staff(ACTOR, disabled=True)
        await store.save_staff(replace(STAFF, name="again"), at=NOW)
        assert replace(STAFF, name="again", disabled=True) == await store.find_staff(ACTOR)
        assert True is await store.disable_staff(ACTOR, disabled=False)
        assert replace(STAFF, name="again") == await store.find_staff(ACTOR)
        await store.save_staff(replace(STAFF, disabled=True), at=NOW)
        await store.save_staff(STAFF, at=NOW)
        assert replace(STAFF, disabled=True) == await store.find_staff(ACTOR)

    async def test_clients_come_back(self, store: Store):
        """Digest and roles are equal, byte for byte."""
        plain = Client(id=ClientId("none"), secret_digest=b"", roles=frozenset())
        for client in (CLIENT, plain):
            await store.add_client(client)
            assert client == await store.find_client(client.id)

    async def test_clients_are_listed_and_removed(self, store: Store):
        """By id; one that is removed is gone at once, alone, and its id is free."""
        ids = ("b", AWKWARD, "a", "B")
        clients = {id_: Client(id=ClientId(id_), secret_digest=b"x", roles=frozenset({"token"})) for id_ in ids}
        for client in clients.values():
            await store.add_client(client)
        assert [clients[id_] for id_ in sorted(ids)] == list(await store.list_clients())
        assert True is await store.remove_client(ClientId("b"))
        assert None is await store.find_client(ClientId("b"))
        assert False is await store.remove_client(ClientId("b"))
        assert [clients[id_] for id_ in sorted(ids) if id_ != "b"] == list(await store.list_clients())
        await store.add_client(replace(clients["b"], secret_digest=b"y"))
        assert b"y" == (await store.find_client(ClientId("b"))).secret_digest

    @pytest.mark.parametrize("what", ["account", "assumption", "client", "key"])
    async def test_a_taken_id_is_a_conflict_and_the_first_stays(self, store: Store, what: str):
        """Adding never overwrites."""
        add, first, second = {
            "account": (store.add_account, ACME, replace(ACME, type=AccountType.TRIAL)),
            "assumption": (partial(begin, store), ASSUMPTION, replace(ASSUMPTION, actor=ACTOR._replace(subject="u2"))),
            "client": (store.add_client, CLIENT, replace(CLIENT, secret_digest=b"mine")),
            "key": (store.add_key, KEY, replace(KEY, private_pem=b"mine")),
        }[what]
        await add(first)
        with pytest.raises(StoreConflict):
            await add(second)
        kept = {
            "account": [record.account for record in await store.list_accounts()],
            "assumption": [await store.find_assumption(ASSUMPTION.id)],
            "client": [await store.find_client(CLIENT.id)],
            "key": list(await store.list_keys()),
        }[what]
        assert [first] == kept

    @pytest.mark.parametrize("switch", [KillSwitch(on=True, by=AWKWARD, reason=AWKWARD, at=NOW), KillSwitch(by="x")])
    async def test_the_kill_switch_comes_back(self, store: Store, switch: KillSwitch):
        """It is off until somebody sets it, and is as it was set last."""
        assert KillSwitch() == await store.find_kill_switch()
        await store.set_kill_switch(replace(switch, on=not switch.on))
        assert await store.set_kill_switch(switch)
        assert switch == await store.find_kill_switch()

    @pytest.mark.parametrize("at", [None, NOW])
    async def test_the_kill_switch_is_swapped_for_the_known_one_alone(self, store: Store, at: datetime | None):
        """Whatever differs of what is there, and of two who swap one wins."""
        known = KillSwitch(on=True, by=AWKWARD, reason=AWKWARD, at=at)
        off = KillSwitch(by="kim", at=NOW)
        await store.set_kill_switch(known)
        others = (replace(known, on=False), replace(known, by="x"), replace(known, reason="x"), KillSwitch())
        for other in (*others, replace(known, at=NOW + timedelta(microseconds=1))):
            assert not await store.set_kill_switch(off, known=other)
        assert known == await store.find_kill_switch()
        done = await asyncio.gather(*(store.set_kill_switch(replace(off, by=by), known=known) for by in ("a", "b")))
        assert [False, True] == sorted(done)
        assert (await store.find_kill_switch()).by == ("a" if done[0] else "b")

    async def test_all_that_a_member_has_begun_ends_at_once(self, store: Store):
        """Only what has not ended is ended and named, only theirs, and nothing the second time.

        What has expired is ended too: another machine's clock may be behind.
        """
        theirs = [replace(ASSUMPTION, id=AssumptionId(f"s{n}")) for n in range(4)]
        theirs.append(replace(ASSUMPTION, id=AssumptionId("s4"), expires_at=NOW))
        namesake = replace(ASSUMPTION, id=AssumptionId("s7"), actor=ACTOR._replace(issuer="https://evil.example"))
        for assumption in (*theirs, namesake):
            await begin(store, assumption)
        before = NOW + timedelta(seconds=1)
        await store.end_assumption(theirs[0].id, at=before)
        ended = await store.end_assumptions_of(ACTOR, at=NOW + timedelta(seconds=2))
        assert sorted(ended) == [assumption.id for assumption in theirs[1:]]
        assert (await store.find_assumption(theirs[0].id)).ended_at == before
        assert (await store.find_assumption(theirs[4].id)).ended_at == NOW + timedelta(seconds=2)
        assert await store.find_assumption(namesake.id) == namesake
        assert list(await store.end_assumptions_of(ACTOR, at=NOW)) == []

    async def test_what_has_not_ended_is_listed_oldest_first(self, store: Store):
        """Neither by somebody nor by itself; of one account or of all, those of one moment in the order of their ids."""
        later = replace(ASSUMPTION, id=AssumptionId("s0"), started_at=NOW + timedelta(microseconds=1))
        twin = replace(ASSUMPTION, id=AssumptionId("s2"), account=OTHER.id)
        ended = replace(ASSUMPTION, id=AssumptionId("s3"), ended_at=NOW)
        expired = replace(ASSUMPTION, id=AssumptionId("s4"), expires_at=NOW)
        for assumption in (later, twin, ended, expired, ASSUMPTION):
            await begin(store, assumption)
        assert [ASSUMPTION, twin, later] == list(await store.list_assumptions(at=NOW))
        assert [ASSUMPTION, later] == list(await store.list_assumptions(at=NOW, account=ACME.id))
        assert list(await store.list_assumptions(at=NOW, account=AccountId("none"))) == []
        assert [] == list(await store.list_assumptions(at=ASSUMPTION.expires_at))

    @pytest.mark.parametrize("call", CALLS)
    async def test_a_closed_store_answers_nothing(self, store: Store, call: str):
        """After `close` every call raises StoreError; closing again is harmless."""
        await store.close()
        with pytest.raises(StoreError):
            await CALLS[call](store)
        await store.close()

    def test_the_table_of_calls_is_complete(self):
        """Every call of the contract but `close` is in CALLS."""
        calls = {name for part in Store.__mro__ for name in vars(part) if not name.startswith("_")}
        assert calls == {*CALLS, "close"}
