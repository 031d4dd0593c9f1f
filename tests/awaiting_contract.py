"""What every store must keep to about what is awaited and whose sessions are whose; part of `StoreContract`."""

import json
from dataclasses import replace
from datetime import timedelta

from gateway.stores.store import Store
from policy.claims import LONGEST_BROWSER
from policy.grants import Change
from policy.model import AssumptionId, GrantId
from tests.browser_contract import HELD
from tests.session_contract import SESSION
from tests.store_examples import ACME, ACTOR, ASSUMPTION, AWKWARD, NOW, STAFF, a_change, a_grant, begin

MOMENT = timedelta(microseconds=1)
SOON = NOW + timedelta(minutes=2)


class AwaitingContract:
    async def test_what_no_browser_has_taken_over_in_time_is_told(self, store: Store):
        """Not before its time, not what a browser holds, and not what has ended or expired."""
        later = replace(ASSUMPTION, id=AssumptionId("a9"), started_at=ASSUMPTION.started_at + MOMENT)
        for assumption in (later, ASSUMPTION, replace(ASSUMPTION, id=AssumptionId(AWKWARD))):
            await begin(store, assumption)
        for name in (later.id, ASSUMPTION.id, ASSUMPTION.id, AssumptionId("never began")):
            await store.expect_browser(name, until=SOON, now=NOW)
        assert [] == list(await store.list_unclaimed(at=SOON - MOMENT))
        assert [ASSUMPTION, later] == list(await store.list_unclaimed(at=SOON))
        await store.add_browser(HELD, at=NOW)
        assert [later] == list(await store.list_unclaimed(at=SOON))
        assert [] == list(await store.list_unclaimed(at=ASSUMPTION.expires_at))
        await store.end_assumption(later.id, at=NOW)
        assert [] == list(await store.list_unclaimed(at=SOON))

    async def test_what_was_awaited_is_forgotten_when_all_of_it_is_over(self, store: Store):
        """No assumption in a browser is longer than that."""
        await begin(store, replace(ASSUMPTION, expires_at=NOW + timedelta(days=9)))
        await store.expect_browser(ASSUMPTION.id, until=SOON, now=NOW)
        for now, left in ((SOON + LONGEST_BROWSER - MOMENT, 1), (SOON + LONGEST_BROWSER, 0)):
            await store.expect_browser(AssumptionId("another"), until=now, now=now)
            assert left == len(await store.list_unclaimed(at=now))

    async def test_what_is_over_without_anybodys_doing_is_told(self, store: Store):
        """By its own time or its grant's, to the microsecond; not what somebody has ended, nor what was over long ago."""
        await store.add_account(ACME)
        await store.save_change(a_change(ACME, grant=a_grant(ACME, expires_at=SOON)), by="x", at=NOW)
        end = ASSUMPTION.expires_at
        first, trial, ended = (
            replace(ASSUMPTION, id=AssumptionId(name), grant_id=GrantId("trial's own"), expires_at=end - MOMENT * early)
            for name, early in (("first", 1), (AWKWARD, 0), ("ended", 0))
        )
        for assumption in (ASSUMPTION, trial, ended, first):
            await begin(store, assumption)
        await store.end_assumption(ended.id, at=NOW)

        async def over(at, since=NOW, most=9):
            return [one.id for one in await store.list_over(at=at, since=since, most=most)]

        assert [] == await over(SOON - MOMENT)
        assert [ASSUMPTION.id] == await over(SOON)
        assert [first.id, ASSUMPTION.id] == await over(end - MOMENT)
        assert (first.id, {first.id, trial.id, ASSUMPTION.id}) == ((await over(end))[0], set(await over(end)))
        assert [first.id] == await over(end, most=1)
        assert {trial.id, ASSUMPTION.id} == set(await over(end, since=end - MOMENT))
        assert [] == await over(end, since=end)
        await store.end_assumption(first.id, at=end)
        assert first.id not in await over(end)

    async def test_what_stood_under_a_grant_that_was_taken_back_is_over(self, store: Store):
        """At once, though its own time goes on."""
        await store.add_account(ACME)
        on = a_change(ACME, grant=a_grant(ACME))
        await store.save_change(on, by="x", at=NOW)
        await begin(store, ASSUMPTION)
        assert [] == list(await store.list_over(at=SOON, since=NOW, most=9))
        off = a_change(on.account, Change.TURNED_OFF, grant=replace(on.grant, revoked_at=NOW + MOMENT))
        await store.save_change(off, by="x", at=NOW + MOMENT)
        assert [ASSUMPTION] == list(await store.list_over(at=SOON, since=NOW, most=9))

    async def test_whose_session_of_the_providers_it_is(self, store: Store):
        """By the `sid` of what their ID token said, and by nothing else in it; of one person, or of nobody."""
        other = ACTOR._replace(subject="u9")
        said = [
            (ACTOR, {"sid": "s1", "name": AWKWARD}),
            (ACTOR, {"sid": "s1"}),
            (other, {"sid": AWKWARD, "name": "s1", "nonce": "s2"}),
            (ACTOR, {"sid": "shared"}),
            (other, {"sid": "shared"}),
        ]
        for number, (actor, claims) in enumerate(said):
            session = replace(SESSION, digest=bytes([number] * 32), actor=actor, claims=json.dumps(claims))
            await store.begin_session(session, replace(STAFF, id=actor), at=NOW)
        for sid, actor in (("s1", ACTOR), (AWKWARD, other), ("s2", None), ("shared", None), ("", None), ("%", None)):
            assert actor == await store.find_actor_of(ACTOR.issuer, sid)
        assert None is await store.find_actor_of("https://other.example", "s1")
