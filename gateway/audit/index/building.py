"""Builds the index from the journal's files and keeps it up with them; one process at a time does."""

import itertools
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from gateway.audit.index.database import LOCK, connect_builder, remove, thrown_away_if_damaged, transaction, translated
from gateway.audit.index.grouping import GROUPING
from gateway.audit.index.lines import Indexed, read_indexed
from gateway.audit.index.places import hour_of
from gateway.audit.position import Stamp, is_in, mark_of, stamp_of
from gateway.audit.segment import list_segments, read_lines
from gateway.audit.stepping import Faults, Lines, Unread, look_at
from gateway.locks import claim

_AT_ONCE = 4000
"""Records in one transaction: what readers wait for, and what is done again after a kill."""
_TIDY, _UNTIDY = 0, 1
"""What the file says of itself, in a number that SQLite keeps for its owner."""
_HASH_BYTES = 16 * 1024 * 1024
"""So much of what is found by what is put together in memory before it is written: https://sqlite.org/fts5.html."""
_MERGE_PAGES = 500
_LEAST_MERGED = 2
"""Fewer changes mean that a merge had nothing to do: https://sqlite.org/fts5.html#the_merge_command."""
_OF_A_LINE = (
    OverflowError,
    TypeError,
    ValueError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""What a line can be the cause of that SQLite does not take; all else is the file's or the machine's."""


class IndexBusy(Exception):
    """Another process builds this index."""


@dataclass(slots=True)
class _Known:
    """How far a segment is in the index."""

    id: int
    inode: int
    offset: int
    lines: int
    unread: int
    mark: str


class _Line(NamedTuple):
    id: int
    offset: int
    length: int
    found: Indexed


class Builder:
    """Keeps the index of a journal; use it as a context manager, in one thread, and make another after an error."""

    def __init__(self, journal: Path, path: Path, *, read: Callable[[bytes], Indexed | None] = read_indexed) -> None:
        """Take the index for this process; raises IndexBusy, OSError and sqlite3.Error."""
        self._journal = journal
        self._lines = Lines(read)
        self._lock = claim_index(path.with_name(LOCK))
        try:
            self._connection = connect_builder(path)
        except BaseException:
            os.close(self._lock)
            raise
        self._path, self._inode = path, path.stat().st_ino
        self._known: dict[str, _Known] = {}
        self._seen: dict[str, tuple[Stamp, bool]] = {}
        self._faults = Faults()
        self._groups: dict[tuple[str | None, ...], int] = {}
        self._unknown_times = 0
        self._untidy = False
        """Whether what was deleted may still stand in the file; the file knows it, too, should we be killed."""
        self._unwiped = True
        """Whether it may still stand in the log beside it, as one that was killed may have left it."""
        try:
            with thrown_away_if_damaged(path, self._inode):
                self._load()
        except BaseException:
            self._connection.close()
            os.close(self._lock)
            raise

    def __enter__(self) -> Self:
        """Return the builder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the index."""
        self._connection.close()
        os.close(self._lock)

    def catch_up(self) -> int:
        """Bring the index to what the files hold now, and return how many lines that took; raises OSError.

        What cannot be read, a line or a whole file, is stepped over: see `unread`. If the index is damaged
        it is deleted, and sqlite3.Error raised: the next builder makes it anew.
        """
        with thrown_away_if_damaged(self._path, self._inode):
            return self._catch_up()

    def _catch_up(self) -> int:
        count = 0
        for paths in list_segments(self._journal).values():
            for path, following in itertools.zip_longest(paths, paths[1:]):
                with self._faults.stepped_over(path):
                    count += self._read(path, is_last=following is None)
        names = {path.name for path in self._journal.iterdir()}
        self._faults.keep_only(names)
        for name in self._known.keys() - names:
            self._forget(name)
        if self._untidy:
            self._tidy()
        if self._unwiped:
            self._wipe()
        return count

    @property
    def is_there(self) -> bool:
        """Whether the index is still the file that this one writes, and nobody has deleted it."""
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    @property
    def unread(self) -> Unread:
        """What the index lacks because it cannot be read."""
        return Unread(sum(known.unread for known in self._known.values()), len(self._faults))

    def behind(self) -> int:
        """Return how many bytes of the files that can be read are not in the index yet; raises OSError."""
        behind = 0
        for paths in list_segments(self._journal).values():
            for path in paths:
                known = self._known.get(path.name)
                if path.name not in self._faults:
                    behind += max(path.stat().st_size - (0 if known is None else known.offset), 0)
        return behind

    def _load(self) -> None:
        self._connection.execute("INSERT INTO marks (marks, rank) VALUES ('hashsize', ?)", (_HASH_BYTES,))
        rows = self._connection.execute("SELECT name, id, inode, offset, lines, unread, mark FROM segments")
        self._known = {name: _Known(*rest) for name, *rest in rows}
        self._load_groups()
        [lowest] = self._connection.execute("SELECT coalesce(min(id), 0) FROM records").fetchone()
        self._unknown_times = min(lowest, 0)
        [self._untidy] = self._connection.execute("PRAGMA application_id").fetchone()

    def _load_groups(self) -> None:
        rows = self._connection.execute(f"SELECT id, {', '.join(GROUPING)} FROM groups")  # noqa: S608 - our own words
        self._groups = {tuple(values): id_ for id_, *values in rows}

    def _read(self, path: Path, *, is_last: bool) -> int:
        """Index what is new of a segment; return how many lines were read."""
        found = look_at(path)
        known, seen = self._known.get(path.name), (stamp_of(found), is_last)
        if known is not None and self._seen.get(path.name) == seen:
            return 0
        if known is not None and (known.inode != found.st_ino or not is_in(path, known.offset, known.mark)):
            self._forget(path.name)
            known = None
        if known is None:
            known = self._add(path.name, found.st_ino)
        count = self._read_new(path, known, is_last=is_last) if found.st_size > known.offset else 0
        self._seen[path.name] = seen
        return count

    def _read_new(self, path: Path, known: _Known, *, is_last: bool) -> int:
        count = 0
        for batch in _batches(path, known.offset):
            whole = [(offset, line) for offset, line in batch if line.endswith(b"\n")]
            # Nobody will ever finish a line that is torn, unless it is the last of all.
            passed = whole if is_last else batch
            if not passed:
                break
            end, mark = passed[-1][0] + len(passed[-1][1]), mark_of(passed[-1][1])
            lines, unread = self._look_into(whole)
            after = _Known(known.id, known.inode, end, known.lines + len(whole), known.unread + unread, mark)
            try:
                self._put(after, lines)
            except _OF_A_LINE:
                self._load_groups()
                taken = [line for line in lines if self._takes(known.id, line)]
                after.unread += len(lines) - len(taken)
                self._put(after, taken)
            self._known[path.name] = known = after
            count += len(whole)
        return count

    def _look_into(self, whole: list[tuple[int, bytes]]) -> tuple[list[_Line], int]:
        """Return what of these lines goes into the index, and how many of them could not be read."""
        lines, unread = [], 0
        for offset, line in whole:
            found, is_read = self._lines.read(line)
            unread += not is_read
            if found is not None:
                lines.append(_Line(self._id_of(found), offset, len(line), found))
        return lines, unread

    def _put(self, known: _Known, lines: list[_Line]) -> None:
        """Take lines in, and note how far the segment is in the index with them: both, or nothing."""
        with transaction(self._connection):
            self._insert(known.id, lines)
            self._connection.execute(
                "UPDATE segments SET offset = ?, lines = ?, unread = ?, mark = ? WHERE id = ?",
                (known.offset, known.lines, known.unread, known.mark, known.id),
            )

    def _takes(self, segment: int, line: _Line) -> bool:
        """Tell whether the index takes a line, and leave it as it was."""
        try:
            with suppress(_Undone), transaction(self._connection):
                self._insert(segment, [line])
                raise _Undone
        except _OF_A_LINE as error:
            self._lines.say(error)
            return False
        finally:
            self._load_groups()
        return True

    def _insert(self, segment: int, lines: list[_Line]) -> None:
        if not lines:
            return
        # Few others have ids between these: what other origins wrote at the same time.
        between = (min(line.id for line in lines), max(line.id for line in lines) + _AT_ONCE)
        taken = {id_ for (id_,) in self._connection.execute("SELECT id FROM records WHERE id BETWEEN ? AND ?", between)}
        ordered = []
        for line in lines:
            id_ = line.id
            while id_ in taken:
                id_ += 1
            taken.add(id_)
            ordered.append((id_, line))
        # An index is built fastest in the order of its ids.
        ordered.sort(key=lambda pair: pair[0])
        rows = [(id_, segment, line.offset, line.length, self._group_of(line.found.group)) for id_, line in ordered]
        self._connection.executemany(
            "INSERT INTO records (id, segment, offset, length, grouping) VALUES (?, ?, ?, ?, ?)", rows
        )
        counted = Counter((hour_of(id_), grouping, segment) for id_, *_, grouping in rows)
        self._connection.executemany(
            "INSERT INTO tallies (hour, grouping, segment, count) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(*place, count) for place, count in counted.items()],
        )
        self._connection.executemany(
            "INSERT INTO marks (rowid, text) VALUES (?, ?)",
            [(id_, line.found.marks) for id_, line in ordered],
        )

    def _id_of(self, found: Indexed) -> int:
        if found.id is None:
            self._unknown_times -= 1
            return self._unknown_times
        return found.id

    def _group_of(self, values: tuple[str | None, ...]) -> int:
        if (found := self._groups.get(values)) is None:
            sql = f"INSERT INTO groups ({', '.join(GROUPING)}) VALUES ({', '.join('?' * len(GROUPING))})"  # noqa: S608 - ours
            self._groups[values] = found = self._connection.execute(sql, values).lastrowid or 0
        return found

    def _add(self, name: str, inode: int) -> _Known:
        done = self._connection.execute(
            "INSERT INTO segments (name, inode, offset, lines, mark) VALUES (?, ?, 0, 0, '')", (name, inode)
        )
        self._known[name] = known = _Known(done.lastrowid or 0, inode, 0, 0, 0, "")
        return known

    def _forget(self, name: str) -> None:
        """Take a segment out of the index."""
        known = self._known.pop(name)
        self._seen.pop(name, None)
        with transaction(self._connection):
            sql = "DELETE FROM marks WHERE rowid IN (SELECT id FROM records WHERE segment = ?)"
            self._connection.execute(sql, (known.id,))
            self._connection.execute("DELETE FROM records WHERE segment = ?", (known.id,))
            self._connection.execute("DELETE FROM tallies WHERE segment = ?", (known.id,))
            self._connection.execute("DELETE FROM segments WHERE id = ?", (known.id,))
            self._connection.execute(f"PRAGMA application_id = {_UNTIDY}")
        self._untidy = True

    def _tidy(self) -> None:
        """See that what was deleted stands nowhere in the file any more, in small steps."""
        with transaction(self._connection):
            self._connection.execute("DELETE FROM groups WHERE id NOT IN (SELECT grouping FROM records)")
        self._load_groups()
        # Negative: merge everything, also what is merged already, and so drop what deletions have only crossed out.
        pages = -_MERGE_PAGES
        while True:
            before = self._connection.total_changes
            self._connection.execute("INSERT INTO marks (marks, rank) VALUES ('merge', ?)", (pages,))
            if self._connection.total_changes - before < _LEAST_MERGED:
                break
            pages = _MERGE_PAGES
        # What merging and deleting has left in unused pages is not copied into the new file.
        self._connection.execute("VACUUM")
        self._connection.execute(f"PRAGMA application_id = {_TIDY}")
        self._untidy, self._unwiped = False, True

    def _wipe(self) -> None:
        """Empty the log beside the file, unless somebody reads what stands there; then it is tried again."""
        [is_blocked, *_] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._unwiped = bool(is_blocked)


def claim_index(path: Path) -> int:
    """Return a handle that keeps the index for this process until it is closed; raises IndexBusy and OSError."""
    if (handle := claim(path)) is None:
        raise IndexBusy("another process keeps the index up to date")
    return handle


def rebuild(journal: Path, path: Path) -> int:
    """Make the index anew and return how many lines were read; raises IndexBusy, OSError and IndexUnusable."""
    lock = claim_index(path.with_name(LOCK))
    try:
        remove(path)
    finally:
        os.close(lock)
    with translated(), Builder(journal, path) as builder:
        return builder.catch_up()


def _batches(path: Path, start: int) -> Iterator[list[tuple[int, bytes]]]:
    """Yield the lines in batches; where the file cannot be read any further, first what stands before that."""
    lines, batch = read_lines(path, start=start), list[tuple[int, bytes]]()
    try:
        for line in lines:
            batch.append(line)
            if len(batch) == _AT_ONCE:
                yield batch
                batch = []
    except OSError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


class _Undone(Exception):
    """What was tried is taken back."""
