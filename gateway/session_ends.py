"""Tells open pages in every process that a session of their kind has ended, so that each looks at its own."""

import asyncio
import logging
from datetime import timedelta
from hashlib import sha256
from typing import Final

from gateway.clock import Clock
from gateway.stores.store import Store, StoreError

log = logging.getLogger(__name__)

_MOST: Final = 2**53
_KEPT: Final = timedelta(hours=1)
_HEARD_SECONDS: Final = 0.25


class SessionEnds:
    """Counts them in the store, which does not push the end of a session; one read is for all streams of a process."""

    def __init__(self, store: Store, clock: Clock, *, of: str) -> None:
        """Know the sessions `of` one kind of people."""
        self._store = store
        self._mark = sha256(f"sessions ended of {of}".encode()).digest()
        self._clock = clock
        self._turn = asyncio.Lock()
        self._heard: str | None = None
        self._until = 0.0
        """By the loop's time."""

    async def tell(self) -> None:
        """Say that one has ended, which is stored already.

        A hint: where it cannot be said, each stream finds out when it looks by itself.
        """
        now = self._clock()
        try:
            await self._store.count(self._mark, most=_MOST, expires_at=now + _KEPT, now=now)
        except StoreError as exc:
            log.info("open pages are not told that a session has ended: %s", exc)

    async def heard(self) -> str | None:
        """Return what is another each time that one has ended, a quarter of a second old at most; raises StoreError."""
        async with self._turn:
            now = asyncio.get_running_loop().time()
            if now >= self._until:
                self._heard = await self._store.find_one_time(self._mark, now=self._clock())
                self._until = now + _HEARD_SECONDS
            return self._heard
