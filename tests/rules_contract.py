"""What every store must keep to about what the vendor's rules speak of; a part of `StoreContract`."""

import asyncio
import secrets
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.stores.store import AccountRecord, StaffSession, Store, StoreConflict, TooManyAssumptions
from policy.grants import Change
from policy.model import ActorId, AssumptionId
from tests.store_examples import ACME, ACTOR, ASSUMPTION, AWKWARD, NOW, STAFF, a_change, a_grant

LATER = NOW + timedelta(seconds=1)
ATTRIBUTES = frozenset({("region", "eu"), ("plan", AWKWARD)})


def begun(number, **changes):
    return replace(ASSUMPTION, id=AssumptionId(f"s{number:02}"), **changes)


class RulesContract:
    async def test_an_account_keeps_its_attributes(self, store: Store):
        """As they were added, and then as they were changed; a change of the grant leaves them."""
        account = replace(ACME, attributes=ATTRIBUTES)
        await store.add_account(account)
        assert AccountRecord(account=account, grant=None) == await store.find_account(account.id)
        other = replace(account, attributes=frozenset({("region", "us")}))
        described = a_change(other, Change.ATTRIBUTES_CHANGED)
        await store.save_change(described, by="robin", at=NOW)
        assert described.account == (await store.find_account(account.id)).account
        enabled = a_change(described.account, grant=a_grant(account))
        await store.save_change(enabled, by="owner", at=NOW)
        assert {("region", "us")} == (await store.find_account(account.id)).account.attributes
        assert [Change.ENABLED, Change.ATTRIBUTES_CHANGED] == [
            event.change for event in await store.list_changes(account.id)
        ]

    @pytest.mark.parametrize("roles", [None, frozenset(), frozenset({"agent", AWKWARD})])
    async def test_an_assumption_keeps_the_roles_of_its_agent(self, store: Store, roles):
        """Not known is something else than none."""
        await store.begin_assumption(replace(ASSUMPTION, agent_roles=roles), STAFF, at=NOW)
        assert roles == (await store.find_assumption(ASSUMPTION.id)).agent_roles

    async def test_everybody_hears_that_somebody_signs_in_with_other_claims(self, store: Store):
        """Rules speak of them, so what is open is looked at again."""
        await store.save_staff(STAFF, at=NOW)
        before = (await store.read_changes(0)).position
        less = replace(STAFF, claims=frozenset())
        await store.save_staff(less, at=LATER)
        assert less == await store.find_staff(ACTOR)
        assert [ACTOR] == [change.staff for change in (await store.read_changes(before)).changes]

    @pytest.mark.parametrize("by", ["save_staff", "begin_assumption", "begin_session"])
    async def test_what_was_told_last_stays(self, store: Store, by):
        """Whoever was told older things, or at a time that is not known, changes nothing but when they were seen."""

        async def save(staff) -> None:
            session = StaffSession(
                digest=secrets.token_bytes(32), actor=ACTOR, claims="{}", signed_in_at=NOW, seen_at=NOW, ends_at=LATER
            )
            await {
                "save_staff": lambda: store.save_staff(staff, at=LATER),
                "begin_assumption": lambda: store.begin_assumption(
                    replace(ASSUMPTION, id=AssumptionId(secrets.token_hex(8))), staff, at=NOW
                ),
                "begin_session": lambda: store.begin_session(session, staff, at=NOW),
            }[by]()

        less = replace(STAFF, name="x", permissions=frozenset(), groups=frozenset(), claims=frozenset())
        await store.save_staff(replace(less, told_at=None), at=NOW)
        await save(STAFF)
        assert STAFF == await store.find_staff(ACTOR)
        for older in (None, NOW - timedelta(microseconds=1)):
            await save(replace(less, told_at=older))
            assert STAFF == await store.find_staff(ACTOR)
        for told_at in (NOW, LATER):
            newer = replace(less, name=str(told_at), told_at=told_at)
            await save(newer)
            assert newer == await store.find_staff(ACTOR)
        await save(STAFF)
        assert newer == await store.find_staff(ACTOR)

    async def test_an_older_word_locks_all_the_same(self, store: Store):
        """A lock and a sign-out are nobody's word but ours, so their age is not asked."""
        await store.save_staff(STAFF, at=NOW)
        older = replace(STAFF, groups=frozenset(), told_at=None, disabled=True, signed_out_at=NOW)
        await store.save_staff(older, at=NOW)
        assert replace(STAFF, disabled=True, signed_out_at=NOW) == await store.find_staff(ACTOR)

    async def test_everybody_hears_that_there_is_a_newer_word(self, store: Store):
        """Also if it is the same: what is judged by it must not be judged by one from between."""
        await store.save_staff(STAFF, at=NOW)
        before = (await store.read_changes(0)).position
        await store.save_staff(replace(STAFF, told_at=NOW - timedelta(days=1)), at=LATER)
        assert before == (await store.read_changes(0)).position
        await store.save_staff(replace(STAFF, told_at=LATER), at=LATER)
        assert [ACTOR] == [change.staff for change in (await store.read_changes(before)).changes]

    async def test_so_many_are_open_at_once_and_no_more(self, store: Store):
        """The next begins when one has ended; whoever is refused leaves nothing behind."""
        for number in range(3):
            assert [begun(one) for one in range(number)] == list(await store.list_begun(ACTOR, at=NOW))
            await store.begin_assumption(begun(number), STAFF, at=NOW, most=3)
        assert [3, 0] == [len(await store.list_begun(ACTOR, at=at)) for at in (NOW, ASSUMPTION.expires_at)]
        assert [] == list(await store.list_begun(ACTOR._replace(subject="u9"), at=NOW))
        before = (await store.read_changes(0)).position
        with pytest.raises(TooManyAssumptions):
            await store.begin_assumption(begun(3), replace(STAFF, name="other"), at=NOW, most=3)
        assert (None, STAFF) == (await store.find_assumption(begun(3).id), await store.find_staff(ACTOR))
        assert before == (await store.read_changes(0)).position
        assert await store.end_assumption(begun(1).id, at=NOW)
        await store.begin_assumption(begun(3), STAFF, at=NOW, most=3)
        await store.begin_assumption(begun(4), STAFF, at=NOW, most=None)

    async def test_what_is_over_is_not_counted(self, store: Store):
        """Neither what has expired, from that very moment on, nor what is under a grant that was revoked or is over."""
        await store.add_account(ACME)
        enabled = a_change(ACME, grant=a_grant(ACME, id="g1", expires_at=NOW + timedelta(hours=1)))
        await store.save_change(enabled, by="owner", at=NOW)
        await store.begin_assumption(begun(0, grant_id="other", expires_at=LATER), STAFF, at=NOW, most=1)
        with pytest.raises(TooManyAssumptions):
            await store.begin_assumption(begun(1), STAFF, at=LATER - timedelta(microseconds=1), most=1)
        await store.begin_assumption(begun(1), STAFF, at=LATER, most=1)
        with pytest.raises(TooManyAssumptions):
            await store.begin_assumption(begun(2), STAFF, at=LATER, most=1)
        await store.begin_assumption(begun(2), STAFF, at=NOW + timedelta(hours=1), most=1)
        with pytest.raises(TooManyAssumptions):
            await store.begin_assumption(begun(3), STAFF, at=LATER, most=1)
        off = a_change(enabled.account, Change.TURNED_OFF, grant=replace(enabled.grant, revoked_at=LATER))
        await store.save_change(off, by="owner", at=LATER)
        await store.begin_assumption(begun(3, grant_id="g2"), STAFF, at=LATER, most=1)

    async def test_each_person_is_counted_alone(self, store: Store):
        """By issuer and subject together."""
        others = [ActorId(issuer=ACTOR.issuer, subject="u2"), ActorId(issuer="https://other.example", subject="u1")]
        for number, actor in enumerate([ACTOR, *others]):
            await store.begin_assumption(begun(number, actor=actor), replace(STAFF, id=actor), at=NOW, most=1)

    async def test_of_many_that_begin_at_once_no_more_than_may(self, store: Store):
        """However they race, on however many connections."""
        calls = [store.begin_assumption(begun(number), STAFF, at=NOW, most=3) for number in range(30)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert 3 == outcomes.count(None)
        assert {TooManyAssumptions} == {type(outcome) for outcome in outcomes if outcome is not None}
        assert 3 == len(await store.list_assumptions(at=NOW))

    async def test_a_sign_out_comes_before_the_count(self, store: Store):
        """Whoever has to decide anew is told that, and not that there are too many."""
        await store.begin_assumption(begun(0), STAFF, at=NOW, most=1)
        await store.sign_out(ACTOR, since=NOW, at=NOW)
        with pytest.raises(StoreConflict) as caught:
            await store.begin_assumption(begun(1), STAFF, at=NOW, most=0)
        assert not isinstance(caught.value, TooManyAssumptions)
