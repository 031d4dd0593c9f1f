"""Sends what the outbox holds, at least once.

Any number of processes and nodes do it side by side: a target is one's at a time, by a claim in the store that runs out
if its holder dies.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

from gateway.audit.log import AuditLog
from gateway.clock import Clock
from gateway.rarely import Rarely
from gateway.stores.outbox import Claim
from gateway.stores.store import Store, StoreError
from gateway.tasks import Tasks
from gateway.telling.contacts import FORMER_KEPT
from gateway.telling.counts import NoticeCounts
from gateway.telling.courier import Courier
from gateway.telling.delivering import Deliverer
from gateway.telling.occupied import Occupied
from gateway.telling.reading import KEPT
from gateway.telling.spreading import CHANNEL, Spreader

log = logging.getLogger(__name__)

_MOST: Final = 100
_HELD: Final = timedelta(minutes=3)
"""Longer than a turn and a delivery take, whatever the other side does."""
_LAST_SECONDS: Final = 1.5
"""For deliveries under way, when this ends."""
_POLL_SECONDS: Final = 1.0
_COUNT_SECONDS: Final = 5.0
_TIDY_SECONDS: Final = 3600.0


class Sender:
    """Sends from one process; `run` goes on until it is cancelled."""

    def __init__(
        self,
        store: Store,
        journal: AuditLog,
        couriers: Mapping[str, Courier],
        *,
        give_up: timedelta,
        clock: Clock,
        counts: NoticeCounts,
        spreader: Spreader,
        own: Sequence[str] = (),
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        """By channel, who brings notices; those older than `give_up` are brought no more.

        `spreader` makes the notices of what concerns many accounts. `own` are the operator's addresses, which wait for
        no account's.
        """
        self._store = store
        self._give_up = give_up
        self._clock = clock
        self._counts = counts
        self._spreader = spreader
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()
        self._occupied = Occupied(own)
        self._rarely = Rarely(log)
        self._deliverer = Deliverer(
            store, journal, couriers, give_up=give_up, clock=clock, counts=counts, rarely=self._rarely
        )
        self._is_waiting = False
        """Whether it was said that the store does not answer."""

    def wake(self) -> None:
        """Look at once: there may be something to send."""
        self._woken.set()

    async def run(self) -> None:
        """Send what is due until cancelled; a delivery that goes on then is left to the next who claims it."""
        counting, tasks = Tasks(), Tasks()
        try:
            counting.start(self._keep_counting(), name="count the notices that wait")
            while True:
                self._woken.clear()
                if (claim := await self._claim()) is not None:
                    self._occupied.take(claim)
                    tasks.start(self._deal(claim), name="send notices")
                    continue
                await self._rest()
        finally:
            await counting.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_SECONDS):
                    await tasks.wait()
            await tasks.close()

    async def _claim(self) -> Claim | None:
        now, room = self._clock(), self._occupied.room
        try:
            # Only looked at as long as there is nothing: nobody writes once a second for nothing.
            if not await self._store.is_due(now=now, room=room):
                return None
            claim = await self._store.claim_notices(
                secrets.token_hex(16), now=now, until=now + _HELD, most=_MOST, room=room
            )
        except StoreError as error:
            if not self._is_waiting:
                # Once, until it works again: the metrics tell the rest.
                self._is_waiting = True
                log.warning("notices wait for the store: %s", error)
            return None
        self._is_waiting = False
        return claim

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._poll_seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _deal(self, claim: Claim) -> None:
        try:
            await (self._spreader if claim.target.channel == CHANNEL else self._deliverer).deal(claim)
        except StoreError as error:
            self._rarely.warning("what came of notices cannot be kept, so some may be sent twice: %s", error)
        finally:
            self._occupied.leave(claim)
            self.wake()

    async def _keep_counting(self) -> None:
        tidied = float("-inf")
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._counts.waiting = await self._store.count_waiting()
                if loop.time() - tidied > _TIDY_SECONDS:
                    now = self._clock()
                    await self._store.tidy_notices(
                        before=now - self._give_up - 2 * KEPT, contacts_before=now - FORMER_KEPT, now=now
                    )
                    tidied = loop.time()
            except StoreError:
                self._counts.waiting = None
            await asyncio.sleep(_COUNT_SECONDS)
