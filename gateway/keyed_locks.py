"""Locks by key, of one event loop: whoever does the same thing to the same key does it after one another."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
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


class Precedence:
    """What waits for nobody, by key, and what goes on once nothing of that is under way."""

    def __init__(self) -> None:
        """Have nothing under way."""
        self._under_way: Counter[Hashable] = Counter()
        self._over: dict[Hashable, asyncio.Event] = {}

    @contextmanager
    def taken(self, key: Hashable) -> Iterator[None]:
        """Go first until the block ends, any number side by side."""
        self._under_way[key] += 1
        self._over.setdefault(key, asyncio.Event())
        try:
            yield
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]
                self._over.pop(key).set()

    async def given(self, key: Hashable) -> None:
        """Return once nobody goes first."""
        while (over := self._over.get(key)) is not None:
            await over.wait()
