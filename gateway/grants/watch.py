"""Hears of changes that other processes made to the embedded store: other workers, or the command line."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Self

from gateway.stores.store import StoreError

log = logging.getLogger(__name__)

_SECONDS = 0.1


class Watch:
    """Asks the store for its version, again and again."""

    def __init__(self, version: Callable[[], Awaitable[int]], last: int) -> None:
        """Use `begin`."""
        self._version = version
        self._last = last

    @classmethod
    async def begin(cls, version: Callable[[], Awaitable[int]]) -> Self:
        """Return a watch that misses nothing from now on, so begin before the first fact is read; raises StoreError."""
        return cls(version, await version())

    async def run(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Call `changed` soon after `version` answers another number; runs until cancelled.

        While the store does not answer nothing is heard, and the facts' time to live is the bound.
        """
        while True:
            try:
                now = await self._version()
                if now != self._last:
                    await changed()
                self._last = now
            except StoreError:
                log.warning("the store does not answer, so its changes are noticed only when facts grow old")
            except Exception:
                # Whatever it was, it must not be the last change that is heard of.
                log.exception("a change of the store could not be followed, and is tried again")
            await asyncio.sleep(_SECONDS)
