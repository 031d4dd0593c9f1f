"""What is going on in all accounts at one moment, read from the store at most once a second for all who look."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from gateway.clock import Clock, Ticks
from gateway.console.security.allowed import SLICE, Allowed
from gateway.console.security.open_now import OpenNow
from gateway.stores.store import AccountRecord, KillSwitch, Store
from policy.grants import end_of, grant_in_force
from policy.model import AccountId, Assumption, Grant, Permission

T = TypeVar("T")
_FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """An assumption that is live."""

    assumption: Assumption
    name: str
    """Of who stands in."""
    until: datetime
    suspended: bool
    """Whether the account is, so that nothing can be done by it until that is resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All of it, of every account or of one."""

    at: datetime
    position: int
    """The store's, before anything was read: what has changed since may or may not be in here."""
    switch: KillSwitch
    inside: Sequence[Inside]
    """Oldest first."""
    allowed: Sequence[Allowed]
    """By account."""
    trials: Sequence[AccountId]
    """Accounts that can always be assumed because they are trials."""

    def narrowed(self, *, account: str | None) -> "Scene":
        """Return what of it is of this account, all of it for None."""
        if account is None:
            return self
        return replace(
            self,
            inside=[one for one in self.inside if one.assumption.account == account],
            allowed=_one(self.allowed, account, key=lambda one: one.account),
            trials=_one(self.trials, account, key=str),
        )

    async def about(self, words: str) -> "Scene":
        """Return what of it speaks of all of these words, in whatever letters; requests have their turn meanwhile."""
        wanted = words.casefold().split()
        if not wanted:
            return self
        return replace(
            self,
            inside=await _find(wanted, self.inside, lambda one: "\n".join(_words_of(one)).casefold()),
            allowed=await _find(wanted, self.allowed, lambda one: one.words),
            trials=await _find(wanted, self.trials, str.casefold),
        )


class Scenes:
    """Reads scenes; whoever asks while one is read waits for that one."""

    def __init__(
        self,
        store: Store,
        *,
        trial_permissions: frozenset[Permission],
        position: Callable[[], int],
        clock: Clock,
        ticks: Ticks,
    ) -> None:
        self._open = OpenNow(store, ticks=ticks)
        self._store = store
        self._trial = trial_permissions
        self._position = position
        self._clock = clock
        self._ticks = ticks
        self._reading = asyncio.Lock()
        self._read_at = 0.0
        self._scene: Scene | None = None

    async def now(self) -> Scene:
        """Return one that is a second old at the most, and of no older position than now's; raises StoreError."""
        async with self._reading:
            scene = self._scene
            is_old = self._ticks() - self._read_at >= _FRESH_SECONDS
            if scene is None or scene.position < self._position() or is_old:
                began = self._ticks()
                scene = self._scene = await self._read()
                self._read_at = began
        return scene

    def forget(self) -> None:
        """Read anew for the next who asks: something was changed just now."""
        self._scene = None

    async def _read(self) -> Scene:
        switch = await self._store.find_kill_switch()
        now = self._clock()
        position = await self._open.catch_up(at=now)
        records, names = self._open.records, self._open.names
        inside = [
            Inside(
                assumption=one,
                name=names.get(one.actor, one.actor.subject),
                until=end_of(one, grant),
                suspended=records[one.account].account.suspended,
            )
            for one in self._open.assumptions
            if (grant := self._holds(one, records.get(one.account), now)) is not None
        ]
        allowed, trials = self._open.allowed.show()
        return Scene(at=now, position=position, switch=switch, inside=inside, allowed=allowed, trials=trials)

    def _holds(self, one: Assumption, record: AccountRecord | None, now: datetime) -> Grant | None:
        """Return the grant that an assumption lives by; None if it lives no more, whoever has or has not ended it."""
        if record is None:
            return None
        grant = grant_in_force(record.account, record.grant, self._trial)
        return grant if grant is not None and grant.id == one.grant_id and grant.is_live(now) else None


def _words_of(one: Inside) -> tuple[str, ...]:
    it = one.assumption
    return (it.account, it.subject, one.name, it.actor.subject, it.ticket or "", it.reason or "", it.id)


def _one(found: Sequence[T], account: str, *, key: Callable[[T], str]) -> Sequence[T]:
    """Return the one of an account, of those that are in the order of accounts."""
    place = bisect_left(found, account, key=key)
    return [one for one in found[place : place + 1] if key(one) == account]


async def _find(wanted: Sequence[str], among: Sequence[T], said: Callable[[T], str]) -> Sequence[T]:
    found: list[T] = []
    for start in range(0, len(among), SLICE):
        await asyncio.sleep(0)
        part = [(one, said(one)) for one in among[start : start + SLICE]]
        found += [one for one, text in part if all(word in text for word in wanted)]
    return found
