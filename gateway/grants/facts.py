"""The fact cache: what the store says of an account, an assumption, a staff member, for a bounded time.

Facts are cached, decisions never. An entry's age counts from the *start* of its fetch, on a clock that goes on while
the machine sleeps, and no hit renews it. A fetch that fails, is cancelled, or was overtaken by a change leaves
nothing behind.
"""

from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Final, TypeVar

from cachetools import LRUCache

from gateway.clock import Ticks
from gateway.grants.patience import FACTS_SECONDS
from gateway.grants.table import FactTable
from gateway.grants.together import Assembled, Parts, Together
from gateway.stores.browsing import BrowserAssumption
from gateway.stores.store import AccountRecord, KillSwitch, Store, StoreError
from gateway.tasks import Tasks
from policy.grants import grant_in_force
from policy.model import (
    Account,
    AccountId,
    ActorId,
    Assumption,
    AssumptionClaims,
    AssumptionId,
    DenyReason,
    Facts,
    Grant,
    Permission,
    Rules,
    Staff,
)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_MOST_EPOCHS = 65536
_MARKS = 1024
_MOST_TRIES = 16
_SWITCH: Final = "the kill-switch"


class FactCache:
    """Loads the facts of a request; raises StoreError when they cannot be had.

    An account whose epoch is lower than one that was seen in this process is an older truth, and is not had either.
    """

    def __init__(
        self,
        store: Store,
        *,
        ttl_seconds: float,
        absent_ttl_seconds: float,
        trial_permissions: frozenset[Permission],
        rules: Rules,
        ticks: Ticks,
        tasks: Tasks,
        patience_seconds: float = FACTS_SECONDS,
    ) -> None:
        """Ask `store`; see `renew` for accounts that are kept elsewhere."""
        self.patience_seconds = patience_seconds
        """How long staff are to wait for facts; whoever asks for them sees to that."""

        def table(fetch: Callable[[K], Coroutine[Any, Any, V | None]]) -> FactTable[K, V]:
            return FactTable(fetch, ttl=ttl_seconds, absent_ttl=absent_ttl_seconds, ticks=ticks, tasks=tasks)

        async def switch_of(_key: str) -> KillSwitch | None:
            return await store.find_kill_switch()

        self._trial = trial_permissions
        self._rules = rules
        self._ticks = ticks
        self._ttl = ttl_seconds
        self._halted: DenyReason | None = None
        self._find_account: Callable[[AccountId], Awaitable[AccountRecord | None]] = store.find_account
        self._epochs: LRUCache[AccountId, int] = LRUCache(_MOST_EPOCHS)
        """The highest that was seen of each account."""
        self._marks = _Marks()
        self._assembled = Assembled()
        self._together = self._assembled.entries
        self._switch: FactTable[str, KillSwitch] = table(switch_of)
        self._accounts: FactTable[AccountId, AccountRecord] = table(self._fetch_account)
        self._assumptions: FactTable[AssumptionId, Assumption] = table(store.find_assumption)
        self._staff: FactTable[ActorId, Staff] = table(store.find_staff)
        self._browsers: FactTable[bytes, BrowserAssumption] = table(store.find_browser)

    def __len__(self) -> int:
        """Count the entries of every kind, which stay within a bound whatever is asked for."""
        tables = (self._together, self._switch, self._accounts, self._assumptions, self._staff, self._browsers)
        return sum(len(table) for table in tables)

    def fetches(self) -> dict[str, int]:
        """Return how often facts of each kind were asked for where they are kept."""
        return {
            "kill_switch": self._switch.fetches,
            "account": self._accounts.fetches,
            "assumption": self._assumptions.fetches,
            "staff": self._staff.fetches,
            "browser": self._browsers.fetches,
        }

    async def of_request(self, account: AccountId, claims: AssumptionClaims) -> Facts:
        """Return the facts for a request to `account` with a token that says `claims`, all of them true together.

        Nothing was forgotten between their loading and the return, so whoever decides before the next await decides
        on what every change so far has left.
        """
        return await self._load(account, claims.actor, claims.assumption)

    def at_hand(self, account: AccountId, claims: AssumptionClaims) -> Facts | None:
        """Return the same facts without waiting, if all of them are known already."""
        kept = self._together.get((account, claims.assumption, claims.actor))
        if kept is not None and self._ticks() < kept.until:
            return kept.facts
        return self._put_together(Parts(account, claims.assumption, claims.actor))

    def entry(self, parts: Parts) -> Together | None:
        """Return what `at_hand` would, with until when it is good."""
        kept = self._together.get(parts)
        if kept is not None and self._ticks() < kept.until:
            return kept
        return None if self._put_together(parts) is None else self._together.get(parts)

    async def of_exchange(self, account: AccountId, actor: ActorId) -> Facts:
        """Return the facts for starting an assumption; likewise."""
        return await self._load(account, actor, None)

    async def browser(self, digest: bytes) -> BrowserAssumption | None:
        """Return what a browser holds by a cookie: only what it claims, which the other facts have to bear out."""
        return await self._browsers.get(digest)

    def browser_at_hand(self, digest: bytes) -> BrowserAssumption | None:
        """Return the same without waiting, if it is known already."""
        kept = self._browsers.at_hand(digest)
        return None if kept is None else kept[1]

    def forget_browser(self, digest: bytes) -> None:
        """Drop what is known of it."""
        self._browsers.forget(digest)

    def _put_together(self, parts: Parts) -> Facts | None:
        switch = self._switch.at_hand(_SWITCH)
        record = self._accounts.at_hand(parts.account)
        started = self._assumptions.at_hand(parts.assumption)
        staff = self._staff.at_hand(parts.actor)
        if self._halted is not None or switch is None or record is None or started is None or staff is None:
            return None
        facts = self._facts(switch[1], record[1], assumption=started[1], staff=staff[1])
        until = min(switch[0], record[0], started[0], staff[0]) + self._ttl
        self._assembled.put(parts, Together(facts=facts, until=until))
        return facts

    async def _load(self, account: AccountId, actor: ActorId, assumption: AssumptionId | None) -> Facts:
        for _ in range(_MOST_TRIES):
            if self._halted is not None:
                return _nobody(self._halted)
            seen = self._marks.of(account, assumption, actor)
            if (known := self._switch.at_hand(_SWITCH)) is not None and known[1].on:
                return _nobody(DenyReason.KILL_SWITCH)
            # All at once, because each is a way to the store and back.
            self._staff.begin(actor)
            self._switch.begin(_SWITCH)
            if assumption is not None:
                self._assumptions.begin(assumption)
            record = await self._accounts.get(account)
            started = await self._assumptions.get(assumption) if assumption is not None else None
            staff = await self._staff.get(actor)
            switch = await self._switch.get(_SWITCH)
            # While one fact was awaited, another that was at hand may have changed, or have grown too old.
            good = self._accounts.knows(account) and self._staff.knows(actor) and self._switch.knows(_SWITCH)
            good = good and (assumption is None or self._assumptions.knows(assumption))
            if good and seen == self._marks.of(account, assumption, actor):
                return self._facts(switch, record, assumption=started, staff=staff)
        raise StoreError("the store is too slow for its answers to be of the same moment")

    async def _fetch_account(self, account: AccountId) -> AccountRecord | None:
        record = await self._find_account(account)
        if record is not None:
            if record.account.epoch < self._epochs.get(account, 0):
                raise StoreError(f"the store has an older copy of the account `{account}` than it had before")
            self.saw(record)
        return record

    def _facts(
        self,
        switch: KillSwitch | None,
        record: AccountRecord | None,
        *,
        assumption: Assumption | None,
        staff: Staff | None,
    ) -> Facts:
        """Put facts together; the grant is the one in force."""
        account: Account | None = record.account if record else None
        halted = DenyReason.KILL_SWITCH if switch is None or switch.on else None
        grant = self.grant_of(record)
        return Facts(account=account, grant=grant, assumption=assumption, staff=staff, halted=halted, rules=self._rules)

    def grant_of(self, record: AccountRecord | None) -> Grant | None:
        """Return the grant in force, a trial's implicit one included."""
        return grant_in_force(record.account, record.grant, self._trial) if record else None

    def renew(
        self,
        trial_permissions: Iterable[Permission],
        find_account: Callable[[AccountId], Awaitable[AccountRecord | None]] | None = None,
        rules: Rules | None = None,
    ) -> None:
        """Give trial accounts these permissions, judge by `rules` and ask `find_account` if given.

        Also for whoever waits just now.
        """
        self._trial = frozenset(trial_permissions)
        self._rules = rules or self._rules
        self._find_account = find_account or self._find_account
        self.forget_all()

    def halt(self, reason: DenyReason | None) -> None:
        """Have all facts say that nobody is let in, for this reason, until told None; also for whoever waits now."""
        self._halted = reason
        self.forget_all()

    def saw(self, record: AccountRecord) -> None:
        """Believe nothing older of this account from now on."""
        account = record.account
        self._epochs[account.id] = max(account.epoch, self._epochs.get(account.id, 0))

    def believe_anew(self) -> None:
        """Believe whatever the store says from now on, also what is older than what was seen."""
        self._epochs.clear()
        self.forget_all()

    def accounts_among(self, accounts: AbstractSet[AccountId]) -> set[AccountId]:
        """Return those that anything is known of; many others cost next to nothing."""
        return self._accounts.among(accounts) | self._assembled.accounts_among(accounts)

    def assumptions_among(self, assumptions: AbstractSet[AssumptionId]) -> set[AssumptionId]:
        """Likewise."""
        return self._assumptions.among(assumptions) | self._assembled.assumptions_among(assumptions)

    def staff_among(self, actors: AbstractSet[ActorId]) -> set[ActorId]:
        """Likewise."""
        return self._staff.among(actors) | self._assembled.actors_among(actors)

    def forget_account(self, account: AccountId) -> None:
        """Drop what is known of an account, also what is just being fetched."""
        self._marks.change(account)
        self._accounts.forget(account)
        self._assembled.drop_account(account)

    def forget_assumption(self, assumption: AssumptionId) -> None:
        """Drop what is known of an assumption."""
        self._marks.change(assumption)
        self._assumptions.forget(assumption)
        self._assembled.drop_assumption(assumption)

    def forget_staff(self, actor: ActorId) -> None:
        """Drop what is known of a staff member."""
        self._marks.change(actor)
        self._staff.forget(actor)
        self._assembled.drop_actor(actor)

    def forget_all(self) -> None:
        """Drop everything: something changed, and it is not known what."""
        self._marks.change_all()
        self._assembled.clear()
        for table in (self._switch, self._accounts, self._assumptions, self._staff, self._browsers):
            table.forget_all()


class _Marks:
    """Tells whether one of some keys has changed since, in a bounded place: other keys may share a mark.

    Who shares one looks once more than needed, and no harm is done.
    """

    def __init__(self) -> None:
        self._marks = [0] * _MARKS
        self._all = 0

    def of(self, *keys: Hashable) -> tuple[int, ...]:
        return (self._all, *(self._marks[hash(key) % _MARKS] for key in keys))

    def change(self, key: Hashable) -> None:
        self._marks[hash(key) % _MARKS] += 1

    def change_all(self) -> None:
        self._all += 1


def _nobody(reason: DenyReason) -> Facts:
    return Facts(account=None, grant=None, assumption=None, staff=None, halted=reason)
