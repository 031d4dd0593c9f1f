"""Handing an assumption over from the staff origin to the account's host: a code, good once and for a minute."""

import asyncio
import logging
import secrets
from datetime import timedelta
from hashlib import sha256
from typing import Final

import msgspec

from gateway.caller import Caller
from gateway.clock import Clock
from gateway.proxy.browsers import parse_claims
from gateway.proxy.cookies import digest_of
from gateway.stores.store import Store, StoreError
from gateway.tasks import Tasks
from gateway.tokens.ending import Ender
from policy.claims import ClaimsError
from policy.exchange import Issue
from policy.model import ActorId, Assumption, AssumptionClaims, AssumptionId, ClientId

log = logging.getLogger(__name__)

HAND_OVER_SECONDS: Final = 60.0
"""For the click that leads from the one host to the other."""
BROWSER: Final = ClientId("browser")
"""What stands in the record in place of a program that asks for a token."""

_SWEEP_SECONDS: Final = 30.0
_MARGIN: Final = timedelta(seconds=30)
"""From its being expected to its code, which is made when it has begun, and from the code's use to the cookie's."""
_LEFT = "an assumption that nobody took over could not be ended, and ends by itself: %s"


class HandOvers:
    """What is on its way between two hosts; what never arrives is ended, so that nothing stands open for nobody."""

    def __init__(
        self,
        store: Store,
        ender: Ender,
        *,
        issuer: str,
        clock: Clock,
        tasks: Tasks,
        seconds: float = HAND_OVER_SECONDS,
    ) -> None:
        self._store = store
        self._ender = ender
        self._issuer = issuer
        self._clock = clock
        self._tasks = tasks
        self.seconds = seconds

    async def keep_sweeping(self) -> None:
        """End what no browser has come for, again and again; also what another process has left that is no more."""
        while True:
            await self.sweep()
            await asyncio.sleep(_SWEEP_SECONDS)

    async def sweep(self) -> None:
        """End it once; what cannot be ended now is left to the next time, and ends by itself."""
        try:
            for left in await self._store.list_unclaimed(at=self._clock()):
                await self.give_up(left, Caller(client_ip=None, user_agent=None, request_id=f"sweep_{left.id}"))
        except StoreError as exc:
            log.warning(_LEFT, exc)

    async def expect(self, assumption: AssumptionId) -> None:
        """Have it ended if no browser comes for it; asked before it begins, so that no crash leaves it open.

        Raises StoreError.
        """
        now = self._clock()
        # Behind the end of the code, so that nothing is ended that somebody is entering just then.
        await self._store.expect_browser(assumption, until=now + timedelta(seconds=2 * self.seconds) + _MARGIN, now=now)

    async def offer(self, issue: Issue, caller: Caller) -> str:
        """Return a code for an assumption that was expected and has begun.

        Raises StoreError, and then it is ended if it can be.
        """
        code, now = secrets.token_urlsafe(32), self._clock()
        claims = msgspec.json.encode(issue.claims).decode()
        digest = sha256(code.encode()).digest()
        # Kept a little longer, so that what nobody has come for is still there to be taken back.
        ends_at = now + timedelta(seconds=2 * self.seconds)
        try:
            await self._store.add_one_time(digest, claims, expires_at=ends_at, now=now)
        except StoreError:
            await self.give_up(issue.assumption, caller)
            raise
        self._tasks.start(self._take_back(digest, caller), name="end what was not taken over")
        return code

    async def redeem(self, code: str) -> tuple[AssumptionClaims, str] | None:
        """Return what a code stands for, once, as claims and as they are stored; raises StoreError, ClaimsError.

        None for a code that nobody has, or that was used before, or too late.
        """
        digest = digest_of(code.encode())
        text = None if digest is None else await self._store.redeem(digest, now=self._clock())
        return None if text is None else (parse_claims(text, issuer=self._issuer), text)

    async def give_up(self, left: Assumption | AssumptionClaims, caller: Caller) -> None:
        """End an assumption that nobody can take over any more; what cannot be ended now ends by itself."""
        assumption = left.id if isinstance(left, Assumption) else left.assumption
        try:
            await self.end(assumption, by=left.actor, caller=caller)
        except StoreError as exc:
            log.warning(_LEFT, exc)

    async def end(self, assumption: AssumptionId, *, by: ActorId, caller: Caller) -> None:
        """End an assumption, on the record; raises StoreError."""
        await self._ender.end(assumption, by=by.subject, caller=caller, client=BROWSER)

    async def _take_back(self, digest: bytes, caller: Caller) -> None:
        await asyncio.sleep(self.seconds)
        try:
            left = await self._store.redeem(digest, now=self._clock())
            if left is not None:
                await self.give_up(parse_claims(left, issuer=self._issuer), caller)
        except (StoreError, ClaimsError) as exc:
            log.warning(_LEFT, exc)
