"""What a running gateway does for its journal beside writing it: it closes segments on demand, and lets content go."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from gateway.audit.hand import Hand
from gateway.audit.log import JournalError
from gateway.audit.removal.retention import Recorder, Retention, Survey, Terms
from gateway.audit.removal.rotating import Rotates, ask_to_rotate, keep_rotating
from gateway.clock import Clock
from gateway.locks import Lock
from gateway.stores.store import StoreError

log = logging.getLogger(__name__)

EVERY_SECONDS = 3600.0
_WORK_SECONDS = 0.0002
_REST_SECONDS = 0.001


class Kept(Recorder, Rotates, Protocol):
    """The journal of this process."""


class Upkeep:
    """Of the journal of one process; of all that share a directory one lets content go, for all of them."""

    def __init__(
        self,
        directory: Path,
        *,
        origin: str,
        journal: Kept,
        terms: Terms,
        held: Callable[[], Awaitable[frozenset[str]]],
        clock: Clock,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        """`held` asks which accounts are under legal hold."""
        self._directory = directory
        self._origin = origin
        self._journal = journal
        self._terms = terms
        self._held = held
        self._clock = clock
        self._every_seconds = every_seconds
        self._survey = Survey()
        self._lock = Lock(directory / "retaining.lock")
        self._resting = _Resting()

    async def run(self) -> None:
        """Do it until cancelled."""
        # Two, because a request to go on in a new segment must not wait for a long reading.
        asking, keeping = Hand(f"journal-{self._origin}-asked"), Hand(f"journal-{self._origin}-kept")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(keep_rotating(self._directory, self._journal, asking, origin=self._origin))
                group.create_task(self._keep_retaining(keeping))
        finally:
            asking.stop()
            keeping.stop(self._lock.release)

    async def _keep_retaining(self, hand: Hand) -> None:
        while True:
            if not self._terms.is_for_ever:
                try:
                    if await hand.run(self._lock.take):
                        await self._retain(hand)
                except (JournalError, StoreError, OSError) as error:
                    log.warning("nothing of the journal is let go now; tried again later: %s", error)
            await asyncio.sleep(self._every_seconds)

    async def _retain(self, hand: Hand) -> None:
        retention = Retention(
            directory=self._directory,
            terms=self._terms,
            origin=self._origin,
            recorder=self._journal,
            held=self._held,
            run=hand.run,
            survey=self._survey,
            rest=self._resting,
        )
        now = self._clock()
        if overdue := await retention.overdue(now=now):
            # Each goes on in a new segment within a moment; what they have closed goes the next time.
            await hand.run(lambda: ask_to_rotate(self._directory, overdue))
        gone = await retention.retain(now=now)
        if gone:
            log.info("the content of %d records is kept no longer", sum(removal.part.lines for removal in gone))


class _Resting:
    """Has a long reading let the loop's thread get on: it pauses after a fraction of a millisecond."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._since > _WORK_SECONDS:
            time.sleep(_REST_SECONDS)
            self._since = time.monotonic()
