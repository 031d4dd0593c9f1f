"""Whose turn it is to ask the log: each account from a share of its own, so that whoever searches a lot waits alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from gateway.audit.index.asking import Busy
from gateway.clock import Ticks
from policy.model import AccountId

_AT_ONCE: Final = 1
"""Of all accounts in this process: fewer than the index answers, so that auditors and the vendor's own are heard."""
_MOST_WAITING: Final = 4
"""Of one account, the one whose turn it is included."""
LONGEST_WAIT_SECONDS: Final = 5.0
MOST_SECONDS: Final = 10.0
"""So long may questions of one account take together at a stretch; what was used comes back in a minute."""
_BACK_A_SECOND: Final = MOST_SECONDS / 60
_MOST_IDLE: Final = 1024


@dataclass(slots=True)
class _Share:
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    users: int = 0
    used: float = 0.0
    """The seconds that questions have taken, less what has come back until `at`."""
    at: float = 0.0

    def used_by(self, now: float) -> float:
        return max(0.0, self.used - (now - self.at) * _BACK_A_SECOND)


class Turns:
    """Hands out turns in the order of asking; an account has one at a time, and so many seconds a minute."""

    def __init__(self, ticks: Ticks) -> None:
        self._ticks = ticks
        self._all = asyncio.Semaphore(_AT_ONCE)
        self._shares: dict[AccountId, _Share] = {}

    def charge(self, account: AccountId, seconds: float) -> None:
        """Count so many seconds as used; raises Busy if the account has had its share."""
        share, now = self._shares.setdefault(account, _Share()), self._ticks()
        used = share.used_by(now)
        if used >= MOST_SECONDS:
            raise Busy("your account has searched a lot just now: try again in a minute")
        share.used, share.at = used + seconds, now

    @asynccontextmanager
    async def turn(self, account: AccountId) -> AsyncIterator[None]:
        """Have a turn until the block ends; raises Busy at once if the account has had its share, and after a while."""
        self.charge(account, 0.0)
        share = self._shares[account]
        if share.users >= _MOST_WAITING:
            raise Busy("others of your account are searching: try again in a moment")
        async with self._held(share, LONGEST_WAIT_SECONDS):
            yield

    @asynccontextmanager
    async def spare(self, account: AccountId) -> AsyncIterator[None]:
        """Have a turn that nobody else wants, for what a page asks by itself; raises Busy if there is none at once."""
        share = self._shares.setdefault(account, _Share())
        if share.users or self._all.locked() or share.used_by(self._ticks()) >= MOST_SECONDS / 2:
            raise Busy("others are searching")
        async with self._held(share, LONGEST_WAIT_SECONDS):
            yield

    @asynccontextmanager
    async def _held(self, share: _Share, seconds: float) -> AsyncIterator[None]:
        share.users += 1
        try:
            async with AsyncExitStack() as held:
                try:
                    async with asyncio.timeout(seconds):
                        await held.enter_async_context(share.turn)
                        await held.enter_async_context(self._all)
                except TimeoutError as exc:
                    raise Busy("many are searching: try again in a moment") from exc
                began = self._ticks()
                try:
                    yield
                finally:
                    now = self._ticks()
                    share.used, share.at = share.used_by(now) + now - began, now
        finally:
            share.users -= 1
            self._forget_idle()

    def _forget_idle(self) -> None:
        """Keep no share of an account that has not asked for long."""
        if len(self._shares) > _MOST_IDLE:
            now = self._ticks()
            kept = {account: share for account, share in self._shares.items() if share.users or share.used_by(now) > 0}
            self._shares = kept
