"""What every store must keep to about notices; a part of `StoreContract`."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.stores.outbox import Claim, Contacts, Former, Notice, Room, Target, Waiting
from gateway.stores.store import StoreConflict
from policy.model import Account, AccountId, AccountType
from tests.store_examples import ACME, AWKWARD, EARLIEST, LATEST, NOW, OTHER, a_change, a_grant

MAIL = Target("mail", "ann@acme.example")
HOOK = Target("webhook", "https://acme.example/hook")
CONTACTS = Contacts(account=ACME.id, mail=(MAIL.address,), webhooks=(HOOK.address,), by="pat", at=NOW)
LATER = NOW + timedelta(minutes=1)


def a_notice(name="n1", target=MAIL, *, at=NOW, **more) -> Notice:
    fields = {"about": "ab" * 32, "event": "begun", "account": "acme", "facts": '{"ticket":"SUP-1"}', **more}
    return Notice(id=name, target=target, happened_at=at, **fields)


def a_claim() -> Claim:
    return Claim(target=MAIL, holder="one", failures=0, notices=[])


async def claim(store, holder="one", *, now=NOW, until=LATER, most=50, **more):
    return await store.claim_notices(holder, now=now, until=until, most=most, **more)


async def finish(store, claimed, *, noted=None, not_before=NOW, failures=0, **more):
    names = [each.id for each in claimed.notices] if noted is None else noted
    await store.finish_claim(claimed, noted=names, not_before=not_before, failures=failures, **more)


class OutboxContract:
    """Supply a `store`."""

    async def test_contacts_come_back_as_they_were_put(self, store):
        """By account, whatever is in their texts; and of whom nobody named any there are none."""
        odd = Contacts(account=AccountId("a"), mail=(AWKWARD, "b"), webhooks=(), by=AWKWARD, at=EARLIEST)
        last = Contacts(account=AccountId("zz"), mail=(), webhooks=(AWKWARD,), by="", at=LATEST)
        for contacts in (last, CONTACTS, odd):
            await store.save_contacts(contacts, tell=[], now=NOW)
        assert [odd, CONTACTS, last] == list(await store.list_contacts())
        assert CONTACTS == await store.find_contacts(ACME.id)
        assert None is await store.find_contacts(AccountId("other"))

    async def test_contacts_come_by_pages_with_what_is_known_of_their_accounts(self, store):
        """By account, each once; of an account that is not known, or never had a grant, that is said."""
        trial = Account(id=AccountId("b"), type=AccountType.TRIAL)
        change = a_change(ACME, grant=a_grant(ACME, revoked_at=NOW))
        for account in (ACME, trial, OTHER):
            await store.add_account(account)
        await store.save_change(change, by="pat", at=NOW)
        for name in ("zz", "b", ACME.id):
            await store.save_contacts(replace(CONTACTS, account=AccountId(name)), tell=[], now=NOW)
        first, second = await store.page_contacts("", most=2)
        assert (CONTACTS, change.account, change.grant) == tuple(first)
        assert ("b", trial, None) == (second.contacts.account, second.account, second.grant)
        [last] = await store.page_contacts("b", most=2)
        assert ("zz", None, None) == (last.contacts.account, last.account, last.grant)
        assert [] == list(await store.page_contacts("zz", most=2))

    async def test_who_was_told_before_is_known_for_a_while(self, store):
        """And forgotten with the rest, for it is personal; whoever is told stays."""
        former = (Former(Target("mail", AWKWARD), EARLIEST), Former(HOOK, NOW))
        await store.save_contacts(replace(CONTACTS, former=former), tell=[], now=NOW)
        assert replace(CONTACTS, former=former) == await store.find_contacts(ACME.id)
        await store.tidy_notices(before=NOW, contacts_before=NOW, now=NOW)
        assert former == (await store.find_contacts(ACME.id)).former
        await store.tidy_notices(before=NOW, contacts_before=LATER, now=NOW)
        assert CONTACTS == await store.find_contacts(ACME.id)

    @pytest.mark.parametrize("version", [1, 3])
    async def test_contacts_that_were_decided_on_others_are_not_put(self, store, version):
        """And nobody is told of what did not happen."""
        await store.save_contacts(CONTACTS, tell=[], now=NOW)
        with pytest.raises(StoreConflict):
            await store.save_contacts(replace(CONTACTS, version=version, mail=()), tell=[a_notice()], now=NOW)
        assert CONTACTS == await store.find_contacts(ACME.id)
        assert Waiting() == await store.count_waiting()

    async def test_nobody_changes_what_is_not_there(self, store):
        """The first contacts have the version 1."""
        with pytest.raises(StoreConflict):
            await store.save_contacts(replace(CONTACTS, version=2), tell=[], now=NOW)
        assert [] == list(await store.list_contacts())

    async def test_a_change_of_contacts_is_told_with_it(self, store):
        """In the same step, so that whoever is taken off hears of it."""
        await store.save_contacts(CONTACTS, tell=[], now=NOW)
        await store.save_contacts(replace(CONTACTS, version=2, mail=()), tell=[a_notice()], now=NOW)
        assert [a_notice()] == list((await claim(store)).notices)

    async def test_an_event_that_is_read_twice_is_told_once(self, store):
        """Whether it still waits, was sent, or is on the record."""
        assert 1 == await store.add_notices([a_notice()], now=NOW)
        assert 1 == await store.add_notices([a_notice(), a_notice("n2")], now=NOW)
        claimed = await claim(store)
        await store.settle_notices(["n1", "n2"], outcome="sent")
        assert 0 == await store.add_notices([a_notice(), a_notice("n2")], now=NOW)
        await finish(store, claimed)
        assert 0 == await store.add_notices([a_notice(), a_notice("n2")], now=NOW)
        assert Waiting() == await store.count_waiting()

    async def test_a_notice_comes_back_as_it_went_in(self, store):
        """Whatever is in it, the oldest first, and no more than were asked for."""
        target = Target("mail", AWKWARD)
        odd = a_notice(AWKWARD, target, at=EARLIEST, event=AWKWARD, account=AWKWARD, facts=AWKWARD, outcome="no")
        await store.add_notices([a_notice("n3", target), a_notice("n2", target), odd], now=NOW)
        assert Waiting(count=3, oldest=EARLIEST) == await store.count_waiting()
        claimed = await claim(store, most=2)
        assert (target, 0, [odd, a_notice("n2", target)]) == (claimed.target, claimed.failures, list(claimed.notices))

    async def test_what_somebody_has_is_nobody_elses(self, store):
        """Until they let go, or their time is over; another target's is."""
        await store.add_notices([a_notice(), a_notice("n2", HOOK)], now=NOW)
        assert {MAIL, HOOK} == {(await claim(store)).target, (await claim(store, "two")).target}
        assert (None, False) == (await claim(store, "three"), await store.is_due(now=NOW))
        assert True is await store.is_due(now=LATER)
        assert None is not await claim(store, "three", now=LATER, until=LATER + timedelta(minutes=1))

    async def test_of_many_at_once_one_gets_it(self, store):
        """However many ask at the same time."""
        await store.add_notices([a_notice()], now=NOW)
        claims = await asyncio.gather(*(claim(store, str(index)) for index in range(8)))
        assert 1 == len([each for each in claims if each is not None])

    async def test_what_has_failed_waits_its_time(self, store):
        """With what came meanwhile, and the next one knows how often it failed."""
        await store.add_notices([a_notice()], now=NOW)
        await finish(store, await claim(store), noted=[], not_before=LATER, failures=3)
        await store.add_notices([a_notice("n2")], now=NOW)
        assert (False, None) == (await store.is_due(now=NOW), await claim(store))
        again = await claim(store, now=LATER)
        assert (3, ["n1", "n2"]) == (again.failures, [each.id for each in again.notices])

    async def test_who_comes_too_late_lets_go_of_nothing(self, store):
        """A target that is another's by now stays theirs; what was noted is."""
        await store.add_notices([a_notice()], now=NOW)
        first = await claim(store, until=NOW)
        await claim(store, "two")
        await finish(store, first, noted=[], not_before=NOW)
        assert None is await claim(store, "three")

    async def test_a_clock_that_was_ahead_puts_nothing_off_for_long(self, store):
        """What is held or put off for longer than anybody does is due; an hour's pause and a hold of minutes count."""
        await store.add_notices([a_notice()], now=NOW)
        ahead = NOW + timedelta(days=365)
        assert None is not await claim(store, now=ahead, until=ahead + timedelta(minutes=3))
        again = await claim(store, "two", until=NOW + timedelta(minutes=3))
        assert None is not again
        assert (None, False) == (await claim(store, "three"), await store.is_due(now=NOW))
        await finish(store, again, noted=[], not_before=NOW + timedelta(hours=1))
        assert False is await store.is_due(now=NOW)
        late = await claim(store, now=NOW + timedelta(hours=1))
        await finish(store, late, noted=[], not_before=ahead)
        assert True is await store.is_due(now=NOW)

    async def test_what_is_urgent_comes_first(self, store):
        """Whatever happened before it."""
        await store.add_notices([a_notice(f"n{index}") for index in range(9)], now=NOW)
        urgent = ["contacts", "evidence", "kill_switch", "mended"]
        await store.add_notices([a_notice(event, event=event, at=LATER) for event in urgent], now=NOW)
        assert [*urgent, "n0"] == [each.id for each in (await claim(store, most=5)).notices]

    async def test_what_there_is_no_room_for_is_not_claimed(self, store):
        """Neither of a channel, nor of an account, but where the address is spared; nor is it said to be due."""
        await store.add_notices([a_notice(), a_notice("n2", HOOK, account="beta")], now=NOW)
        for room, found in (
            (Room(full=["mail", "webhook"]), None),
            (Room(busy=["acme", "beta"]), None),
            (Room(full=["mail"]), HOOK),
            (Room(busy=["beta"]), MAIL),
            (Room(busy=["acme", "beta"], spared=[HOOK.address]), HOOK),
        ):
            assert (found is not None) == await store.is_due(now=NOW, room=room)
            claimed = await claim(store, room=room)
            assert found == (claimed and claimed.target)
            if claimed is not None:
                await finish(store, claimed, noted=[])

    async def test_the_first_outcome_stays(self, store):
        """It is not to be sent again, and waits for its record only."""
        await store.add_notices([a_notice()], now=NOW)
        first = await claim(store, until=NOW)
        await store.settle_notices(["n1"], outcome="sent")
        await store.settle_notices(["n1"], outcome="failed_too_old")
        again = await claim(store, "two")
        assert ["sent"] == [each.outcome for each in again.notices]
        await finish(store, first)
        assert Waiting() == await store.count_waiting()

    async def test_nothing_of_it_is_kept_once_it_is_noted_and_old(self, store):
        """Neither notice nor target, of which nothing is kept once its pause is over; what waits is kept, however old."""
        await store.add_notices([a_notice(), a_notice("n2", HOOK)], now=NOW)
        for _ in range(2):
            claimed = await claim(store)
            done = claimed.target == MAIL
            await finish(store, claimed, noted=["n1"] if done else [], failures=2)
        await store.tidy_notices(before=NOW, contacts_before=NOW, now=NOW)
        assert 0 == await store.add_notices([a_notice()], now=NOW)
        await store.tidy_notices(before=LATER, contacts_before=LATER, now=LATER)
        assert 1 == await store.add_notices([a_notice()], now=NOW)
        found = {each.target: each.failures for each in (await claim(store), await claim(store, "two"))}
        assert {MAIL: 0, HOOK: 2} == found

    async def test_what_is_refused_by_itself_holds_up_nothing_behind_it(self, store):
        """It waits for its own time, the others of its target do not, and then it comes behind them, however old."""
        late = NOW + timedelta(minutes=5)
        await store.add_notices([a_notice(), a_notice("n2", at=LATER)], now=NOW)
        claimed = await claim(store, most=1)
        assert ["n1"] == [each.id for each in claimed.notices]
        await finish(store, claimed, noted=[], put_off={"n1": late}, error="it answers 400")
        claimed = await claim(store)
        assert ["n2"] == [each.id for each in claimed.notices]
        await finish(store, claimed)
        assert (False, None) == (await store.is_due(now=LATER), await claim(store, now=LATER))
        await store.add_notices([a_notice("n3", at=LATER, event="begun")], now=NOW)
        claimed = await claim(store, now=late, until=late + timedelta(minutes=1))
        assert [("n3", 0), ("n1", 1)] == [(each.id, each.tries) for each in claimed.notices]
        ahead = NOW + timedelta(days=365)
        await finish(store, claimed, noted=["n3"], not_before=late, put_off={"n1": ahead})
        assert True is await store.is_due(now=late), "a clock was ahead"

    async def test_what_waits_is_listed_with_what_went_wrong(self, store):
        """The oldest first, of one account or of all, from when on it is due; what has its record does not wait."""
        notices = [a_notice("n2", HOOK, account="beta"), a_notice("n1", at=LATER), a_notice("n3", at=LATER)]
        await store.add_notices(notices, now=NOW)
        claimed = await claim(store)
        late = LATER + timedelta(minutes=1)
        await finish(
            store, claimed, noted=["n3"], not_before=LATER, failures=2, put_off={"n1": late}, error="it answers 400"
        )
        waiting = [(notices[0], 0, NOW, ""), (replace(notices[1], tries=1), 2, late, "it answers 400")]
        for account, most, found in (("", 9, waiting), ("", 1, waiting[:1]), ("acme", 9, waiting[1:]), ("x", 9, [])):
            listed = await store.list_pending(account=account, most=most)
            assert found == [(each.notice, each.failures, each.not_before, each.error) for each in listed]

    async def test_what_was_given_up_is_listed_while_it_is_kept(self, store):
        """The newest first, without what it said and where it went; what was sent is not."""
        notices = [a_notice(f"n{index}", at=NOW + timedelta(seconds=index)) for index in range(4)]
        await store.add_notices(notices, now=NOW)
        claimed = await claim(store)
        for name, outcome in (("n0", "failed_refused"), ("n1", "sent"), ("n2", "failed_too_old"), ("n3", "failed")):
            await store.settle_notices([name], outcome=outcome)
        await finish(store, claimed, noted=["n0", "n1", "n2"])
        listed = await store.list_given_up(most=9)
        assert [("n2", "failed_too_old"), ("n0", "failed_refused")] == [(each.id, each.outcome) for each in listed]
        assert {("", Target("mail", ""))} == {(each.facts, each.target) for each in listed}
        assert ["n2"] == [each.id for each in await store.list_given_up(account="acme", most=1)]
        assert [] == list(await store.list_given_up(account="beta", most=9))
        await store.tidy_notices(before=LATER, contacts_before=LATER, now=LATER)
        assert [] == list(await store.list_given_up(most=9))

    async def test_what_waits_is_due_once_somebody_says_so(self, store):
        """One of them, with its target, or all; what is nobody's, or on the record already, is not there."""
        far = NOW + timedelta(minutes=30)
        await store.add_notices([a_notice(), a_notice("n2"), a_notice("n3", HOOK), a_notice("n4", HOOK)], now=NOW)
        for _ in range(2):
            claimed = await claim(store)
            names = [each.id for each in claimed.notices]
            noted = ["n4"] if "n4" in names else []
            put_off = {name: far for name in names if name not in noted}
            await finish(store, claimed, noted=noted, not_before=far, failures=5, put_off=put_off)
        assert (0, False) == (await store.retry_notices(["n4", "nobody's"], now=NOW), await store.is_due(now=NOW))
        assert 1 == await store.retry_notices(["n2"], now=NOW)
        claimed = await claim(store)
        assert (5, ["n2"]) == (claimed.failures, [each.id for each in claimed.notices])
        assert None is await claim(store)
        assert 3 == await store.retry_notices(None, now=NOW)
        claimed = await claim(store)
        assert (HOOK, ["n3"]) == (claimed.target, [each.id for each in claimed.notices])
        assert (0, []) == (await store.retry_notices([], now=NOW), list(await store.list_pending(account="x", most=1)))

    @pytest.mark.parametrize("named", [["n1"], ["n2"], None])
    async def test_what_is_retried_during_an_attempt_is_not_put_off_by_it(self, store, named):
        """Neither by a pause of its target nor by itself, whichever of them failed; once more, and then they wait."""
        far = NOW + timedelta(minutes=30)
        await store.add_notices([a_notice(), a_notice("n2", at=LATER)], now=NOW)
        for attempt, due in ((1, True), (2, False)):
            claimed = await claim(store)
            assert ["n1", "n2"] == sorted(each.id for each in claimed.notices)
            if attempt == 1:
                assert len(named or "12") == await store.retry_notices(named, now=NOW)
                assert (None, False) == (await claim(store, "two"), await store.is_due(now=NOW)), "it is in hand"
            await finish(store, claimed, noted=[], not_before=far, failures=attempt, put_off={"n1": far}, error="no")
            waiting = await store.list_pending(most=9)
            assert [(attempt, "no")] * 2 == [(each.failures, each.error) for each in waiting]
            assert [attempt, 0] == [each.notice.tries for each in waiting]
            assert due == await store.is_due(now=NOW)

    async def test_what_is_retried_and_sent_meanwhile_is_over(self, store):
        """It is not sent again, and nothing is due for its sake alone; what comes next is not held up."""
        await store.add_notices([a_notice()], now=NOW)
        claimed = await claim(store)
        await store.settle_notices(["n1"], outcome="sent")
        assert 1 == await store.retry_notices(["n1"], now=NOW)
        await finish(store, claimed, not_before=LATER)
        assert (0, False) == (await store.retry_notices(["n1"], now=NOW), await store.is_due(now=NOW))
        await store.add_notices([a_notice("n2")], now=NOW)
        assert ["n2"] == [each.id for each in (await claim(store)).notices]

    async def test_a_retry_counts_for_whoever_has_the_target_by_then(self, store):
        """Who comes too late puts nothing off that was retried in the hands of the next one."""
        far = NOW + timedelta(minutes=30)
        await store.add_notices([a_notice()], now=NOW)
        late = await claim(store, until=NOW)
        second = await claim(store, "two")
        assert 1 == await store.retry_notices(["n1"], now=NOW)
        await finish(store, late, noted=[], not_before=far, put_off={"n1": far})
        assert None is await claim(store, "three")
        await finish(store, second, noted=[], not_before=far)
        assert ["n1"] == [each.id for each in (await claim(store, "three")).notices]

    async def test_a_retry_beside_the_end_of_an_attempt_is_kept(self, store):
        """Whichever of the two is first: neither waits for the other for ever, and nothing is put off."""
        far = NOW + timedelta(minutes=30)
        names = [f"n{index}" for index in range(9)]
        await store.add_notices([a_notice(name) for name in names], now=NOW)
        for attempt in range(8):
            claimed = await claim(store)
            ending = finish(store, claimed, noted=[], not_before=far, put_off=dict.fromkeys(names, far))
            both = [ending, store.retry_notices(None, now=NOW)]
            await asyncio.gather(*(both if attempt % 2 else reversed(both)))
            assert {NOW} == {max(NOW, each.not_before) for each in await store.list_pending(most=9)}
