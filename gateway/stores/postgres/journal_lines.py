"""Brings a node's journal into the shared database, line by line as its files hold it, and back out of it.

What is there already is known from the database itself, so it can be done again from anywhere: a line has one place.
"""

import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from gateway.audit.evidence.checkpoint import find_origins, read_newest
from gateway.audit.index.grouping import GROUPING
from gateway.audit.index.lines import Indexed, read_indexed
from gateway.audit.position import Stamp, is_in, mark_of, stamp_of
from gateway.audit.search.words import ANY, MANY
from gateway.audit.segment import list_segments, read_lines
from gateway.audit.stepping import Faults, Lines, Unread, look_at
from gateway.clock import Clock, utc_now
from gateway.stores.postgres.connect import Connection, translated
from gateway.stores.postgres.text import write_values
from gateway.stores.store import StoreError

log = logging.getLogger(__name__)

_AT_ONCE = 1000
_COLUMNS = ("segment", "number", "line", "id", *GROUPING)
_INSERT = f"""
    INSERT INTO locum.journal_lines ({", ".join(_COLUMNS)}, marks)
    VALUES ({", ".join(f"${n}" for n in range(1, len(_COLUMNS) + 1))}, array_to_tsvector(${len(_COLUMNS) + 1}::text[]))
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - our own words
_HEARD = """
    INSERT INTO locum.journal_nodes (node) VALUES ($1) ON CONFLICT (node) DO UPDATE SET heard_at = now()
"""
_SHIPPED = """
    INSERT INTO locum.journal_nodes (node, through) VALUES ($1, $2)
    ON CONFLICT (node) DO UPDATE SET through = EXCLUDED.through, heard_at = now()
"""
_TELL_MICROSECONDS = 1_000_000
_MOST_MARKS_BYTES = 500_000
"""A tsvector counts its bytes in 20 bits, and `array_to_tsvector` does not see to it."""
_TOO_MUCH = "54"
"""The class of errors that a row can be the cause of: it exceeds a limit of the server's."""
_UNWANTED = "22"
"""And the one of values that the server does not take."""


@dataclass(slots=True)
class _Sent:
    """How much of a segment is in the database."""

    id: int
    inode: int
    bytes: int
    lines: int
    unread: int
    mark: str
    """The last line's: see `gateway.audit.position`."""


class Shipper:
    """Ships one node's journal over one connection; make another for another connection."""

    def __init__(
        self,
        journal: Path,
        node: str,
        connection: Connection,
        *,
        clock: Clock = utc_now,
        read: Callable[[bytes], Indexed | None] | None = None,
    ) -> None:
        """Ship nothing yet; `read` is `gateway.audit.index.lines.read_indexed` of this node."""
        self._clock = clock
        self._told_at = 0
        self._journal = journal
        self._node = node
        self._connection = connection
        self._sent: dict[str, _Sent] | None = None
        self._notes: dict[str, bytes] = {}
        self._seen: dict[str, Stamp] = {}
        self._faults = Faults()
        self._lines = Lines(read or partial(read_indexed, node=node))

    async def catch_up(self) -> int:
        """Ship what the files hold now, and return how many lines that took; raises StoreError and OSError.

        What cannot be read is stepped over: a whole file, or what a line is to be found by. See `unread`.
        """
        with translated():
            now = round(self._clock().timestamp() * 1e6)
            if self._sent is None:
                # Until all is there, nobody who follows is shown what happened later.
                await self._connection.execute(_HEARD, self._node)
                sql = "SELECT name, id, inode, bytes, lines, unread, mark FROM locum.journal_segments WHERE node = $1"
                self._sent = {row[0]: _Sent(*row[1:]) for row in await self._connection.fetch(sql, self._node)}
            count = 0
            # Read before the lines, which they cover, and shipped behind them; older ones may be passed over.
            notes = {origin: read_newest(self._journal, origin=origin) for origin in find_origins(self._journal)}
            for path in itertools.chain.from_iterable(list_segments(self._journal).values()):
                count += await self._ship(path, self._sent)
            self._faults.keep_only({path.name for path in self._journal.iterdir()})
            for origin, note in notes.items():
                if note is not None and self._notes.get(origin) != note:
                    await self._ship_note(origin, note)
            if abs(now - self._told_at) >= _TELL_MICROSECONDS:
                await self._connection.execute(_SHIPPED, self._node, now)
                self._told_at = now
        return count

    @property
    def unread(self) -> Unread:
        """What cannot be found in the database, because it cannot be read or is not taken there; raises OSError."""
        names = {path.name for path in self._journal.iterdir()}
        lines = (known.unread for name, known in (self._sent or {}).items() if name in names)
        return Unread(sum(lines), len(self._faults))

    def behind(self) -> int:
        """Return how many bytes of the files that can be read have not been shipped; raises OSError."""
        sent, behind = self._sent or {}, 0
        for paths in list_segments(self._journal).values():
            for path in paths:
                known = sent.get(path.name)
                if path.name in self._faults:
                    continue
                if known is None:
                    behind += path.stat().st_size
                elif path == paths[-1]:
                    # What is left of an older one is a torn line, which nobody will ever finish.
                    behind += max(path.stat().st_size - known.bytes, 0)
        return behind

    async def _ship(self, path: Path, sent: dict[str, _Sent]) -> int:
        known = sent.get(path.name)
        # A fault of the file is stepped over, and none of the database or of the way there.
        try:
            found = look_at(path)
            is_same = known is not None and known.inode == found.st_ino and is_in(path, known.bytes, known.mark)
        except OSError as error:
            self._faults.note(path, error)
            return 0
        if known is not None and self._seen.get(path.name) == stamp_of(found):
            self._faults.clear(path)
            return 0
        if known is None or not is_same:
            count = await self._ship_whole(path, sent, inode=found.st_ino)
        else:
            count = 0
            for batch in self._batches(path, known.bytes):
                async with self._connection.transaction():
                    await self._insert(known, batch)
                count += len(batch)
        if path.name not in self._faults:
            self._seen[path.name] = stamp_of(found)
        return count

    async def _ship_whole(self, path: Path, sent: dict[str, _Sent], *, inode: int) -> int:
        """Put a segment in the place of what the database has of it, in one step: content may have been taken out."""
        count = 0
        async with self._connection.transaction():
            await self._connection.execute(
                "DELETE FROM locum.journal_segments WHERE node = $1 AND name = $2", self._node, path.name
            )
            sql = "INSERT INTO locum.journal_segments (node, name, inode) VALUES ($1, $2, $3) RETURNING id"
            new = _Sent(await self._connection.fetchval(sql, self._node, path.name, inode), inode, 0, 0, 0, "")
            for batch in self._batches(path, 0):
                await self._insert(new, batch)
                count += len(batch)
        sent[path.name] = new
        return count

    def _batches(self, path: Path, start: int) -> Iterator[list[bytes]]:
        """Yield the whole lines from there on, up to where the file cannot be read any further."""
        batch: list[bytes] = []
        with self._faults.stepped_over(path):
            for _, line in read_lines(path, start=start):
                if not line.endswith(b"\n"):
                    break
                batch.append(line)
                if len(batch) == _AT_ONCE:
                    yield batch
                    batch = []
        if batch:
            yield batch

    async def _insert(self, segment: _Sent, lines: list[bytes]) -> None:
        rows, unread = [], 0
        for number, line in enumerate(lines, start=segment.lines):
            found, is_read = self._lines.read(line)
            rows.append(_row(segment.id, number, line, found))
            unread += not is_read
        if not await self._takes(rows):
            for row in rows:
                unread += not await self._insert_one(row)
        segment.unread += unread
        segment.bytes += sum(map(len, lines))
        segment.lines += len(lines)
        segment.mark = mark_of(lines[-1])
        await self._connection.execute(
            "UPDATE locum.journal_segments SET bytes = $2, lines = $3, mark = $4, unread = $5 WHERE id = $1",
            *(segment.id, segment.bytes, segment.lines, segment.mark, segment.unread),
        )

    async def _insert_one(self, row: tuple[Any, ...]) -> bool:
        """Ship a line whatever it says, and tell whether that was with all that it is to be found by.

        Of a line that the database does not take in any form its number stays, with nothing behind it, which whoever
        verifies the database finds; if it does not take that, it is not the line that is wrong.
        """
        *_, number, line, id_ = row[:4]
        for less in (row, _bare(row, id_), _bare(row, None), (*_bare(row, None)[:2], b"", *_bare(row, None)[3:])):
            if await self._takes([less]):
                break
        else:
            raise StoreError("the database takes no line of the journal, whatever it says")
        if less is not row:
            log.error(
                "line %d of a segment cannot be found by all that it says, for the database does not take that: %s",
                number, mark_of(line),
            )  # fmt: skip
        return less is row

    async def _takes(self, rows: list[tuple[Any, ...]]) -> bool:
        """Put rows there, all or none; return whether it takes them. What is wrong with the way there is raised."""
        try:
            async with self._connection.transaction():
                await self._connection.executemany(_INSERT, rows)
        except asyncpg.PostgresError as exc:
            if (exc.sqlstate or "")[:2] not in (_TOO_MUCH, _UNWANTED):
                raise
            return False
        except ValueError:
            # It has no form in the database, as our side of the connection has found.
            return False
        return True

    async def _ship_note(self, origin: str, note: bytes) -> None:
        size = note.split(b"\n", 2)[1]
        if size.isdigit():
            sql = "INSERT INTO locum.journal_notes VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
            await self._connection.execute(sql, self._node, origin, int(size), note)
            self._notes[origin] = note


def _row(segment: int, number: int, line: bytes, found: Indexed | None) -> tuple[Any, ...]:
    if found is None:
        return (segment, number, line, None, *(None for _ in GROUPING), None)
    marks = sorted(set(found.marks.split()))
    if sum(len(mark.encode()) for mark in marks) > _MOST_MARKS_BYTES:
        marks = _without_words(marks)
    try:
        groups = write_values(found.group)
    except ValueError:
        groups = (None,) * len(GROUPING)
    return (segment, number, line, -1 - number if found.id is None else found.id, *groups, marks)


def _bare(row: tuple[Any, ...], id_: int | None) -> tuple[Any, ...]:
    """Return a row that can be found by little but its line; without an `id_` by nothing."""
    marks = None if id_ is None else _without_words(row[-1] or [])
    return (*row[:3], id_, *(None for _ in GROUPING), marks)


def _without_words(marks: list[str]) -> list[str]:
    return sorted({mark for mark in marks if mark.startswith(".")} | {ANY, MANY})
