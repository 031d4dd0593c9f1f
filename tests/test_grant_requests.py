"""The service by which staff ask accounts: records first, one answer, nothing beyond it; races and faults included."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.audit.log import JournalError
from gateway.stores.request_room import Room
from gateway.stores.store import StoreError
from policy.asking import AskingTerms, GrantRequest, RequestRefusal, RequestState
from policy.grants import Administrator, Change, GrantChange
from policy.model import AccountType, Duration, Permission
from tests.asking_world import ISSUER, NOON, OWNER, Desk
from tests.memory_store import MemoryStore

WIDE = Room(per_staff_and_account=50, per_account=50, per_staff=50)
TESTING, WRITE = Permission.TEST_TICKETS, Permission.WRITE


@pytest.fixture
async def desk():
    return await Desk().open("acme", "globex")


async def test_a_request_from_the_question_to_the_grant(desk):
    """Who asked, for what, with ticket and reason, stands in the record before the store; the change names it."""
    asked = await desk.ask("test_tickets")
    assert [asked.id] == await desk.waiting()
    [said] = desk.journal.records
    assert ("grant_request", "allow", "asked", asked.id, "acme", "dana", "SUP-7", "empty", "week") == (
        said.kind, said.decision, said.reason, said.grant_request, said.account, said.actor.subject, said.ticket,
        said.stated_reason, said.duration,
    )  # fmt: skip
    assert (("read", "test_tickets"), "192.0.2.7", "req_1") == (said.permissions, said.client_ip, said.request_id)
    given = await desk.approve(asked, Duration.DAY, WRITE)
    assert Change.ENABLED is given.change
    grant = await desk.grant()
    assert ({Permission.READ, WRITE}, NOON + timedelta(days=1), "owner") == (
        grant.permissions, grant.expires_at, grant.given_by
    )  # fmt: skip
    change = desk.journal.records[-1]
    assert ("grant", "enabled", asked.id, "SUP-7", "owner", None) == (
        change.kind, change.reason, change.grant_request, change.ticket, change.granted_by, change.actor
    )  # fmt: skip
    assert [] == await desk.waiting()
    [kept] = await desk.requests.asked_by(asked.actor)
    assert (RequestState.APPROVED, "owner", NOON) == (kept.answer, kept.answered_by, kept.answered_at)


async def test_an_answer_counts_once(desk):
    """Whatever comes second is told what came first, and changes nothing."""
    one, two, three = [await desk.ask("test_tickets", ticket=f"T-{number}") for number in range(3)]
    await desk.approve(one)
    assert RequestState.DECLINED is (await desk.decline(two)).answer
    assert RequestState.WITHDRAWN is (await desk.withdraw(three)).answer
    epoch = (await desk.store.find_account("acme")).account.epoch
    before = len(desk.journal.records)
    for asked, said in ((one, "request_approved"), (two, "request_declined"), (three, "request_withdrawn")):
        assert {said} == {
            await desk.approve(asked, Duration.ALWAYS),
            await desk.decline(asked),
            await desk.withdraw(asked),
        }
    assert epoch == (await desk.store.find_account("acme")).account.epoch
    later = desk.journal.records[before:]
    assert 6 == len(later), "each answer that did not count is on the record"
    assert {("grant_request", "deny", "owner")} == {(one.kind, one.decision, one.by) for one in later}


async def test_what_has_waited_too_long_is_over(desk):
    """At the microsecond of its end: nobody can approve, decline or withdraw it, and it is listed no more."""
    asked = await desk.ask("test_tickets")
    desk.clock.now = asked.expires_at - timedelta(microseconds=1)
    assert [asked.id] == await desk.waiting()
    desk.clock.now = asked.expires_at
    assert [] == await desk.waiting()
    said = {await desk.approve(asked), await desk.decline(asked), await desk.withdraw(asked)}
    assert ({"request_expired"}, None) == (said, await desk.grant())


async def test_another_accounts_request_is_unknown(desk):
    """Globex's administrator can neither approve nor decline what acme was asked, and is told nothing of it."""
    asked = await desk.ask("test_tickets")
    before = len(desk.journal.records)
    assert RequestRefusal.REQUEST_UNKNOWN is await desk.approve(asked, account="globex")
    assert RequestRefusal.REQUEST_UNKNOWN is await desk.decline(asked, account="globex")
    assert RequestRefusal.REQUEST_UNKNOWN is await desk.decline(replace(asked, id="ask_0"))
    assert ([asked.id], None, None) == (await desk.waiting(), await desk.grant(), await desk.grant("globex"))
    later = [(one.account, one.by, one.reason, one.ticket, one.actor) for one in desk.journal.records[before:]]
    unknown = ("owner", "request_unknown", None, None)
    assert [("globex", *unknown), ("globex", *unknown), ("acme", *unknown)] == later


async def test_somebody_elses_request_cannot_be_withdrawn(desk):
    """Nor a namesake's of another provider; not even that it is there is told."""
    asked = await desk.ask("test_tickets")
    namesake = desk.person()
    namesake = replace(namesake, staff=replace(namesake.staff, id=namesake.staff.id._replace(issuer="https://evil")))
    for other in (desk.person("eve"), namesake):
        assert RequestRefusal.REQUEST_UNKNOWN is await desk.withdraw(asked, person=other)
    assert [asked.id] == await desk.waiting()


@pytest.mark.parametrize(
    ("who", "refusal"),
    [
        (Administrator(id="ben", roles={"support": "agent"}), "not_administrator"),
        (replace(OWNER, is_acting_staff=True), "acting_staff"),
    ],
)
async def test_only_an_administrator_in_person_answers(desk, who, refusal):
    """Whoever else tries is refused, on the record; what waits goes on waiting."""
    asked = await desk.ask("test_tickets")
    assert refusal == await desk.approve(asked, by=who) == await desk.decline(asked, by=who)
    assert [("grant_request", "deny", refusal)] * 2 == desk.journal.said[-2:]
    assert ([asked.id], None) == (await desk.waiting(), await desk.grant())


async def test_whom_the_rules_do_not_let_in_cannot_ask(desk):
    """An account that they may not stand in is as unknown as one that is not there; more than their own is refused."""
    await desk.open("bonn", attributes=frozenset({("region", "eu")}))
    europe = desk.person("eva", "europe")
    for account in ("acme", "nowhere"):
        assert RequestRefusal.UNKNOWN_ACCOUNT is await desk.ask(account=account, person=europe)
    assert RequestRefusal.PERMISSION_NOT_ALLOWED is await desk.ask("write", account="bonn", person=europe)
    assert RequestRefusal.UNKNOWN_ACCOUNT is await desk.ask(person=desk.person("bob", "sales"))
    assert isinstance(await desk.ask(account="bonn", person=europe), GrantRequest)
    assert 4 == sum(record.decision == "deny" for record in desk.journal.records)


async def test_whoever_is_locked_out_or_signed_out_cannot_ask(desk):
    """Though their token says nothing of it; a sign-in after the sign-out lets them ask again."""
    person = desk.person()
    await desk.store.save_staff(person.staff, at=NOON)
    await desk.store.disable_staff(person.staff.id, disabled=True)
    assert RequestRefusal.STAFF_DISABLED is await desk.ask("test_tickets", person=person)
    await desk.store.disable_staff(person.staff.id, disabled=False)
    await desk.store.sign_out(person.staff.id, since=NOON, at=NOON)
    assert RequestRefusal.STAFF_SIGNED_OUT is await desk.ask("test_tickets", person=person)
    desk.clock.forward(seconds=1)
    assert isinstance(await desk.ask("test_tickets", person=desk.person()), GrantRequest)


async def test_what_somebody_asked_who_is_locked_out_since_is_not_approved(desk):
    """It is shown as what it is, for it takes room; the account can still decline it."""
    asked, other = await desk.ask("test_tickets"), await desk.ask("test_tickets", person=desk.person("kim"))
    await desk.store.save_staff(desk.person().staff, at=NOON)
    await desk.store.disable_staff(asked.actor, disabled=True)
    waiting = await desk.requests.waiting("acme")
    assert ({asked.id, other.id}, {asked.actor}) == (
        {one.id for one in waiting},
        await desk.requests.locked_out(waiting),
    )
    assert RequestRefusal.ASKER_DISABLED is await desk.approve(asked)
    assert None is await desk.grant()
    assert RequestState.DECLINED is (await desk.decline(asked)).answer


async def test_a_trial_a_suspended_account_and_one_kept_by_the_app_are_not_asked():
    """And what waits when an account becomes one of these is not approved."""
    desk = await Desk(terms=AskingTerms(kept_by_app=True)).open()
    assert RequestRefusal.KEPT_BY_APP is await desk.ask()
    desk = await (await Desk().open("new", kind=AccountType.TRIAL)).open("locked", suspended=True)
    assert RequestRefusal.TRIAL_ACCOUNT is await desk.ask(account="new")
    assert RequestRefusal.ACCOUNT_SUSPENDED is await desk.ask(account="locked")
    asked = await (await desk.open()).ask("test_tickets")
    await desk.grants.suspend("acme", suspended=True, by="ops")
    assert RequestRefusal.ACCOUNT_SUSPENDED is await desk.approve(asked)
    assert ([asked.id], None) == (await desk.waiting(), await desk.grant())


async def test_the_bounds_hold_and_are_on_the_record():
    """Of ten questions at once three are stored; whatever else was recorded as asked is taken back."""
    desk = await Desk(room=replace(WIDE, per_staff_and_account=3)).open()
    outcomes = await asyncio.gather(*(desk.ask("test_tickets", ticket=f"T-{number}") for number in range(10)))
    assert 7 == outcomes.count(RequestRefusal.TOO_MANY_OF_STAFF_IN_ACCOUNT)
    stands = desk.journal.said.count(("grant_request", "allow", "asked"))
    undone = [record for record in desk.journal.records if record.decision == "deny" and record.grant_request]
    assert 3 == stands - len(undone) == len(await desk.waiting())
    assert RequestRefusal.TOO_MANY_OF_STAFF_IN_ACCOUNT is await desk.ask("test_tickets")
    assert stands == desk.journal.said.count(("grant_request", "allow", "asked")), (
        "what is full is not recorded as asked"
    )


async def test_of_many_answers_at_once_one_counts_and_the_record_says_which(desk):
    """Approvals of different durations, refusals and withdrawals: one outcome, one grant or none, one standing record."""
    asked = await desk.ask("test_tickets")
    durations = [Duration.DAY, Duration.WEEK, Duration.MONTH, Duration.YEAR]
    calls = [desk.approve(asked, duration) for duration in durations]
    calls += [desk.decline(asked), desk.withdraw(asked), desk.decline(asked)]
    outcomes = await asyncio.gather(*calls)
    done = [outcome for outcome in outcomes if not isinstance(outcome, RequestRefusal)]
    assert 1 == len(done)
    grant = await desk.grant()
    assert grant == (done[0].grant if isinstance(done[0], GrantChange) else None)
    tried = [record for record in desk.journal.records[1:] if record.grant_request == asked.id]
    took_back = [record for record in tried if record.decision == "deny"]
    assert 1 == len(tried) - 2 * len(took_back), desk.journal.said


async def test_an_approval_of_an_account_that_changed_meanwhile_is_overtaken(desk):
    """The administrator decided on what the page showed; the request waits for another decision."""
    asked = await desk.ask("test_tickets")
    epoch = (await desk.store.find_account("acme")).account.epoch
    await desk.grants.suspend("acme", suspended=True, by="ops")
    await desk.grants.suspend("acme", suspended=False, by="ops")
    assert RequestRefusal.OVERTAKEN is await desk.approve(asked, known_epoch=epoch)
    assert ([asked.id], None) == (await desk.waiting(), await desk.grant())
    assert isinstance(await desk.approve(asked, known_epoch=epoch + 2), GrantChange)


@pytest.mark.parametrize("meanwhile", ["decline", "withdraw", "approve"])
async def test_an_approval_that_somebody_else_was_faster_than_gives_nothing(desk, meanwhile):
    """Though its record was written first: that is taken back, and what came first stands."""
    asked = await desk.ask("test_tickets")
    desk.journal.when_appended = lambda: getattr(desk, meanwhile)(asked)
    said = {"decline": "request_declined", "withdraw": "request_withdrawn", "approve": "request_approved"}[meanwhile]
    assert said == await desk.approve(asked, Duration.YEAR, WRITE)
    grant = await desk.grant()
    assert (grant is not None) == (meanwhile == "approve")
    assert grant is None or grant.duration is Duration.DAY
    assert ("grant", "deny", "overtaken") == desk.journal.said[-1]


@pytest.mark.parametrize("meanwhile", ["approve", "withdraw"])
async def test_a_no_that_somebody_else_was_faster_than_is_taken_back_on_the_record(desk, meanwhile):
    """And its author is told what came first."""
    asked = await desk.ask("test_tickets")
    desk.journal.when_appended = lambda: getattr(desk, meanwhile)(asked)
    said = {"withdraw": "request_withdrawn", "approve": "request_approved"}[meanwhile]
    assert said == await desk.decline(asked)
    assert ("grant_request", "deny", said) == desk.journal.said[-1]


async def test_approving_what_is_so_already_answers_the_request(desk):
    """The account has turned it on by itself: nothing changes, and nothing waits any more."""
    asked = await desk.ask("test_tickets")
    first = await desk.ask("test_tickets", ticket="T-1")
    await desk.approve(first, Duration.WEEK, TESTING)
    epoch = (await desk.store.find_account("acme")).account.epoch
    outcome = await desk.approve(asked, Duration.ALWAYS, TESTING, keeps_end=True)
    assert (Change.UNCHANGED, []) == (outcome.change, await desk.waiting())
    assert epoch == (await desk.store.find_account("acme")).account.epoch
    assert asked.id == desk.journal.records[-1].grant_request


async def test_a_grant_is_shortened_only_if_that_was_chosen(desk):
    """What an account has given for long is not cut by a yes to a question."""
    first, second = await desk.ask("test_tickets"), await desk.ask("write", person=desk.person("lee", "leads"))
    await desk.approve(first, Duration.YEAR, TESTING)
    year = (await desk.grant()).expires_at
    assert RequestRefusal.WOULD_SHORTEN is await desk.approve(second, Duration.DAY, TESTING, WRITE)
    assert ([second.id], year) == (await desk.waiting(), (await desk.grant()).expires_at)
    await desk.approve(second, Duration.ALWAYS, TESTING, WRITE, keeps_end=True)
    assert (year, {Permission.READ, TESTING, WRITE}) == (
        (await desk.grant()).expires_at,
        (await desk.grant()).permissions,
    )


# Faults.


async def test_without_the_journal_nobody_asks_withdraws_or_approves(desk):
    """Nothing is stored, not even where an approval would only take something away."""
    asked, other = await desk.ask("test_tickets"), await desk.ask("test_tickets", ticket="T-1")
    await desk.approve(other, Duration.YEAR, TESTING)
    before = await desk.grant()
    desk.journal.broken = True
    for call in (desk.ask("test_tickets"), desk.withdraw(asked), desk.approve(asked, Duration.DAY, shortens=True)):
        with pytest.raises(JournalError):
            await call
    assert ([asked.id], before) == (await desk.waiting(), await desk.grant())


async def test_a_no_counts_without_the_journal_and_is_recorded_later(desk):
    """As turning off does: it gives nobody anything."""
    asked = await desk.ask("test_tickets")
    desk.journal.broken = True
    assert RequestState.DECLINED is (await desk.decline(asked)).answer
    assert ([], False) == (await desk.waiting(), desk.requests.debts.is_settled)
    desk.journal.broken = False
    await desk.requests.debts.settle()
    assert ("grant_request", None, "declined") == desk.journal.said[-1]


@pytest.mark.parametrize("call", ["ask", "withdraw", "decline", "approve"])
async def test_without_the_store_nothing_is_done(desk, call):
    """And the caller hears of it."""
    asked = await desk.ask("test_tickets")
    desk.store.fail_with = StoreError("away")
    with pytest.raises(StoreError):
        await (desk.ask("write") if call == "ask" else getattr(desk, call)(asked))
    desk.store.fail_with = None
    assert ([asked.id], None) == (await desk.waiting(), await desk.grant())


class Lossy(MemoryStore):
    """A store that does what it is told, and whose answer is then lost, or that does not do it."""

    does = True
    lost = False

    async def _lose(self, call):
        if not self.lost:
            return await call
        self.lost = False
        if self.does:
            await call
        else:
            call.close()
        raise StoreError("the connection was lost")

    async def add_grant_request(self, request, *, room):
        return await self._lose(super().add_grant_request(request, room=room))

    async def answer_grant_request(self, request, answer, *, by, at, epoch=None):
        return await self._lose(super().answer_grant_request(request, answer, by=by, at=at, epoch=epoch))

    async def save_approval(self, change, request, *, by, at):
        return await self._lose(super().save_approval(change, request, by=by, at=at))


@pytest.mark.parametrize("does", [True, False])
@pytest.mark.parametrize("call", ["ask", "withdraw", "decline", "approve"])
async def test_an_answer_of_the_store_that_is_lost_is_asked_for_again(call, does):
    """What was done counts as done; what was not is taken back on the record, and the caller is told."""
    desk = await Desk(Lossy()).open()
    asked = await desk.ask("test_tickets")
    desk.store.lost, desk.store.does = True, does
    act = desk.ask("test_tickets", ticket="T-2") if call == "ask" else getattr(desk, call)(asked)
    if does:
        assert not isinstance(await act, RequestRefusal)
        assert "deny" not in [record.decision for record in desk.journal.records]
        assert (2 if call == "ask" else 0) == len(await desk.waiting())
        return
    with pytest.raises(StoreError):
        await act
    assert ("deny", "store_unavailable") == desk.journal.said[-1][1:]
    assert ([asked.id], None) == (await desk.waiting(), await desk.grant())


async def test_names_of_hostile_people_are_kept_as_they_are(desk):
    """The record makes them safe to store and the page to show; nothing is looked up by them."""
    person = desk.person()
    person = replace(person, staff=replace(person.staff, name="<b>Owner</b>\u202e' OR 1=1"))
    asked = await desk.ask("test_tickets", person=person, reason="<script>1</script>")
    [kept] = await desk.requests.waiting("acme")
    assert (asked, ISSUER) == (kept, kept.actor.issuer)
