"""What every store must keep to about sign-outs; a part of `StoreContract`."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.stores.store import Store, StoreConflict
from policy.model import AccountId, ActorId, AssumptionId
from tests.store_examples import ACTOR, ASSUMPTION, NOW, STAFF, begin

LATER = NOW + timedelta(seconds=1)
ERIN = ActorId(issuer=ACTOR.issuer, subject="erin")


class SignOutContract:
    async def test_a_sign_out_ends_all_that_one_person_has_begun(self, store: Store):
        """In every account, and nothing of anybody else; what had ended before stays as it was."""
        mine = [replace(ASSUMPTION, id=AssumptionId(f"s{n}"), account=AccountId(f"a{n}")) for n in range(3)]
        others = [
            replace(ASSUMPTION, id=AssumptionId("e1"), actor=ERIN),
            replace(ASSUMPTION, id=AssumptionId("e2"), actor=ActorId(issuer="https://other.example", subject="u1")),
        ]
        for assumption in (*mine, *others):
            await begin(store, assumption)
        await store.end_assumption(mine[0].id, at=NOW)
        ended = await store.sign_out(ACTOR, since=NOW, at=LATER)
        assert [replace(one, ended_at=LATER) for one in mine[1:]] == sorted(ended, key=lambda one: one.id)
        assert replace(mine[0], ended_at=NOW) == await store.find_assumption(mine[0].id)
        assert list(ended) == [await store.find_assumption(one.id) for one in ended]
        assert others == sorted(await store.list_assumptions(at=LATER), key=lambda one: one.id)

    async def test_a_sign_out_that_is_told_late_ends_nothing_of_a_newer_sign_in(self, store: Store):
        """What the sign-in before it began ends, whenever it began, and what nobody knows the sign-in of."""
        moment = timedelta(microseconds=1)
        begun = {
            "before": replace(ASSUMPTION, signed_in_at=NOW - moment, started_at=LATER),
            "then": replace(ASSUMPTION, signed_in_at=NOW),
            "since": replace(ASSUMPTION, signed_in_at=NOW + moment),
            "unknown": replace(ASSUMPTION, signed_in_at=None),
        }
        for name, assumption in begun.items():
            await begin(store, replace(assumption, id=AssumptionId(name)))
        ended = await store.sign_out(ACTOR, since=NOW, at=LATER)
        assert ["before", "then", "unknown"] == sorted(one.id for one in ended)
        [left] = await store.list_assumptions(at=LATER)
        assert replace(begun["since"], id=AssumptionId("since")) == left
        assert ["since"] == list(await store.end_assumptions_of(ACTOR, at=LATER))

    async def test_a_sign_out_is_remembered_of_whoever_it_is(self, store: Store):
        """Of somebody who was seen, beside all that is known of them; of somebody who never was, and may do nothing."""
        await store.save_staff(STAFF, at=NOW)
        await store.sign_out(ACTOR, since=NOW, at=LATER)
        assert replace(STAFF, signed_out_at=NOW) == await store.find_staff(ACTOR)
        assert [] == list(await store.sign_out(ERIN, since=NOW, at=LATER))
        unseen = await store.find_staff(ERIN)
        assert (frozenset(), frozenset(), False, NOW) == (
            unseen.permissions,
            unseen.groups,
            unseen.disabled,
            unseen.signed_out_at,
        )

    @pytest.mark.parametrize("seconds", [0, 1, 3600])
    async def test_a_sign_out_that_is_told_again_ends_nothing_more(self, store: Store, seconds):
        """Nor does one from before it: so a copy of a notice does no harm, wherever and whenever it is sent."""
        await store.sign_out(ACTOR, since=NOW, at=NOW)
        await begin(store, ASSUMPTION)
        before = (await store.read_changes(0)).position
        assert [] == list(await store.sign_out(ACTOR, since=NOW - timedelta(seconds=seconds), at=LATER))
        assert ASSUMPTION == await store.find_assumption(ASSUMPTION.id)
        assert NOW == (await store.find_staff(ACTOR)).signed_out_at
        assert before == (await store.read_changes(0)).position
        assert [ASSUMPTION.id] == [one.id for one in await store.sign_out(ACTOR, since=LATER, at=LATER)]

    async def test_a_sign_out_is_never_taken_back(self, store: Store):
        """Neither by being seen again, nor by a lock that comes or goes, nor by a time from before."""
        await store.sign_out(ACTOR, since=NOW, at=NOW)
        for staff in (STAFF, replace(STAFF, signed_out_at=NOW - timedelta(days=1))):
            await store.save_staff(staff, at=LATER)
            assert replace(STAFF, signed_out_at=NOW) == await store.find_staff(ACTOR)
        for locked in (True, False):
            await store.disable_staff(ACTOR, disabled=locked)
            assert NOW == (await store.find_staff(ACTOR)).signed_out_at
        await store.save_staff(replace(STAFF, signed_out_at=LATER), at=LATER)
        assert replace(STAFF, signed_out_at=LATER) == await store.find_staff(ACTOR)

    async def test_everybody_hears_of_a_sign_out(self, store: Store):
        """Of the person, and of each assumption that ended, in one step."""
        await store.save_staff(STAFF, at=NOW)
        await begin(store, ASSUMPTION)
        before = (await store.read_changes(0)).position
        await store.sign_out(ACTOR, since=NOW, at=NOW)
        told = (await store.read_changes(before)).changes
        assert {(ACTOR, None), (None, ASSUMPTION.id)} == {(change.staff, change.assumption) for change in told}
        assert 2 == len(told)

    async def test_sign_outs_at_once_end_each_assumption_once(self, store: Store):
        """However many processes are told of the same one together."""
        for n in range(20):
            await begin(store, replace(ASSUMPTION, id=AssumptionId(f"s{n:02}")))
        answers = await asyncio.gather(*[store.sign_out(ACTOR, since=NOW, at=LATER) for _ in range(20)])
        assert [f"s{n:02}" for n in range(20)] == sorted(one.id for answer in answers for one in answer)

    async def test_an_assumption_begins_together_with_who_begins_it(self, store: Store):
        """The person is saved as by `save_staff`, a sign-out that was known included; each is told of once."""
        await store.sign_out(ACTOR, since=NOW, at=NOW)
        before = (await store.read_changes(0)).position
        await store.begin_assumption(ASSUMPTION, replace(STAFF, signed_out_at=NOW), at=LATER)
        assert ASSUMPTION == await store.find_assumption(ASSUMPTION.id)
        assert replace(STAFF, signed_out_at=NOW) == await store.find_staff(ACTOR)
        told = (await store.read_changes(before)).changes
        assert [(ACTOR, None), (None, ASSUMPTION.id)] == [(change.staff, change.assumption) for change in told]
        await store.begin_assumption(
            replace(ASSUMPTION, id=AssumptionId("e1"), actor=ERIN), replace(STAFF, id=ERIN), at=LATER
        )
        assert replace(STAFF, id=ERIN) == await store.find_staff(ERIN)

    @pytest.mark.parametrize("known", [None, NOW - timedelta(microseconds=1)])
    async def test_nothing_begins_that_was_decided_before_a_sign_out(self, store: Store, known):
        """Nothing at all is stored, so whoever decided decides again."""
        await store.sign_out(ACTOR, since=NOW, at=NOW)
        before = (await store.read_changes(0)).position, await store.find_staff(ACTOR)
        with pytest.raises(StoreConflict):
            await store.begin_assumption(ASSUMPTION, replace(STAFF, signed_out_at=known), at=LATER)
        assert None is await store.find_assumption(ASSUMPTION.id)
        assert before == ((await store.read_changes(0)).position, await store.find_staff(ACTOR))

    async def test_an_id_that_is_taken_begins_nothing(self, store: Store):
        """Neither the assumption nor the person changes."""
        await store.begin_assumption(ASSUMPTION, STAFF, at=NOW)
        with pytest.raises(StoreConflict):
            await store.begin_assumption(replace(ASSUMPTION, ticket="other"), replace(STAFF, name="other"), at=LATER)
        assert (ASSUMPTION, STAFF) == (await store.find_assumption(ASSUMPTION.id), await store.find_staff(ACTOR))

    async def test_a_sign_out_and_what_begins_at_once_never_both_stand(self, store: Store):
        """In whichever order they come: the assumption conflicts, or the sign-out ends it."""
        people = [ActorId(issuer=ACTOR.issuer, subject=f"p{n}") for n in range(40)]
        begun = [replace(ASSUMPTION, id=AssumptionId(person.subject), actor=person) for person in people]

        async def begin(n: int) -> None:
            await store.begin_assumption(begun[n], replace(STAFF, id=people[n]), at=NOW)

        calls = [call for n in range(40) for call in (begin(n), store.sign_out(people[n], since=NOW, at=LATER))]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(None), list} | {StoreConflict} >= {type(outcome) for outcome in outcomes}
        assert [] == list(await store.list_assumptions(at=LATER))
