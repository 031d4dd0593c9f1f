"""What became of a change whose answer was lost on its way from the store."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.stores.store import StoreError

T = TypeVar("T")

# So long we try to learn what became of it, each time after a pause.
_SECONDS = 1.0
_AGAIN_SECONDS = 0.1


class Uncertain(StoreError):
    """The store took the change and was not heard of since: it may have been made, and the record says so."""


async def certain(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what the store says now, whose last answer did not come; raises Uncertain if it goes on so."""
    try:
        async with asyncio.timeout(_SECONDS):
            while True:
                try:
                    return await ask()
                except StoreError:
                    await asyncio.sleep(_AGAIN_SECONDS)
    except TimeoutError as exc:
        raise Uncertain("it is not known whether the change was made: look at the account again") from exc
