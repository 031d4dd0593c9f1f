"""What every store must keep to about what staff ask accounts for; a part of `StoreContract`."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.stores.request_room import Room
from gateway.stores.requesting import KEPT
from gateway.stores.store import StoreConflict
from policy.asking import LATELY, MOST_WAITING, GrantRequest, GrantRequestId, RequestRefusal, RequestState
from policy.model import AccountId, Duration, Permission
from tests.store_examples import ACME, ACTOR, AWKWARD, EARLIEST, LATEST, NOW, OTHER, a_change, a_grant

ASKED = GrantRequest(
    id=GrantRequestId("ask_1"),
    account=ACME.id,
    actor=ACTOR,
    name="Dana",
    permissions=frozenset({Permission.READ, Permission.TEST_TICKETS}),
    duration=Duration.WEEK,
    ticket="SUP-7",
    reason="the export is empty",
    asked_at=NOW,
    expires_at=NOW + MOST_WAITING,
)
ROOM = Room(per_staff_and_account=100, per_account=100, per_staff=100)
SECOND = timedelta(seconds=1)


def another(number: int, **changes: object) -> GrantRequest:
    return replace(ASKED, id=GrantRequestId(f"ask_{number}"), **changes)


class RequestContract:
    """Supply a `store`."""

    async def test_a_request_comes_back_as_it_was_asked(self, store):
        """Whatever is in its texts and however far off its times are; nobody else's is found by its id."""
        odd = another(
            2,
            name=AWKWARD,
            ticket=AWKWARD,
            reason=AWKWARD,
            permissions=frozenset(),
            asked_at=EARLIEST + LATELY + KEPT,
            expires_at=LATEST,
        )
        for asked in (ASKED, odd):
            assert None is await store.add_grant_request(asked, room=ROOM)
        assert [ASKED, odd, None] == [
            await store.find_grant_request(id_) for id_ in (ASKED.id, odd.id, GrantRequestId("ask_3"))
        ]

    async def test_an_id_is_taken_once(self, store):
        """The first stays as it was."""
        await store.add_grant_request(ASKED, room=ROOM)
        with pytest.raises(StoreConflict):
            await store.add_grant_request(replace(ASKED, reason="another"), room=ROOM)
        assert ASKED == await store.find_grant_request(ASKED.id)

    async def test_what_waits_is_listed_oldest_first(self, store):
        """Of one account only, until the microsecond of its end, and not once it is answered."""
        later, elsewhere, answered = another(0, asked_at=NOW + SECOND), another(3, account=OTHER.id), another(4)
        for asked in (later, ASKED, elsewhere, answered):
            await store.add_grant_request(asked, room=ROOM)
        assert await store.answer_grant_request(answered.id, RequestState.DECLINED, by="o", at=NOW)
        last = ASKED.expires_at - timedelta(microseconds=1)
        assert [ASKED, later] == list(await store.list_waiting(ACME.id, at=last))
        assert [] == list(await store.list_waiting(ACME.id, at=ASKED.expires_at))
        assert [] == list(await store.list_waiting(AccountId("none"), at=NOW))

    async def test_all_that_somebody_asked_is_listed_newest_first(self, store):
        """Answered or not, in whatever account, and nobody else's, not even a namesake's of another issuer."""
        namesake = another(2, actor=ACTOR._replace(issuer="https://evil.example"))
        later, early = another(3, account=OTHER.id, asked_at=NOW + SECOND), another(4, asked_at=NOW - SECOND)
        for asked in (ASKED, namesake, later, early):
            await store.add_grant_request(asked, room=ROOM)
        await store.answer_grant_request(ASKED.id, RequestState.WITHDRAWN, by="u1", at=NOW)
        found = await store.list_asked(ACTOR, since=NOW)
        assert [later.id, ASKED.id] == [one.id for one in found]
        assert RequestState.WITHDRAWN is found[1].answer

    async def test_of_many_answers_at_once_one_counts(self, store):
        """Thirty answers of three kinds: one is told that it counts, and it is the one that is there."""
        await store.add_grant_request(ASKED, room=ROOM)
        answers = [RequestState.APPROVED, RequestState.DECLINED, RequestState.WITHDRAWN] * 10
        done = await asyncio.gather(
            *(
                store.answer_grant_request(ASKED.id, answer, by=str(number), at=NOW)
                for number, answer in enumerate(answers)
            )
        )
        [winner] = [number for number, won in enumerate(done) if won]
        kept = replace(ASKED, answer=answers[winner], answered_at=NOW, answered_by=str(winner))
        assert kept == await store.find_grant_request(ASKED.id)
        assert not await store.answer_grant_request(ASKED.id, RequestState.APPROVED, by="late", at=NOW)
        assert kept == await store.find_grant_request(ASKED.id)

    async def test_an_answer_can_be_tied_to_the_accounts_epoch(self, store):
        """Under another one, or for an account that is not there, nothing is answered; under its own it is."""
        await store.add_account(ACME)
        await store.add_grant_request(ASKED, room=ROOM)
        await store.add_grant_request(another(2, account=AccountId("none")), room=ROOM)
        for id_, epoch in ((ASKED.id, ACME.epoch + 1), (another(2).id, 0)):
            assert not await store.answer_grant_request(id_, RequestState.APPROVED, by="o", at=NOW, epoch=epoch)
        assert ASKED == await store.find_grant_request(ASKED.id)
        assert await store.answer_grant_request(ASKED.id, RequestState.APPROVED, by="o", at=NOW, epoch=ACME.epoch)
        assert RequestState.APPROVED is (await store.find_grant_request(ASKED.id)).answer

    async def test_what_has_expired_or_is_not_there_cannot_be_answered(self, store):
        """From the very microsecond of the end on."""
        await store.add_grant_request(ASKED, room=ROOM)
        for id_, at in ((ASKED.id, ASKED.expires_at), (GrantRequestId("ask_9"), NOW)):
            assert not await store.answer_grant_request(id_, RequestState.APPROVED, by="o", at=at)
        assert ASKED == await store.find_grant_request(ASKED.id)

    @pytest.mark.parametrize(
        ("room", "full", "free"),
        [
            (replace(ROOM, per_staff_and_account=2), "too_many_of_staff_in_account", {"account": OTHER.id}),
            (replace(ROOM, per_account=2), "too_many_of_account", {"account": OTHER.id}),
            (replace(ROOM, per_staff=2), "too_many_of_staff", {"actor": ACTOR._replace(subject="u2")}),
        ],
    )
    async def test_each_bound_holds(self, store, room: Room, full: str, free: dict):
        """What was withdrawn counts for a day, what waits as long as it waits; whom it is not about may go on."""
        for number in (1, 2):
            await store.add_grant_request(another(number), room=room)
        await store.answer_grant_request(ASKED.id, RequestState.WITHDRAWN, by="u1", at=NOW)
        third = another(3, asked_at=NOW + LATELY - SECOND)
        assert full == await store.check_room(third, room=room) == await store.add_grant_request(third, room=room)
        assert None is await store.find_grant_request(third.id)
        assert None is await store.add_grant_request(another(4, **free), room=room)
        next_day = another(5, asked_at=NOW + LATELY)
        assert None is await store.check_room(next_day, room=room)
        assert None is await store.add_grant_request(next_day, room=room)
        assert full == await store.check_room(another(6, asked_at=ASKED.expires_at - SECOND), room=room)
        assert None is await store.check_room(another(6, asked_at=NOW + LATELY * 2 + MOST_WAITING), room=room)

    async def test_of_many_who_ask_at_once_no_more_are_added_than_may_be(self, store):
        """Twenty of as many people for one account, of which five fit: five are there."""
        room = replace(ROOM, per_account=5)
        asked = [another(number, actor=ACTOR._replace(subject=f"u{number}")) for number in range(20)]
        refused = await asyncio.gather(*(store.add_grant_request(one, room=room) for one in asked))
        assert 15 == refused.count(RequestRefusal.TOO_MANY_OF_ACCOUNT)
        assert 5 == refused.count(None) == len(await store.list_waiting(ACME.id, at=NOW))

    async def test_what_ended_long_ago_is_forgotten(self, store):
        """Not before, and nothing else: it is shown to who asked until then."""
        later = another(2, expires_at=ASKED.expires_at + SECOND)
        for asked in (ASKED, later):
            await store.add_grant_request(asked, room=ROOM)
        end = ASKED.expires_at + KEPT
        await store.tidy_grant_requests(at=end - timedelta(microseconds=1))
        assert ASKED == await store.find_grant_request(ASKED.id)
        await store.tidy_grant_requests(at=end)
        assert [None, later] == [await store.find_grant_request(one.id) for one in (ASKED, later)]

    async def test_an_approval_and_its_change_are_one_step(self, store):
        """The account, its grant, its history and the answer are there together."""
        await store.add_account(ACME)
        await store.add_grant_request(ASKED, room=ROOM)
        change = a_change(ACME, grant=a_grant(ACME))
        await store.save_approval(change, ASKED.id, by="owner", at=NOW)
        approved = replace(ASKED, answer=RequestState.APPROVED, answered_at=NOW, answered_by="owner")
        assert approved == await store.find_grant_request(ASKED.id)
        assert change.grant == (await store.find_account(ACME.id)).grant
        assert ["owner"] == [event.by for event in await store.list_changes(ACME.id)]

    @pytest.mark.parametrize("why", ["answered", "expired", "unknown", "of another account", "of another epoch"])
    async def test_an_approval_that_is_not_good_changes_nothing(self, store, why: str):
        """Neither the account nor the request."""
        await store.add_account(ACME)
        await store.add_account(OTHER)
        await store.add_grant_request(ASKED, room=ROOM)
        if why == "answered":
            await store.answer_grant_request(ASKED.id, RequestState.DECLINED, by="o", at=NOW)
        account = OTHER if why == "of another account" else ACME
        account = replace(account, epoch=4) if why == "of another epoch" else account
        before = await store.find_grant_request(ASKED.id), await store.read_changes(0)
        with pytest.raises(StoreConflict):
            await store.save_approval(
                a_change(account, grant=a_grant(account)),
                GrantRequestId("ask_9") if why == "unknown" else ASKED.id,
                by="owner",
                at=ASKED.expires_at if why == "expired" else NOW,
            )
        assert before == (await store.find_grant_request(ASKED.id), await store.read_changes(0))
        assert None is (await store.find_account(account.id)).grant
        assert [] == list(await store.list_changes(account.id))

    async def test_of_many_approvals_and_refusals_at_once_one_counts(self, store):
        """If it is an approval, the grant is its own; if it is not, there is none."""
        await store.add_account(ACME)
        await store.add_grant_request(ASKED, room=ROOM)
        changes = [a_change(ACME, grant=a_grant(ACME, id=f"g{number}")) for number in range(8)]
        approvals = [store.save_approval(change, ASKED.id, by=change.grant.id, at=NOW) for change in changes]
        refusals = [
            store.answer_grant_request(ASKED.id, RequestState.DECLINED, by=f"n{number}", at=NOW) for number in range(8)
        ]
        mixed = [call for pair in zip(refusals, approvals, strict=True) for call in pair]
        outcomes = await asyncio.gather(*mixed, return_exceptions=True)
        assert 1 == sum(outcome in (None, True) for outcome in outcomes)
        answered, record = await store.find_grant_request(ASKED.id), await store.find_account(ACME.id)
        given = record.grant.id if record.grant else None
        assert given == (answered.answered_by if answered.answer is RequestState.APPROVED else None)

    async def test_each_change_of_a_request_names_its_account(self, store):
        """Asking, answering and approving raise the position; what is refused does not."""
        await store.add_account(ACME)
        for asked in (ASKED, another(2)):
            await store.add_grant_request(asked, room=ROOM)
        await store.answer_grant_request(ASKED.id, RequestState.DECLINED, by="o", at=NOW)
        position = (await store.read_changes(0)).position
        assert 4 == position
        await store.answer_grant_request(ASKED.id, RequestState.DECLINED, by="o", at=NOW)
        await store.add_grant_request(another(3), room=replace(ROOM, per_account=1))
        assert position == (await store.read_changes(0)).position
        await store.save_approval(a_change(ACME, grant=a_grant(ACME)), GrantRequestId("ask_2"), by="o", at=NOW)
        found = await store.read_changes(0)
        assert position < found.position
        assert {ACME.id} == {change.account for change in found.changes}
