"""What `MemoryStore` awaits, and whose the provider's sessions are; see `tests.memory_store`."""

import json
from collections.abc import Sequence
from datetime import datetime

from gateway.stores.browsing import BrowserAssumption
from gateway.stores.store import StaffSession
from policy.claims import LONGEST_BROWSER
from policy.model import ActorId, Assumption, AssumptionId, Grant, GrantId


class MemoryAwaiting:
    """Keeps it beside the assumptions and sessions of the store whose part this is."""

    _grants: dict[GrantId, Grant]
    _hand_overs: dict[AssumptionId, datetime]
    _browsers: dict[bytes, BrowserAssumption]
    _sessions: dict[bytes, StaffSession]

    async def _answer(self) -> None:
        raise NotImplementedError

    async def list_assumptions(self, *, at: datetime) -> Sequence[Assumption]:
        raise NotImplementedError

    async def expect_browser(self, assumption: AssumptionId, *, until: datetime, now: datetime) -> None:
        await self._answer()
        kept = {one: ends for one, ends in self._hand_overs.items() if ends > now - LONGEST_BROWSER}
        self._hand_overs = {assumption: until} | kept

    async def list_unclaimed(self, *, at: datetime) -> Sequence[Assumption]:
        held = {browser.assumption for browser in self._browsers.values()}
        waited = {assumption for assumption, ends in self._hand_overs.items() if ends <= at} - held
        return [assumption for assumption in await self.list_assumptions(at=at) if assumption.id in waited]

    async def list_over(self, *, at: datetime, since: datetime, most: int) -> Sequence[Assumption]:
        def is_over(assumption: Assumption) -> bool:
            grant = self._grants.get(assumption.grant_id)
            ends = [assumption.expires_at, *([grant.expires_at] if grant and grant.expires_at else [])]
            return min(ends) <= at or (grant is not None and grant.revoked_at is not None)

        unended = await self.list_assumptions(at=since)
        return sorted(filter(is_over, unended), key=lambda one: (one.expires_at, one.id))[:most]

    async def find_actor_of(self, issuer: str, session: str) -> ActorId | None:
        await self._answer()
        of_issuer = [one for one in self._sessions.values() if one.actor.issuer == issuer]
        actors = {one.actor for one in of_issuer if json.loads(one.claims).get("sid") == session}
        return actors.pop() if len(actors) == 1 else None
