"""Locks by key, of one event loop: whoever does the same thing to the same key does it after one another."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary


class KeyedLocks:
    """A lock that nobody holds or waits for is forgotten."""

    def __init__(self) -> None:
        """Have nothing locked."""
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def held(self, *keys: Hashable) -> AsyncIterator[None]:
        """Hold the locks of all keys until the block ends.

        They are taken in this order, so everybody has to name the same kinds of keys in the same one: else two could
        wait for each other for ever.
        """
        async with AsyncExitStack() as stack:
            for key in keys:
                lock = self._locks.get(key)
                if lock is None:
                    lock = self._locks[key] = asyncio.Lock()
                await stack.enter_async_context(lock)
            yield
