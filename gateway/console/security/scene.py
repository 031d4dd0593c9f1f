"""What is going on in all accounts at one moment, read from the store at most once a second for all who look."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.clock import Clock, Ticks
from gateway.console.account.view import end_of
from gateway.console.security.open_now import OpenNow
from gateway.stores.store import AccountRecord, KillSwitch, Store
from policy.grants import GrantState, grant_in_force, state
from policy.model import AccountId, AccountType, Assumption, Grant, Permission

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
class Allowed:
    """A paid account that lets staff stand in."""

    account: AccountId
    grant: Grant
    suspended: bool


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

    def narrowed(self, *, words: str = "", account: str = "") -> "Scene":
        """Return what of it speaks of all of these words, in whatever letters, and is of this account."""
        wanted = words.casefold().split()
        return Scene(
            at=self.at,
            position=self.position,
            switch=self.switch,
            inside=[
                one
                for one in self.inside
                if account in ("", one.assumption.account) and _speaks(wanted, _words_of(one.assumption, one.name))
            ],
            allowed=[
                one
                for one in self.allowed
                if account in ("", one.account) and _speaks(wanted, (one.account, one.grant.given_by))
            ],
            trials=[one for one in self.trials if account in ("", one) and _speaks(wanted, (one,))],
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
        allowed = [
            Allowed(account=account, grant=record.grant, suspended=record.account.suspended)
            for account, record in sorted(records.items())
            if record.grant is not None and state(record.account, record.grant, now) is GrantState.ON
        ]
        trials = sorted(account for account, record in records.items() if record.account.type is AccountType.TRIAL)
        return Scene(at=now, position=position, switch=switch, inside=inside, allowed=allowed, trials=trials)

    def _holds(self, one: Assumption, record: AccountRecord | None, now: datetime) -> Grant | None:
        """Return the grant that an assumption lives by; None if it lives no more, whoever has or has not ended it."""
        if record is None:
            return None
        grant = grant_in_force(record.account, record.grant, self._trial)
        return grant if grant is not None and grant.id == one.grant_id and grant.is_live(now) else None


def _words_of(one: Assumption, name: str) -> tuple[str, ...]:
    return (one.account, one.subject, name, one.actor.subject, one.ticket or "", one.reason or "", one.id)


def _speaks(wanted: Sequence[str], said: Sequence[str]) -> bool:
    text = "\n".join(said).casefold()
    return all(word in text for word in wanted)
