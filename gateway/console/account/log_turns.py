"""Whose turn it is to ask the log: each account from a share of its own, and whoever has used the least goes first."""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from gateway.audit.index.asking import Busy
from gateway.clock import Ticks
from policy.model import AccountId

_MOST_WAITING: Final = 4
"""Of one account, the one whose turn it is included."""
LONGEST_WAIT_SECONDS: Final = 5.0
MOST_SECONDS: Final = 10.0
"""So long may questions of one account take together at a stretch; what was used comes back in a minute."""
_BACK_A_SECOND: Final = MOST_SECONDS / 60
_MOST_IDLE: Final = 1024
_REMEMBERED_SECONDS: Final = 600.0
"""In so long half of what somebody has used is forgotten, as far as it says who goes first."""
_FORGOTTEN: Final = 0.5


@dataclass(slots=True)
class _Share:
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    users: int = 0
    used: float = 0.0
    """The seconds that questions have taken, less what has come back until `at`."""
    past: float = 0.0
    """The same, as it is remembered: accounts that ask by turns have their shares back, and are known by this."""
    at: float = 0.0

    def add(self, seconds: float, now: float) -> None:
        self.used, self.past = self.used_by(now) + seconds, self.past_by(now) + seconds
        self.at = now

    def used_by(self, now: float) -> float:
        return max(0.0, self.used - (now - self.at) * _BACK_A_SECOND)

    def past_by(self, now: float) -> float:
        return float(self.past * 0.5 ** ((now - self.at) / _REMEMBERED_SECONDS))


class _Line:
    """One turn at a time; of those who wait, whoever has the lowest rank is next."""

    def __init__(self) -> None:
        self.is_taken = False
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    @asynccontextmanager
    async def turn(self, rank: float) -> AsyncIterator[None]:
        await self._take(rank)
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, rank: float) -> None:
        if not self.is_taken:
            self.is_taken = True
            return
        self._count += 1
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, self._count, called))
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled():
                # It came as they left.
                self._give_back()
            raise

    def _give_back(self) -> None:
        while self._waiting:
            *_, called = heapq.heappop(self._waiting)
            if not called.done():
                called.set_result(None)
                return
        self.is_taken = False


class Turns:
    """Hands out turns; an account has one at a time, and so many seconds a minute.

    First comes who has used the least: however many accounts ask a lot, one that does not waits for one question.
    """

    def __init__(self, ticks: Ticks) -> None:
        self._ticks = ticks
        self._all = _Line()
        self._shares: dict[AccountId, _Share] = {}

    def charge(self, account: AccountId, seconds: float) -> None:
        """Count so many seconds as used; raises Busy if the account has had its share."""
        share, now = self._shares.setdefault(account, _Share()), self._ticks()
        if share.used_by(now) >= MOST_SECONDS:
            raise Busy("your account has searched a lot just now: try again in a minute")
        share.add(seconds, now)

    def spend(self, account: AccountId, seconds: float) -> None:
        """Count so many seconds as used, for what was done already."""
        self._shares.setdefault(account, _Share()).add(seconds, self._ticks())

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
        if share.users or self._all.is_taken or share.used_by(self._ticks()) >= MOST_SECONDS / 2:
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
                        await held.enter_async_context(self._all.turn(share.past_by(self._ticks())))
                except TimeoutError as exc:
                    raise Busy("many are searching: try again in a moment") from exc
                began = self._ticks()
                try:
                    yield
                finally:
                    now = self._ticks()
                    share.add(now - began, now)
        finally:
            share.users -= 1
            self._forget_idle()

    def _forget_idle(self) -> None:
        """Keep no share of an account that has not asked for long."""
        if len(self._shares) > _MOST_IDLE:
            now = self._ticks()
            self._shares = {
                account: share
                for account, share in self._shares.items()
                if share.users or share.used_by(now) > 0 or share.past_by(now) > _FORGOTTEN
            }
