"""Brings the journals of all nodes back out of the shared database, as files or to be judged as they are.

The database is not ours to believe: what it holds may be anybody's, and so may the names.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.audit.evidence.sources import Lines, OriginSource
from gateway.audit.segment import ORIGIN, parse_name
from gateway.stores.postgres.connect import Connection, translated
from gateway.stores.store import StoreError

_AT_ONCE = 1000
_JUDGING_SECONDS = 3600
_LINES = "SELECT line FROM locum.journal_lines WHERE segment = $1 ORDER BY number"

_Notes = list[tuple[str, bytes]]
"""Checkpoints, the newest of each origin last, with whose they are."""
_Segments = list[tuple[int, str]]
"""The database's numbers for the segments, with their names."""


async def list_nodes(connection: Connection) -> list[str]:
    """Return the nodes that have shipped anything, each a name that a folder can have; raises StoreError."""
    with translated():
        found = await connection.fetch("SELECT DISTINCT node FROM locum.journal_segments ORDER BY node")
    nodes = [row[0] for row in found]
    if strange := [node for node in nodes if ORIGIN.fullmatch(node) is None]:
        raise StoreError(f"the database names a node {strange[0][:80]!a}, which no node is called: it was changed")
    return nodes


async def fetch_journal(connection: Connection, node: str, directory: Path) -> int:
    """Write a node's journal as the database has it into an empty directory; return how many lines it has.

    What comes out is a journal's directory, for `gateway.audit.evidence.verify` and everything else. Nothing is written
    over and no link is followed; a name that no journal gives its files is refused before anything is written. Raises
    StoreError, OSError.
    """
    count = 0
    with translated():
        # Of one moment, the checkpoints before the lines that they cover.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            notes, segments = await _list(connection, node)
            _write_notes(directory, notes)
            for segment, name in segments:
                with os.fdopen(_create(directory / name), "wb") as file:
                    async for row in connection.cursor(_LINES, segment, prefetch=_AT_ONCE):
                        file.write(row[0])
                        count += 1
    return count


class DatabaseJournal:
    """Implements `gateway.audit.evidence.sources.Source` for a node's journal in the database; nothing is kept of it.

    Each time that its origins are asked for, they are of one moment, until they are asked for again. `runner` is the
    one that the connection was made with. What is wrong with the database, or with the names in it, raises StoreError.
    """

    def __init__(self, runner: asyncio.Runner, connection: Connection, node: str) -> None:
        self._runner = runner
        self._connection = connection
        self._node = node

    def origins(self) -> Iterator[OriginSource]:
        """See `Source.origins`."""
        notes, segments = self._runner.run(self._begin())
        files: dict[str, list[tuple[int, str]]] = {origin: [] for origin, _ in notes}
        # The order of writing is not that of the letters.
        for parsed, segment in sorted((parsed, segment) for segment, name in segments if (parsed := parse_name(name))):
            files.setdefault(parsed.origin, []).append((segment, str(parsed)))
        for origin in sorted(files):
            history = [note for of, note in notes if of == origin]
            yield OriginSource(
                origin=origin,
                newest=history[-1] if history else None,
                history=_join(history),
                segments=((name, self._read(segment)) for segment, name in files[origin]),
            )

    async def _begin(self) -> tuple[_Notes, _Segments]:
        with translated():
            if self._connection.is_in_transaction():
                await self._connection.execute("ROLLBACK")
            await self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # Between two questions a year of checkpoints may be judged.
            await self._connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{_JUDGING_SECONDS}s'")
            return await _list(self._connection, self._node)

    def _read(self, segment: int) -> Lines:
        """Yield the lines as a file of them would have them, wherever the rows begin and end."""
        offset, rest = 0, b""
        for row in self._rows(segment):
            *lines, rest = (rest + row).split(b"\n")
            for line in lines:
                yield offset, line + b"\n"
                offset += len(line) + 1
        if rest:
            yield offset, rest

    def _rows(self, segment: int) -> Iterator[bytes]:
        with translated():
            cursor = self._runner.run(self._open(segment))
            while rows := self._runner.run(cursor.fetch(_AT_ONCE)):
                yield from (row[0] for row in rows)

    async def _open(self, segment: int) -> Any:
        return await self._connection.cursor(_LINES, segment)


async def _list(connection: Connection, node: str) -> tuple[_Notes, _Segments]:
    """Return the checkpoints in the order of writing, and the segments."""
    sql = "SELECT origin, note FROM locum.journal_notes WHERE node = $1 ORDER BY origin, size"
    notes = [(row[0], row[1]) for row in await connection.fetch(sql, node)]
    sql = "SELECT id, name FROM locum.journal_segments WHERE node = $1 ORDER BY name"
    segments = [(row[0], row[1]) for row in await connection.fetch(sql, node)]
    _check([origin for origin, _ in notes], [name for _, name in segments])
    return notes, segments


def _check(origins: list[str], names: list[str]) -> None:
    strange = [name for name in names if parse_name(name) is None]
    strange += [origin for origin in origins if ORIGIN.fullmatch(origin) is None]
    if strange:
        raise StoreError(f"the database names a file {strange[0][:80]!a}, which no journal has: it was changed")


def _join(history: list[bytes]) -> bytes:
    return b"".join(note + b"\n" for note in history)


def _write_notes(directory: Path, notes: _Notes) -> None:
    for origin in dict.fromkeys(origin for origin, _ in notes):
        history = [note for of, note in notes if of == origin]
        for name, content in (("checkpoints", _join(history)), ("checkpoint", history[-1])):
            with os.fdopen(_create(directory / f"{origin}.{name}"), "wb") as file:
                file.write(content)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
