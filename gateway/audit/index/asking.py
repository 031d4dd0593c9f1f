"""Questions about the log, for whoever serves others meanwhile: never on the event loop, and never for long."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from gateway.audit.hand import Hand
from gateway.audit.index.database import IndexUnusable
from gateway.audit.index.finding import Finder, Lag, Page, Tally
from gateway.audit.index.overview import Overview
from gateway.audit.pace import Pace
from gateway.audit.search.query import Query
from gateway.clock import Clock, utc_now

T = TypeVar("T")
_MOST_AT_ONCE = 2
_WAIT_SECONDS = 3.0
"""Longer than one question may take, or whoever comes behind a costly one would be turned away."""


class Busy(Exception):
    """As many are asking as may at a time: try again in a moment."""


class IndexTurns:
    """Who asks at a time: two, and one of those who may know of one account only, so that they keep nobody else out."""

    def __init__(self, *, seconds: float = _WAIT_SECONDS) -> None:
        """Let each wait for so many seconds."""
        self._seconds = seconds
        self._all = asyncio.Semaphore(_MOST_AT_ONCE)
        self._limited = asyncio.Semaphore(_MOST_AT_ONCE - 1)

    async def take(self, account: str | None) -> None:
        """Take a turn until `give_back`; raises Busy."""
        try:
            async with asyncio.timeout(self._seconds):
                await self.wait(account)
        except TimeoutError as exc:
            raise Busy("others are asking: try again in a moment") from exc

    async def wait(self, account: str | None) -> None:
        """Take a turn until `give_back`, however long it takes until there is one."""
        if account is None:
            await self._all.acquire()
            return
        async with AsyncExitStack() as stack:
            await self._limited.acquire()
            stack.callback(self._limited.release)
            await self._all.acquire()
            stack.pop_all()

    def give_back(self, account: str | None) -> None:
        """Let the next one ask."""
        self._all.release()
        if account is not None:
            self._limited.release()


class AskersTurns:
    """One question at a time of each asker, so that nobody takes all turns that there are."""

    def __init__(self, *, seconds: float = _WAIT_SECONDS) -> None:
        """Let their others wait for so many seconds."""
        self._seconds = seconds
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, asker: str) -> AsyncIterator[None]:
        """Have their turn in the block; raises Busy."""
        lock = self._locks.setdefault(asker, asyncio.Lock())
        try:
            async with asyncio.timeout(self._seconds):
                await lock.acquire()
        except TimeoutError as exc:
            raise Busy("another search of yours is under way: try again in a moment") from exc
        try:
            yield
        finally:
            lock.release()


class LogIndex(Protocol):
    """The records of a journal, however they are kept.

    With `account`, every answer is of that account's records only, whatever the query says. With it comes how far the
    index was behind the journal's files, None where that cannot be known. Every call raises TooCostly,
    IndexUnusable and Busy.
    """

    async def search(
        self, query: Query, *, limit: int, before: int | None, after: int | None, account: str | None
    ) -> tuple[Page, Lag | None]:
        """See `gateway.audit.index.finding.Finder.search`."""

    async def stats(self, query: Query, *, account: str | None, less: Query | None = None) -> tuple[Tally, Lag | None]:
        """See `gateway.audit.index.finding.Finder.stats`."""

    async def overview(
        self, query: Query, *, step: int, account: str | None, less: Query | None = None
    ) -> tuple[Overview, Lag | None]:
        """See `gateway.audit.index.finding.Finder.overview`."""


class FileIndex(LogIndex):
    """The index beside the journal's directory; few ask at a time, each in a thread of its own."""

    def __init__(self, journal: Path, path: Path, *, clock: Clock = utc_now) -> None:
        """Open nothing yet."""
        self._journal = journal
        self._clock = clock
        self._path = path
        self._turns = IndexTurns()

    async def search(
        self, query: Query, *, limit: int, before: int | None, after: int | None, account: str | None
    ) -> tuple[Page, Lag]:
        return await self._ask(
            account, lambda finder: finder.search(query, limit=limit, before=before, after=after, account=account)
        )

    async def stats(self, query: Query, *, account: str | None, less: Query | None = None) -> tuple[Tally, Lag]:
        return await self._ask(account, lambda finder: finder.stats(query, account=account, less=less))

    async def overview(
        self, query: Query, *, step: int, account: str | None, less: Query | None = None
    ) -> tuple[Overview, Lag]:
        return await self._ask(account, lambda finder: finder.overview(query, step=step, account=account, less=less))

    async def _ask(self, account: str | None, question: Callable[[Finder], T]) -> tuple[T, Lag]:
        await self._turns.take(account)
        # Whoever hangs up does not free the thread, so the turn is given back by the thread's end.
        hand = Hand("log-question")
        work = hand.run(lambda: self._answer(question))
        hand.stop()
        work.add_done_callback(partial(self._done, account))
        return await asyncio.shield(work)

    def _answer(self, question: Callable[[Finder], T]) -> tuple[T, Lag]:
        try:
            with Finder(self._journal, self._path, clock=self._clock, pace=Pace()) as finder:
                return question(finder), finder.lag()
        except OSError as exc:
            raise IndexUnusable(f"the journal's files cannot be read: {exc.strerror}") from exc

    def _done(self, account: str | None, work: "asyncio.Future[tuple[T, Lag]]") -> None:
        self._turns.give_back(account)
        if not work.cancelled():
            work.exception()
