"""One kind of fact, by key, for a bounded time: what was found, what was not, and what is being fetched."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from collections.abc import Set as AbstractSet
from typing import Any, Generic, TypeVar

from cachetools import TLRUCache

from gateway.clock import Ticks
from gateway.stores.store import StoreError
from gateway.tasks import Tasks

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
MOST_ENTRIES = 4096


class FactTable(Generic[K, V]):
    """Absent answers have a cache of their own, so they never push out real ones.

    An entry's age counts from the *start* of its fetch, and no hit renews it. A fetch that fails, is cancelled, or was
    overtaken by a change leaves nothing behind.
    """

    def __init__(
        self,
        fetch: Callable[[K], Coroutine[Any, Any, V | None]],
        *,
        ttl: float,
        absent_ttl: float,
        ticks: Ticks,
        tasks: Tasks,
    ) -> None:
        """Fetch with `fetch`, and keep what it returns so many seconds."""
        self._fetch = fetch
        self._ticks = ticks
        self._tasks = tasks
        self._ttl = ttl
        self._absent_ttl = absent_ttl
        self.fetches = 0
        """How often it was asked for a fact, in vain too."""
        self._found, self._absent = self._new_caches()
        self._running: dict[K, _Flight] = {}
        self._names: OrderedDict[K, None] = OrderedDict()
        """Of whatever is known or being fetched, and maybe of more, in the order in which it was asked for."""

    def __len__(self) -> int:
        """Count what is kept, old entries that nobody has asked for since included."""
        return len(self._found) + len(self._absent) + len(self._running)

    def at_hand(self, key: K) -> tuple[float, V] | None:
        """Return when the fetch of a fact began, and the fact."""
        return self._found.get(key)

    def knows(self, key: K) -> bool:
        """Tell whether what was last fetched of this key is still good, also that there is none."""
        return key in self._found or key in self._absent

    def among(self, keys: AbstractSet[K]) -> set[K]:
        """Return those of `keys` that anything may be known of; many that nothing is known of cost next to nothing."""
        return keys & self._names.keys()

    def begin(self, key: K) -> None:
        """Have the fact fetched if need be, for a `get` that comes soon."""
        if not self.knows(key) and key not in self._running:
            self._start(key)

    async def get(self, key: K) -> V | None:
        """Return the fact, fetched first if need be, once for all who ask; raises what the fetch raises."""
        if (entry := self._found.get(key)) is not None:
            return entry[1]
        if key in self._absent:
            return None
        while True:
            flight = self._running.get(key) or self._start(key)
            # A caller who goes away must not take the fetch from the others.
            value: V | None = await asyncio.shield(flight.answer)
            if not flight.overtaken:
                return value

    def forget(self, key: K) -> None:
        """Drop what is known of a key, also what is just being fetched; costs the same whether anything is."""
        if key not in self._names:
            return
        del self._names[key]
        self._found.pop(key, None)
        self._absent.pop(key, None)
        if (flight := self._running.pop(key, None)) is not None:
            flight.overtaken = True

    def forget_all(self) -> None:
        """Drop everything."""
        # New ones, because these empty themselves one entry at a time.
        self._found, self._absent = self._new_caches()
        for flight in self._running.values():
            flight.overtaken = True
        self._running.clear()
        self._names.clear()

    def _start(self, key: K) -> "_Flight":
        flight = self._running[key] = _Flight()
        self._name(key)
        self._tasks.start(self._load(key, flight), name="load a fact")
        return flight

    def _name(self, key: K) -> None:
        self._names[key] = None
        self._names.move_to_end(key)
        for _ in range(2):
            if len(self._names) > 2 * MOST_ENTRIES:
                oldest = next(iter(self._names))
                if oldest in self._found:
                    self._names.move_to_end(oldest)
                else:
                    self.forget(oldest)

    def _new_caches(self) -> "tuple[TLRUCache[K, tuple[float, V]], TLRUCache[K, float]]":
        found: TLRUCache[K, tuple[float, V]] = TLRUCache(
            MOST_ENTRIES, ttu=lambda _key, entry, _now: entry[0] + self._ttl, timer=self._ticks
        )
        absent: TLRUCache[K, float] = TLRUCache(
            MOST_ENTRIES, ttu=lambda _key, started, _now: started + self._absent_ttl, timer=self._ticks
        )
        return found, absent

    async def _load(self, key: K, flight: "_Flight") -> None:
        started = self._ticks()
        self.fetches += 1
        try:
            value = await self._fetch(key)
        except Exception as exc:  # noqa: BLE001 - whatever it was, it reaches everybody who waits
            self._land(key, flight)
            if flight.overtaken:
                # It failed at what has changed since; whoever waits asks anew.
                flight.answer.set_result(None)
                return
            flight.answer.set_exception(exc)
            flight.answer.exception()  # nobody may be waiting any more
            return
        except asyncio.CancelledError:
            self._land(key, flight)
            flight.overtaken = False
            flight.answer.set_exception(StoreError("the gateway is closing"))
            flight.answer.exception()
            raise
        self._land(key, flight)
        flight.answer.set_result(value)
        if flight.overtaken:
            return
        if value is None:
            self._absent[key] = started
        else:
            self._found[key] = (started, value)

    def _land(self, key: K, flight: "_Flight") -> None:
        if self._running.get(key) is flight:
            del self._running[key]


class _Flight:
    """One fetch that others may wait for; overtaken when what it fetches changed meanwhile."""

    __slots__ = ("answer", "overtaken")

    def __init__(self) -> None:
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.overtaken = False
