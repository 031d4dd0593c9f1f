"""What every store must keep to about what is awaited and whose sessions are whose; part of `StoreContract`."""

import json
from dataclasses import replace
from datetime import timedelta

from gateway.stores.store import Store
from policy.claims import LONGEST_BROWSER
from policy.model import AssumptionId
from tests.browser_contract import HELD
from tests.session_contract import SESSION
from tests.store_examples import ACTOR, ASSUMPTION, AWKWARD, NOW, STAFF

MOMENT = timedelta(microseconds=1)
SOON = NOW + timedelta(minutes=2)


class AwaitingContract:
    async def test_what_no_browser_has_taken_over_in_time_is_told(self, store: Store):
        """Not before its time, not what a browser holds, and not what has ended or expired."""
        later = replace(ASSUMPTION, id=AssumptionId("a9"), started_at=ASSUMPTION.started_at + MOMENT)
        for assumption in (later, ASSUMPTION, replace(ASSUMPTION, id=AssumptionId(AWKWARD))):
            await store.add_assumption(assumption)
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
        await store.add_assumption(replace(ASSUMPTION, expires_at=NOW + timedelta(days=9)))
        await store.expect_browser(ASSUMPTION.id, until=SOON, now=NOW)
        for now, left in ((SOON + LONGEST_BROWSER - MOMENT, 1), (SOON + LONGEST_BROWSER, 0)):
            await store.expect_browser(AssumptionId("another"), until=now, now=now)
            assert left == len(await store.list_unclaimed(at=now))

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
