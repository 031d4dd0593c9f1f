"""The fact cache: what the store says of an account, an assumption, a staff member, for a bounded time.

Facts are cached, decisions never. An entry's age counts from the *start* of its fetch, on a clock that goes on while
the machine sleeps, and no hit renews it. A fetch that fails, is cancelled, or was overtaken by a change leaves
nothing behind.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cachetools import TLRUCache

from gateway.clock import Ticks
from gateway.stores.store import AccountRecord, Store, StoreError
from gateway.tasks import Tasks
from policy.grants import grant_in_force
from policy.model import (
    Account,
    AccountId,
    ActorId,
    Assumption,
    AssumptionClaims,
    AssumptionId,
    Facts,
    Grant,
    Permission,
    Staff,
)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_MOST_ENTRIES = 4096


class FactCache:
    """Loads the facts of a request; raises StoreError when they cannot be had."""

    def __init__(
        self,
        store: Store,
        *,
        ttl_seconds: float,
        absent_ttl_seconds: float,
        trial_permissions: frozenset[Permission],
        ticks: Ticks,
        tasks: Tasks,
    ) -> None:
        def table(fetch: Callable[[K], Coroutine[Any, Any, V | None]]) -> "_Table[K, V]":
            return _Table(fetch, ttl_seconds, absent_ttl_seconds, ticks, tasks)

        self._trial = trial_permissions
        self._changes = 0
        self._ticks = ticks
        self._ttl = ttl_seconds
        self._together: dict[tuple[AccountId, AssumptionId, ActorId], _Together] = {}
        """Facts as they were put together, for as long as each of them is good and nothing was forgotten."""
        self._accounts: _Table[AccountId, AccountRecord] = table(store.find_account)
        self._assumptions: _Table[AssumptionId, Assumption] = table(store.find_assumption)
        self._staff: _Table[ActorId, Staff] = table(store.find_staff)

    async def of_request(self, account: AccountId, claims: AssumptionClaims) -> Facts:
        """Return the facts for a request to `account` with a token that says `claims`, all of them true together.

        Nothing was forgotten between their loading and the return, so whoever decides before the next await decides
        on what every change so far has left.
        """
        return await self._load(account, claims.actor, claims.assumption)

    def at_hand(self, account: AccountId, claims: AssumptionClaims) -> Facts | None:
        """Return the same facts without waiting, if all of them are known already."""
        key = (account, claims.assumption, claims.actor)
        kept = self._together.get(key)
        if kept is not None and kept.changes == self._changes and self._ticks() < kept.until:
            return kept.facts
        record = self._accounts.at_hand(account)
        started = self._assumptions.at_hand(claims.assumption)
        staff = self._staff.at_hand(claims.actor)
        if record is None or started is None or staff is None:
            return None
        if len(self._together) >= _MOST_ENTRIES:
            self._together.clear()
        facts = self.facts(record[1], assumption=started[1], staff=staff[1])
        until = min(record[0], started[0], staff[0]) + self._ttl
        self._together[key] = _Together(facts=facts, changes=self._changes, until=until)
        return facts

    async def of_exchange(self, account: AccountId, actor: ActorId) -> Facts:
        """Return the facts for starting an assumption; likewise."""
        return await self._load(account, actor, None)

    async def _load(self, account: AccountId, actor: ActorId, assumption: AssumptionId | None) -> Facts:
        while True:
            seen = self._changes
            record = await self._accounts.get(account)
            started = await self._assumptions.get(assumption) if assumption is not None else None
            staff = await self._staff.get(actor)
            # A change while one fact was awaited may have been of another that was at hand already.
            if seen == self._changes:
                return self.facts(record, assumption=started, staff=staff)

    def facts(self, record: AccountRecord | None, *, assumption: Assumption | None, staff: Staff | None) -> Facts:
        """Put facts together; the grant is the one in force."""
        account: Account | None = record.account if record else None
        return Facts(account=account, grant=self.grant_of(record), assumption=assumption, staff=staff)

    def grant_of(self, record: AccountRecord | None) -> Grant | None:
        """Return the grant in force, a trial's implicit one included."""
        return grant_in_force(record.account, record.grant, self._trial) if record else None

    def renew(self, trial_permissions: Iterable[Permission]) -> None:
        """Give trial accounts these permissions, also to whoever waits for a fact just now."""
        self._trial = frozenset(trial_permissions)
        self.forget_all()

    def forget_account(self, account: AccountId) -> None:
        """Drop what is known of an account, also what is just being fetched."""
        self._changes += 1
        self._accounts.forget(account)

    def forget_assumption(self, assumption: AssumptionId) -> None:
        """Drop what is known of an assumption."""
        self._changes += 1
        self._assumptions.forget(assumption)

    def forget_staff(self, actor: ActorId) -> None:
        """Drop what is known of a staff member."""
        self._changes += 1
        self._staff.forget(actor)

    def forget_all(self) -> None:
        """Drop everything: something changed, and it is not known what."""
        self._changes += 1
        for table in (self._accounts, self._assumptions, self._staff):
            table.forget_all()


class _Table(Generic[K, V]):
    """One kind of fact, by key; absent answers have a cache of their own, so they never push out real ones."""

    def __init__(
        self,
        fetch: Callable[[K], Coroutine[Any, Any, V | None]],
        ttl: float,
        absent_ttl: float,
        ticks: Ticks,
        tasks: Tasks,
    ) -> None:
        self._fetch = fetch
        self._ticks = ticks
        self._tasks = tasks
        self._found: TLRUCache[K, tuple[float, V]] = TLRUCache(
            _MOST_ENTRIES, ttu=lambda _key, entry, _now: entry[0] + ttl, timer=ticks
        )
        self._absent: TLRUCache[K, float] = TLRUCache(
            _MOST_ENTRIES, ttu=lambda _key, started, _now: started + absent_ttl, timer=ticks
        )
        self._running: dict[K, _Flight] = {}

    def at_hand(self, key: K) -> tuple[float, V] | None:
        """Return when the fetch of a fact began, and the fact."""
        return self._found.get(key)

    async def get(self, key: K) -> V | None:
        if (entry := self._found.get(key)) is not None:
            return entry[1]
        if key in self._absent:
            return None
        while True:
            flight = self._running.get(key)
            if flight is None:
                flight = self._running[key] = _Flight()
                self._tasks.start(self._load(key, flight), name="load a fact")
            # A caller who goes away must not take the fetch from the others.
            value: V | None = await asyncio.shield(flight.answer)
            if not flight.overtaken:
                return value

    def forget(self, key: K) -> None:
        self._found.pop(key, None)
        self._absent.pop(key, None)
        if (flight := self._running.pop(key, None)) is not None:
            flight.overtaken = True

    def forget_all(self) -> None:
        for key in {*self._found, *self._absent, *self._running}:
            self.forget(key)

    async def _load(self, key: K, flight: "_Flight") -> None:
        started = self._ticks()
        try:
            value = await self._fetch(key)
        except Exception as exc:  # noqa: BLE001 - whatever it was, it reaches everybody who waits
            self._land(key, flight)
            flight.answer.set_exception(exc)
            flight.answer.exception()  # nobody may be waiting any more
            return
        except asyncio.CancelledError:
            self._land(key, flight)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Together:
    """The facts of a request, and how long they are good."""

    facts: Facts
    changes: int
    until: float


class _Flight:
    """One fetch that others may wait for; overtaken when what it fetches changed meanwhile."""

    __slots__ = ("answer", "overtaken")

    def __init__(self) -> None:
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.overtaken = False
