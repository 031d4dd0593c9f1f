"""Brings a node's journal into the shared database, line by line as its files hold it, and back out of it.

What is there already is known from the database itself, so it can be done again from anywhere: a line has one place.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.audit.checkpoint import find_origins, read_newest, write_note
from gateway.audit.index.grouping import GROUPING, group_values
from gateway.audit.index.places import id_of
from gateway.audit.search.words import marks_of, time_of
from gateway.audit.segment import list_segments, read_entry, read_lines
from gateway.stores.postgres.connect import Connection, translated
from gateway.stores.postgres.text import write_values

_AT_ONCE = 1000
_COLUMNS = ("segment", "number", "line", "id", *GROUPING)
_INSERT = f"""
    INSERT INTO locum.journal_lines ({", ".join(_COLUMNS)}, marks)
    VALUES ({", ".join(f"${n}" for n in range(1, len(_COLUMNS) + 1))}, array_to_tsvector(${len(_COLUMNS) + 1}::text[]))
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - our own words


@dataclass(slots=True)
class _Sent:
    """How much of a segment is in the database."""

    id: int
    inode: int
    bytes: int
    lines: int


class Shipper:
    """Ships one node's journal over one connection; make another for another connection."""

    def __init__(self, journal: Path, node: str, connection: Connection) -> None:
        """Ship nothing yet."""
        self._journal = journal
        self._node = node
        self._connection = connection
        self._sent: dict[str, _Sent] | None = None
        self._notes: dict[str, bytes] = {}

    async def catch_up(self) -> int:
        """Ship what the files hold now, and return how many lines that took; raises StoreError and OSError."""
        with translated():
            if self._sent is None:
                sql = "SELECT name, id, inode, bytes, lines FROM locum.journal_segments WHERE node = $1"
                self._sent = {row[0]: _Sent(*row[1:]) for row in await self._connection.fetch(sql, self._node)}
            count = 0
            # Read before the lines, which they cover, and shipped behind them; older ones may be passed over.
            notes = {origin: read_newest(self._journal, origin=origin) for origin in find_origins(self._journal)}
            for paths in list_segments(self._journal).values():
                for path in paths:
                    count += await self._ship(path, self._sent)
            for origin, note in notes.items():
                if note is not None and self._notes.get(origin) != note:
                    await self._ship_note(origin, note)
        return count

    def behind(self) -> int:
        """Return how many bytes of the files have not been shipped; raises OSError."""
        sent, behind = self._sent or {}, 0
        for paths in list_segments(self._journal).values():
            for path in paths:
                known = sent.get(path.name)
                if known is None:
                    behind += path.stat().st_size
                elif path == paths[-1]:
                    # What is left of an older one is a torn line, which nobody will ever finish.
                    behind += max(path.stat().st_size - known.bytes, 0)
        return behind

    async def _ship(self, path: Path, sent: dict[str, _Sent]) -> int:
        found = os.stat(path)  # noqa: PTH116 - a process of its own does nothing else
        known = sent.get(path.name)
        if known is not None and known.inode == found.st_ino and found.st_size == known.bytes:
            return 0
        if known is None or known.inode != found.st_ino or found.st_size < known.bytes:
            return await self._ship_whole(path, sent, inode=found.st_ino)
        count = 0
        for batch in _whole_lines(path, known.bytes):
            async with self._connection.transaction():
                await self._insert(known, batch)
            count += len(batch)
        return count

    async def _ship_whole(self, path: Path, sent: dict[str, _Sent], *, inode: int) -> int:
        """Put a segment in the place of what the database has of it, in one step: content may have been taken out."""
        count = 0
        async with self._connection.transaction():
            await self._connection.execute(
                "DELETE FROM locum.journal_segments WHERE node = $1 AND name = $2", self._node, path.name
            )
            sql = "INSERT INTO locum.journal_segments (node, name, inode) VALUES ($1, $2, $3) RETURNING id"
            new = _Sent(await self._connection.fetchval(sql, self._node, path.name, inode), inode, 0, 0)
            for batch in _whole_lines(path, 0):
                await self._insert(new, batch)
                count += len(batch)
        sent[path.name] = new
        return count

    async def _insert(self, segment: _Sent, lines: list[bytes]) -> None:
        rows = [_row(self._node, segment.id, segment.lines + place, line) for place, line in enumerate(lines)]
        await self._connection.executemany(_INSERT, rows)
        segment.bytes += sum(map(len, lines))
        segment.lines += len(lines)
        await self._connection.execute(
            "UPDATE locum.journal_segments SET bytes = $2, lines = $3 WHERE id = $1",
            *(segment.id, segment.bytes, segment.lines),
        )

    async def _ship_note(self, origin: str, note: bytes) -> None:
        size = note.split(b"\n", 2)[1]
        if size.isdigit():
            sql = "INSERT INTO locum.journal_notes VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
            await self._connection.execute(sql, self._node, origin, int(size), note)
            self._notes[origin] = note


async def list_nodes(connection: Connection) -> list[str]:
    """Return the nodes that have shipped anything; raises StoreError."""
    with translated():
        found = await connection.fetch("SELECT DISTINCT node FROM locum.journal_segments ORDER BY node")
    return [row[0] for row in found]


async def fetch_journal(connection: Connection, node: str, directory: Path) -> int:
    """Write a node's journal as the database has it into an empty directory; return how many lines it has.

    What comes out is a journal's directory, for `gateway.audit.verify` and everything else. Raises StoreError, OSError.
    """
    count = 0
    with translated():
        # Of one moment, the checkpoints before the lines that they cover.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            sql = "SELECT origin, note FROM locum.journal_notes WHERE node = $1 ORDER BY origin, size"
            notes = await connection.fetch(sql, node)
            for origin, note in notes:
                write_note(note, directory=directory, origin=origin, fsync=lambda _handle: None)
            sql = "SELECT id, name FROM locum.journal_segments WHERE node = $1 ORDER BY name"
            for segment, name in await connection.fetch(sql, node):
                sql = "SELECT line FROM locum.journal_lines WHERE segment = $1 ORDER BY number"
                with (directory / name).open("xb") as file:
                    async for row in connection.cursor(sql, segment, prefetch=_AT_ONCE):
                        file.write(row[0])
                        count += 1
    return count


def _whole_lines(path: Path, start: int) -> Iterator[list[bytes]]:
    lines = (line for _, line in read_lines(path, start=start) if line.endswith(b"\n"))
    while batch := list(itertools.islice(lines, _AT_ONCE)):
        yield batch


def _row(node: str, segment: int, number: int, line: bytes) -> tuple[Any, ...]:
    entry = read_entry(line)
    if entry is None:
        return (segment, number, line, None, *(None for _ in GROUPING), None)
    at = time_of(entry)
    id_ = -1 - number if at is None else id_of(entry, at, node=node)
    groups = write_values(group_values(entry))
    return (segment, number, line, id_, *groups, sorted(set(marks_of(entry).split())))
