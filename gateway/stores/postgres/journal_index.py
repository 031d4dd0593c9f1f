"""Searching the journals of all nodes in the shared database, over connections of its own.

What is found is judged again by the line itself, as with the index over files: see `gateway.audit.index.finding`.
"""

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from gateway.audit.index.asking import IndexTurns, LogIndex
from gateway.audit.index.database import IndexUnusable, TooCostly
from gateway.audit.index.finding import SECONDS, Found, Page, Tally
from gateway.audit.index.grouping import GROUPING
from gateway.audit.index.overview import Overview
from gateway.audit.index.places import IDS_A_DAY, id_at, time_at
from gateway.audit.index.settled import settled_id
from gateway.audit.search.account_part import take_out
from gateway.audit.search.query import Marked, Query
from gateway.audit.search.words import MANY
from gateway.audit.segment import read_entry
from gateway.clock import Clock, utc_now
from gateway.stores.postgres.address import Address
from gateway.stores.postgres.connect import Connection, Connector, bounded, translated
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.postgres.text import read_values, write_values
from gateway.stores.store import StoreError

_AT_ONCE = 500
_NO_LAG = None
"""How far each node is behind, only that node can tell, and its metrics do."""
# One that is away keeps nobody from following the others for longer.
_SHIPPED_THROUGH = "SELECT array_agg(through) FROM locum.journal_nodes WHERE heard_at > now() - interval '5 minutes'"
_SELECT = "SELECT id, segment, number, line FROM locum.journal_lines"
_FEW = 25_000
"""So many places are all looked up and put in order within a fifth of a second."""


class DatabaseIndex(LogIndex):
    """Asks the database; a question has a connection to itself, so none is in the way of a decision's facts."""

    def __init__(
        self,
        address: Address,
        terms: StoreTerms,
        *,
        seconds: float = SECONDS,
        clock: Clock = utc_now,
        few: int = _FEW,
    ) -> None:
        """Connect to nothing yet; of what the database takes to be no more than a `few`, it looks up all."""
        self._few = few
        self._clock = clock
        self._connector = Connector(address, terms)
        self._terms = terms
        self._seconds = seconds
        self._turns = IndexTurns(seconds=seconds)

    async def search(
        self, query: Query, *, limit: int, before: int | None, after: int | None, account: str | None
    ) -> tuple[Page, None]:
        found: list[Found] = []
        async with self._question(account) as connection:
            settled = await self._settled(connection) if after is not None else None
            async for one in self._each(connection, query, account, before=before, after=after):
                if settled is not None and one.id >= settled:
                    break
                # Those of one id come together, for a page is gone on with behind its last id.
                if len(found) >= limit and one.id != found[-1].id:
                    return Page(found, more=True), _NO_LAG
                found.append(one)
        return Page(found, more=False), _NO_LAG

    async def stats(self, query: Query, *, account: str | None, less: Query | None = None) -> tuple[Tally, None]:
        async with self._question(account) as connection, _moment(connection):
            tally = await self._tally(connection, query, account)
            if less is not None:
                take_out(tally.by, (await self._tally(connection, less, account)).by)
        return tally, _NO_LAG

    async def overview(
        self, query: Query, *, step: int, account: str | None, less: Query | None = None
    ) -> tuple[Overview, None]:
        async with self._question(account) as connection, _moment(connection):
            found = await self._overlook(connection, query, account, step)
            if less is not None:
                found.take_out(await self._overlook(connection, less, account, step))
        return found, _NO_LAG

    async def _tally(self, connection: Connection, query: Query, account: str | None) -> Tally:
        tally = Tally()
        if query.is_exact and not (query.has_words and await _has_many(connection)):
            for *values, lowest, highest, count in await self._count(connection, query, account):
                times = time_at(lowest), time_at(highest)
                tally.add_group(tuple(read_values(tuple(values))), count, *times)
        else:
            async for one in self._each(connection, query, account):
                tally.add_entry(one.entry)
        return tally

    async def _overlook(self, connection: Connection, query: Query, account: str | None, step: int) -> Overview:
        found = Overview(step)
        if query.is_exact and not (query.has_words and await _has_many(connection)):
            groups, steps = await self._count_steps(connection, query, account, step)
            for *values, count in groups:
                found.add_group(tuple(read_values(tuple(values))), count)
            for number, decision, count in steps:
                found.add_step(number, decision, count)
        else:
            async for one in self._each(connection, query, account):
                found.add_entry(one.entry)
        return found

    async def _settled(self, connection: Connection) -> int:
        return settled_id(self._clock(), await connection.fetchval(_SHIPPED_THROUGH) or [])

    async def settled(self) -> int:
        """See `gateway.audit.index.finding.Finder.settled`."""
        async with self._question() as connection:
            return await self._settled(connection)

    @asynccontextmanager
    async def _question(self, account: str | None = None) -> AsyncIterator[Connection]:
        await self._turns.take(account)
        until = time.monotonic() + self._seconds
        try:
            async with self._connector.apart(self._terms.write_seconds) as connection:
                # The server ends what takes too long itself; should it not, we hang up.
                with bounded(connection, self._seconds + 1.0), translated():
                    await connection.execute(f"SET statement_timeout = {round(self._seconds * 1000)}")
                    yield connection
        except StoreError as exc:
            if time.monotonic() >= until:
                raise TooCostly from exc
            raise IndexUnusable(str(exc)) from exc
        finally:
            self._turns.give_back(account)

    async def _each(
        self,
        connection: Connection,
        query: Query,
        account: str | None,
        *,
        before: int | None = None,
        after: int | None = None,
    ) -> AsyncIterator[Found]:
        where, values = _state(query, account)
        until = time.monotonic() + self._seconds
        ascending = after is not None
        place: tuple[int, int, int] | None = None
        edge = (after, ">") if ascending else (before, "<")
        are_few = await self._are_few(connection, where, values)
        while True:
            sql, given = where, list(values)
            if place is not None:
                given += place
                sql += f" AND (id, segment, number) {edge[1]} (${len(given) - 2}, ${len(given) - 1}, ${len(given)})"
            elif edge[0] is not None:
                given.append(edge[0])
                sql += f" AND id {edge[1]} ${len(given)}"
            way = "ASC" if ascending else "DESC"
            order = f"ORDER BY id {way}, segment {way}, number {way}"
            rows = await connection.fetch(_select(sql, order, are_few=are_few), *given)
            for id_, _, _, line in rows:
                entry = read_entry(line)
                if entry is None or not query.matches(entry):
                    continue
                if account is None or entry.get("account") == account:
                    yield Found(id_, entry)
            if len(rows) < _AT_ONCE:
                return
            place = tuple(rows[-1])[:3]
            if time.monotonic() >= until:
                raise TooCostly

    async def _are_few(self, connection: Connection, where: str, values: list[Any]) -> bool:
        """Tell whether the server takes it that few rows match; what it takes more to be is looked for by time."""
        plan = await connection.fetchval(
            f"EXPLAIN (FORMAT JSON) SELECT 1 FROM locum.journal_lines WHERE {where}",  # noqa: S608 - our own words
            *values,
        )
        rows: float = json.loads(plan)[0]["Plan"]["Plan Rows"]
        return rows <= self._few

    async def _count(self, connection: Connection, query: Query, account: str | None) -> Sequence[tuple[Any, ...]]:
        where, values = _state(query, account)
        groups = ", ".join(GROUPING)
        found = await connection.fetch(
            f"SELECT {groups}, min(id), max(id), count(*) FROM locum.journal_lines WHERE {where}"  # noqa: S608 - our own words
            f" GROUP BY {groups}, id / {IDS_A_DAY}",
            *values,
        )
        return [tuple(row) for row in found]

    async def _count_steps(
        self, connection: Connection, query: Query, account: str | None, step: int
    ) -> tuple[Sequence[Any], Sequence[Any]]:
        where, values = _state(query, account)
        groups, table = ", ".join(GROUPING), f"FROM locum.journal_lines WHERE {where}"
        number = f"CASE WHEN id < 0 THEN -1 ELSE id / {id_at(step)} END"
        return (
            await connection.fetch(f"SELECT {groups}, count(*) {table} GROUP BY {groups}", *values),
            await connection.fetch(f"SELECT {number}, decision, count(*) {table} GROUP BY 1, 2", *values),
        )


def _moment(connection: Connection) -> AbstractAsyncContextManager[Any]:
    """Let everything that is asked in the block be of one moment."""
    transaction: AbstractAsyncContextManager[Any] = connection.transaction(isolation="repeatable_read", readonly=True)
    return transaction


def _select(where: str, order: str, *, are_few: bool) -> str:
    """Return what selects a page of rows.

    Left to itself the server goes by time until a page is full, which, where there are few and it errs about when they
    were, is through everything. So of few it is made to look up all, by what they are found by.
    """
    if not are_few:
        return f"{_SELECT} WHERE {where} {order} LIMIT {_AT_ONCE}"
    return (
        f"WITH few AS MATERIALIZED (SELECT id, segment, number FROM locum.journal_lines WHERE {where})"  # noqa: S608 - our own words
        f" SELECT id, segment, number, line FROM (SELECT * FROM few {order} LIMIT {_AT_ONCE}) AS page"
        f" JOIN (SELECT segment, number, line FROM locum.journal_lines) AS lines USING (segment, number) {order}"
    )


async def _has_many(connection: Connection) -> bool:
    sql = "SELECT EXISTS (SELECT 1 FROM locum.journal_lines WHERE marks @@ $1::text::tsquery)"
    return bool(await connection.fetchval(sql, _quoted(MANY)))


def _state(query: Query, account: str | None) -> tuple[str, list[Any]]:
    """Return the conditions for what may match, and the values for their places."""
    conditions, values = ["id IS NOT NULL"], list[Any]()

    def add(condition: str, value: Any) -> None:
        values.append(value)
        conditions.append(condition.format(f"${len(values)}"))

    since, until = query.span
    if since is not None or until is not None:
        add("id >= {}", id_at(since or 0))
    if until is not None:
        add("id < {}", id_at(until))
    if account is not None:
        # By what there is an index of, and by all of it.
        add("left(account, 200) = left({0}::text, 200) AND account = {0}::text", write_values((account,))[0])
    asked = [_all_of(marked) for marked in query.wanted() if marked.marks]
    asked += [f"!({_all_of(marked)})" for marked in query.unwanted()]
    if asked:
        add("marks @@ {}::text::tsquery", " & ".join(asked))
    return " AND ".join(conditions), values


def _all_of(marked: Marked) -> str:
    asked = " & ".join(map(_quoted, marked.marks))
    return f"(({asked}) | {_quoted(MANY)})" if marked.or_many else f"({asked})"


def _quoted(mark: str) -> str:
    # A mark is a word or a hash: there is neither quote nor backslash in it, and if there were they would be escaped.
    text = mark.removesuffix("*").replace("\\", "\\\\").replace("'", "''")
    return f"'{text}':*" if mark.endswith("*") else f"'{text}'"
