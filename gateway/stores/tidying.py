"""Keeps what browsers held, and what staff have asked for, no longer than it is good for, whatever else is done."""

import asyncio
import logging
from random import random

from gateway.clock import Clock
from gateway.stores.store import Store, StoreError

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 300.0


async def keep_tidy(store: Store, clock: Clock, *, pause_seconds: float = _PAUSE_SECONDS) -> None:
    """Tidy for ever, each about `pause_seconds` behind the last; what fails is tried again the next time."""
    while True:
        await asyncio.sleep(pause_seconds * (0.5 + random()))  # noqa: S311 - so that not all do it at once
        try:
            await store.tidy_browsers(at=clock())
            await store.tidy_grant_requests(at=clock())
        except StoreError as exc:
            log.warning("what is over could not be tidied away: %s", exc)
