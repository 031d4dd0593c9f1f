"""What every store must keep to about staff's browser sessions and values that count once; part of `StoreContract`."""

import asyncio
import secrets
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from gateway.stores.store import StaffSession, Store, StoreConflict
from policy.model import ActorId
from tests.store_examples import ACTOR, AWKWARD, NOW, STAFF

MOMENT = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DIGEST = bytes(range(32))
SESSION = StaffSession(
    digest=DIGEST,
    actor=ACTOR,
    claims=AWKWARD,
    signed_in_at=NOW - HOUR,
    seen_at=NOW,
    ends_at=NOW + HOUR,
)
ERIN = ActorId(issuer=ACTOR.issuer, subject="erin")


def another(**changes) -> StaffSession:
    return replace(SESSION, **{"digest": secrets.token_bytes(32)} | changes)


class SessionContract:
    async def test_a_session_comes_back_as_it_went_in(self, store: Store):
        """It and whoever began it, in one step; another digest finds nothing."""
        assert None is await store.find_session(DIGEST)
        await store.begin_session(SESSION, STAFF, at=NOW)
        assert (SESSION, STAFF) == (await store.find_session(DIGEST), await store.find_staff(ACTOR))
        assert None is await store.find_session(DIGEST[:-1])
        assert None is await store.find_session(b"")

    async def test_a_session_ends_once(self, store: Store):
        """Whoever ends it is told whose it was; nobody finds it thereafter, and using it does not bring it back."""
        other = another()
        for session in (SESSION, other):
            await store.begin_session(session, STAFF, at=NOW)
        assert SESSION == await store.end_session(DIGEST)
        assert None is await store.end_session(DIGEST)
        await store.touch_session(DIGEST, at=NOW)
        assert None is await store.find_session(DIGEST)
        assert other == await store.find_session(other.digest)

    async def test_a_digest_is_taken_once(self, store: Store):
        """The first session stays, and nothing of the second is stored."""
        await store.begin_session(SESSION, STAFF, at=NOW)
        erin = replace(STAFF, id=ERIN)
        with pytest.raises(StoreConflict):
            await store.begin_session(replace(SESSION, actor=ERIN), erin, at=NOW)
        assert (SESSION, None) == (await store.find_session(DIGEST), await store.find_staff(ERIN))

    async def test_when_a_session_was_used_only_moves_forwards(self, store: Store):
        """Two nodes may tell of it in any order."""
        await store.begin_session(SESSION, STAFF, at=NOW)
        await store.touch_session(DIGEST, at=NOW + 2 * MOMENT)
        await store.touch_session(DIGEST, at=NOW + MOMENT)
        assert replace(SESSION, seen_at=NOW + 2 * MOMENT) == await store.find_session(DIGEST)

    async def test_sessions_that_are_over_are_forgotten(self, store: Store):
        """When another begins, so that the store does not grow with each sign-in there ever was."""
        over, going = another(ends_at=NOW), another(ends_at=NOW + MOMENT)
        for session in (over, going):
            await store.begin_session(session, STAFF, at=NOW - HOUR)
        await store.begin_session(SESSION, STAFF, at=NOW)
        assert (None, going) == (await store.find_session(over.digest), await store.find_session(going.digest))

    async def test_a_sign_out_ends_the_sessions_of_that_sign_in(self, store: Store):
        """In the same step: those that began up to then, of that person, and no others."""
        older, then = another(signed_in_at=NOW - MOMENT), another(signed_in_at=NOW)
        newer, erins = another(signed_in_at=NOW + MOMENT), another(actor=ERIN)
        for session in (older, then, newer):
            await store.begin_session(session, STAFF, at=NOW)
        await store.begin_session(erins, replace(STAFF, id=ERIN), at=NOW)
        await store.sign_out(ACTOR, since=NOW, at=NOW)
        found = [await store.find_session(session.digest) for session in (older, then, newer, erins)]
        assert [None, None, newer, erins] == found

    async def test_a_lock_ends_every_session_and_lifting_it_brings_none_back(self, store: Store):
        """Of that person."""
        erins = another(actor=ERIN)
        await store.begin_session(SESSION, STAFF, at=NOW)
        await store.begin_session(erins, replace(STAFF, id=ERIN), at=NOW)
        await store.disable_staff(ACTOR, disabled=True)
        assert (None, erins) == (await store.find_session(DIGEST), await store.find_session(erins.digest))
        await store.disable_staff(ACTOR, disabled=False)
        assert None is await store.find_session(DIGEST)

    async def test_a_lock_by_whatever_call_ends_the_sessions(self, store: Store):
        """`save_staff` can lock as well."""
        await store.begin_session(SESSION, STAFF, at=NOW)
        await store.save_staff(replace(STAFF, disabled=True), at=NOW)
        assert None is await store.find_session(DIGEST)

    async def test_nobody_who_is_locked_out_begins_a_session(self, store: Store):
        """Nothing of the attempt is stored."""
        await store.save_staff(replace(STAFF, disabled=True), at=NOW)
        with pytest.raises(StoreConflict):
            await store.begin_session(SESSION, replace(STAFF, name="other"), at=NOW)
        assert (None, replace(STAFF, disabled=True)) == (
            await store.find_session(DIGEST),
            await store.find_staff(ACTOR),
        )

    async def test_no_sign_in_from_before_a_sign_out_begins_a_session(self, store: Store):
        """A later one does, and being signed out once does not count against it."""
        await store.sign_out(ACTOR, since=NOW, at=NOW)
        with pytest.raises(StoreConflict):
            await store.begin_session(another(signed_in_at=NOW), STAFF, at=NOW)
        later = another(signed_in_at=NOW + MOMENT)
        await store.begin_session(later, STAFF, at=NOW)
        assert later == await store.find_session(later.digest)
        assert replace(STAFF, signed_out_at=NOW) == await store.find_staff(ACTOR)

    async def test_a_sign_out_and_a_session_that_begins_at_once_never_both_stand(self, store: Store):
        """In whichever order they come: the session conflicts, or the sign-out ends it."""
        people = [ActorId(issuer=ACTOR.issuer, subject=f"p{n}") for n in range(40)]
        begun = [another(actor=person) for person in people]

        async def begin(n: int) -> None:
            await store.begin_session(begun[n], replace(STAFF, id=people[n]), at=NOW)

        calls = [call for n in range(40) for call in (begin(n), store.sign_out(people[n], since=NOW, at=NOW))]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(None), list, StoreConflict} >= {type(outcome) for outcome in outcomes}
        assert [None] * 40 == [await store.find_session(session.digest) for session in begun]

    async def test_sessions_and_one_time_values_are_no_change(self, store: Store):
        """No decision is cached about them, so nobody has to hear of them."""
        await store.save_staff(STAFF, at=NOW)
        before = await store.read_changes(0)
        await store.begin_session(SESSION, STAFF, at=NOW)
        await store.touch_session(DIGEST, at=NOW)
        await store.end_session(DIGEST)
        await store.add_one_time(DIGEST, "x", expires_at=NOW, now=NOW)
        await store.redeem(DIGEST, now=NOW)
        assert before == await store.read_changes(0)

    async def test_a_one_time_value_is_redeemed_once(self, store: Store):
        """With the payload that was kept for it, to the letter."""
        assert None is await store.redeem(DIGEST, now=NOW)
        await store.add_one_time(DIGEST, AWKWARD, expires_at=NOW + MOMENT, now=NOW)
        assert None is await store.redeem(DIGEST[:-1], now=NOW)
        assert AWKWARD == await store.redeem(DIGEST, now=NOW)
        assert None is await store.redeem(DIGEST, now=NOW)

    async def test_a_one_time_value_expires(self, store: Store):
        """At its end, not after it; then its digest is free."""
        await store.add_one_time(DIGEST, "first", expires_at=NOW, now=NOW - HOUR)
        assert None is await store.redeem(DIGEST, now=NOW)
        await store.add_one_time(DIGEST, "second", expires_at=NOW + MOMENT, now=NOW)
        assert "second" == await store.redeem(DIGEST, now=NOW)

    async def test_a_one_time_value_is_not_overwritten(self, store: Store):
        """Whoever comes second is told."""
        await store.add_one_time(DIGEST, "first", expires_at=NOW + HOUR, now=NOW)
        with pytest.raises(StoreConflict):
            await store.add_one_time(DIGEST, "second", expires_at=NOW + HOUR, now=NOW)
        assert "first" == await store.redeem(DIGEST, now=NOW)

    async def test_200_redemptions_at_once_give_one_success(self, store: Store):
        """Whoever is second gets nothing."""
        await store.add_one_time(DIGEST, "x", expires_at=NOW + HOUR, now=NOW)
        given = await asyncio.gather(*(store.redeem(DIGEST, now=NOW) for _ in range(200)))
        assert ["x"] == [payload for payload in given if payload is not None]

    async def test_of_200_who_add_the_same_value_one_succeeds(self, store: Store):
        """So it marks what was used."""
        calls = [store.add_one_time(DIGEST, str(n), expires_at=NOW + HOUR, now=NOW) for n in range(200)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert 1 == outcomes.count(None)
        assert {type(None), StoreConflict} == {type(outcome) for outcome in outcomes}

    async def test_a_one_time_value_can_be_looked_at_and_changed(self, store: Store):
        """Until it is redeemed or has expired, on the payload that was read only; its end stays as it was."""
        assert None is await store.find_one_time(DIGEST, now=NOW)
        assert False is await store.swap_one_time(DIGEST, "x", known="", now=NOW)
        await store.add_one_time(DIGEST, "first", expires_at=NOW + MOMENT, now=NOW)
        assert True is await store.swap_one_time(DIGEST, AWKWARD, known="first", now=NOW)
        assert False is await store.swap_one_time(DIGEST, "other", known="first", now=NOW)
        assert (AWKWARD, AWKWARD) == tuple([await store.find_one_time(DIGEST, now=NOW) for _ in range(2)])
        assert None is await store.find_one_time(DIGEST, now=NOW + MOMENT)
        assert False is await store.swap_one_time(DIGEST, "late", known=AWKWARD, now=NOW + MOMENT)
        assert AWKWARD == await store.redeem(DIGEST, now=NOW)
        assert (None, False) == (
            await store.find_one_time(DIGEST, now=NOW),
            await store.swap_one_time(DIGEST, "x", known=AWKWARD, now=NOW),
        )

    async def test_a_changed_one_time_value_may_be_kept_longer(self, store: Store):
        """So that it is never gone in between."""
        await store.add_one_time(DIGEST, "first", expires_at=NOW + MOMENT, now=NOW)
        assert await store.swap_one_time(DIGEST, "second", known="first", now=NOW, expires_at=NOW + 2 * MOMENT)
        assert "second" == await store.find_one_time(DIGEST, now=NOW + MOMENT)
        assert None is await store.find_one_time(DIGEST, now=NOW + 2 * MOMENT)

    async def test_of_many_who_change_a_one_time_value_at_once_one_does(self, store: Store):
        """On the payload that all of them have read."""
        await store.add_one_time(DIGEST, "read", expires_at=NOW + HOUR, now=NOW)
        calls = [store.swap_one_time(DIGEST, str(n), known="read", now=NOW) for n in range(100)]
        assert 1 == sum(await asyncio.gather(*calls))

    async def test_what_is_counted_is_counted_in_its_time(self, store: Store):
        """So many and no more, until the time that the first has named; then it begins anew. Nothing is below none."""

        async def count(digest: bytes, at: datetime) -> bool:
            return await store.count(digest, most=2, expires_at=at + HOUR, now=at)

        other = bytes(32)
        await store.discount(DIGEST, now=NOW)
        assert [True, True, False, True] == [await count(d, NOW) for d in (DIGEST, DIGEST, DIGEST, other)]
        await store.discount(DIGEST, now=NOW)
        later = NOW + HOUR - MOMENT
        assert [True, False] == [await count(DIGEST, later) for _ in range(2)]
        for _ in range(5):
            await store.discount(DIGEST, now=NOW)
        assert [True, True, False] == [await count(DIGEST, later) for _ in range(3)]
        await store.discount(DIGEST, now=NOW + HOUR)
        assert [True, True, False] == [await count(DIGEST, NOW + HOUR) for _ in range(3)]
        assert False is await count(DIGEST, NOW + 2 * HOUR - MOMENT)

    async def test_of_many_who_count_at_once_as_many_succeed_as_may(self, store: Store):
        """Not one fewer, however they come in each other's way."""
        calls = [store.count(DIGEST, most=60, expires_at=NOW + HOUR, now=NOW) for _ in range(100)]
        assert 60 == sum(await asyncio.gather(*calls))
