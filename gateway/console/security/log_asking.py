"""Asks the log for somebody at the console: it is on the record before they see anything, and of their account only."""

from collections.abc import Sequence
from typing import Any, Final

from gateway.audit.api.asked import AskedLog, Asker
from gateway.audit.index.asking import AskersTurns, Busy, LogIndex
from gateway.audit.index.database import IndexUnusable, TooCostly
from gateway.audit.index.finding import Found, Lag, Page, their_page
from gateway.audit.index.overview import Overview
from gateway.audit.index.places import id_at
from gateway.audit.search.account_part import elsewhere, of_theirs
from gateway.audit.search.query import Is, Query, Since, Term, Until
from gateway.audit.segment import Entry
from gateway.audit.times import time_of
from gateway.console.security.visit import Visit

FAULTS: Final = (TooCostly, Busy, IndexUnusable)
"""What the log may answer instead."""
_LATEST_END_SECONDS: Final = 900
_MOST_ENDS: Final = 500


class NoIndex(IndexUnusable):
    """There is none to ask."""


class LogReader:
    """Answers visitors from the index; what it raises beside FAULTS is StoreError and JournalError."""

    def __init__(self, index: LogIndex | None, asked: AskedLog) -> None:
        """Without an `index` every question is answered with NoIndex."""
        self._index = index
        self._asked = asked
        self._turns = AskersTurns()

    async def record(self, visit: Visit, reason: str, query: Query, text: str, **more: Any) -> None:
        """Put on the record what somebody is about to see; the same again within some minutes is there once."""
        await self._asked.record(_asker(visit), reason, query, text, **more)

    async def record_each(self, visit: Visit, reason: str, query: Query, **more: Any) -> None:
        """Put on the record what leaves with somebody, each time."""
        await self._asked.record_each(_asker(visit), reason, query, durable=True, **more)

    async def search(
        self, visit: Visit, query: Query, *, limit: int, before: int | None = None, after: int | None = None
    ) -> tuple[Page, Lag | None]:
        """Return a page, as `LogIndex.search` does, of what they may see (`gateway.audit.search.account_part`)."""
        query = query if visit.account is None else of_theirs(query)
        async with self._turns.turn(visit.person):
            page, lag = await self._of().search(query, limit=limit, before=before, after=after, account=visit.account)
        return page if visit.account is None else their_page(page), lag

    async def overview(self, visit: Visit, query: Query, *, step: int) -> Overview:
        """Return the counts, of what they may see."""
        async with self._turns.turn(visit.person):
            if visit.account is None:
                return (await self._of().overview(query, step=step, account=None))[0]
            query = of_theirs(query)
            less = elsewhere(query)
            return (await self._of().overview(query, step=step, account=visit.account, less=less))[0]

    async def find(self, visit: Visit, id_: int) -> list[Entry]:
        """Return the record with an id, or the few that share it; nothing if there is none that they may see."""
        page, _ = await self.search(visit, Query(()), limit=1, before=id_ + 1)
        return [one.entry for one in page.found if one.id == id_]

    async def ends_of(self, visit: Visit, found: Sequence[Found]) -> list[Entry]:
        """Return the records of how those exchanges ended, so far as they stand close behind and are not too many."""
        times = [at for one in found if one.entry.get("decision") == "allow" and (at := time_of(one.entry)) is not None]
        if not times:
            return []
        first, last = min(times), max(times) + _LATEST_END_SECONDS * 1_000_000
        query = Query(
            (
                Term(Is("kind", "completion"), negated=False),
                Term(Since(first), negated=False),
                Term(Until(last), negated=False),
            )
        )
        page, _ = await self.search(visit, query, limit=_MOST_ENDS, after=id_at(first) - 1)
        return [one.entry for one in page.found]

    def _of(self) -> LogIndex:
        if self._index is None:
            raise NoIndex("there is no index to ask: set `index = true` in [audit]")
        return self._index


def say(fault: Exception) -> str:
    """Return one of FAULTS in words."""
    if isinstance(fault, IndexUnusable) and not isinstance(fault, NoIndex):
        return "The index over the log cannot be read now, or is being made. Try again in a moment."
    text = str(fault)
    return f"{text[:1].upper()}{text[1:]}."


def _asker(visit: Visit) -> Asker:
    return Asker(client=visit.client, by=visit.id, account=visit.account, caller=visit.caller)
