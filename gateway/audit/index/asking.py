"""Questions about the log, for whoever serves others meanwhile: never on the event loop, and never for long."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from gateway.audit.hand import Hand
from gateway.audit.index.database import IndexUnusable
from gateway.audit.index.finding import Finder, Lag, Page, Tally
from gateway.audit.index.overview import Overview
from gateway.audit.pace import Pace
from gateway.audit.search.query import Query
from gateway.clock import Clock, utc_now

T = TypeVar("T")
_MOST_AT_ONCE = 2
_WAIT_SECONDS = 2.0


class Busy(Exception):
    """As many are asking as may at a time: try again in a moment."""


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

    async def stats(self, query: Query, *, account: str | None) -> tuple[Tally, Lag | None]:
        """See `gateway.audit.index.finding.Finder.stats`."""

    async def overview(self, query: Query, *, step: int, account: str | None) -> tuple[Overview, Lag | None]:
        """See `gateway.audit.index.finding.Finder.overview`."""


class FileIndex(LogIndex):
    """The index beside the journal's directory; few ask at a time, each in a thread of its own."""

    def __init__(self, journal: Path, path: Path, *, clock: Clock = utc_now) -> None:
        """Open nothing yet."""
        self._journal = journal
        self._clock = clock
        self._path = path
        self._turns = asyncio.Semaphore(_MOST_AT_ONCE)

    async def search(
        self, query: Query, *, limit: int, before: int | None, after: int | None, account: str | None
    ) -> tuple[Page, Lag]:
        return await self._ask(
            lambda finder: finder.search(query, limit=limit, before=before, after=after, account=account)
        )

    async def stats(self, query: Query, *, account: str | None) -> tuple[Tally, Lag]:
        return await self._ask(lambda finder: finder.stats(query, account=account))

    async def overview(self, query: Query, *, step: int, account: str | None) -> tuple[Overview, Lag]:
        return await self._ask(lambda finder: finder.overview(query, step=step, account=account))

    async def _ask(self, question: Callable[[Finder], T]) -> tuple[T, Lag]:
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError as exc:
            raise Busy("others are asking: try again in a moment") from exc
        # Whoever hangs up does not free the thread, so the turn is given back by the thread's end.
        hand = Hand("log-question")
        work = hand.run(lambda: self._answer(question))
        hand.stop()
        work.add_done_callback(self._done)
        return await asyncio.shield(work)

    def _answer(self, question: Callable[[Finder], T]) -> tuple[T, Lag]:
        try:
            with Finder(self._journal, self._path, clock=self._clock, pace=Pace()) as finder:
                return question(finder), finder.lag()
        except OSError as exc:
            raise IndexUnusable(f"the journal's files cannot be read: {exc.strerror}") from exc

    def _done(self, work: "asyncio.Future[tuple[T, Lag]]") -> None:
        self._turns.release()
        if not work.cancelled():
            work.exception()
