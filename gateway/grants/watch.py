"""Hears of changes that other processes made to the embedded store, such as the command line's."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.stores.store import StoreError

log = logging.getLogger(__name__)

_SECONDS = 0.1


async def watch(version: Callable[[], Awaitable[int]], changed: Callable[[], Awaitable[None]]) -> None:
    """Call `changed` soon after `version` answers another number; runs until cancelled.

    While the store does not answer nothing is heard, and the facts' time to live is the bound.
    """
    last: int | None = None
    while True:
        try:
            now = await version()
            if last is not None and now != last:
                await changed()
            last = now
        except StoreError:
            log.warning("the store does not answer, so its changes are noticed only when facts grow old")
        await asyncio.sleep(_SECONDS)
