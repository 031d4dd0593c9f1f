"""Asks the index where to look, and looks there: what is found is read from the journal itself, and judged again."""

import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from gateway.audit.index.database import TooCostly, connect_finder, thrown_away_if_damaged, translated
from gateway.audit.index.expression import state
from gateway.audit.index.grouping import GROUPING, group_values
from gateway.audit.index.overview import HOUR, Groups, Overview, Rows, Test, split_tests, tests_of
from gateway.audit.index.places import IDS_A_DAY, id_at, time_at
from gateway.audit.index.settled import First, first_time, settled_id
from gateway.audit.pace import Pace
from gateway.audit.position import is_at, is_in
from gateway.audit.search.account_part import take_out, their_part
from gateway.audit.search.query import Query
from gateway.audit.search.reading import Position
from gateway.audit.search.words import MANY
from gateway.audit.segment import Entry, list_segments, read_entry
from gateway.audit.stepping import NONE_UNREAD, Unread, look_at
from gateway.audit.times import time_of
from gateway.clock import Clock, utc_now

SECONDS = 2.0
"""How long one question may take by default."""
_STEPS = 2000
_MOST_FILES = 64
_EXCLUDING = 2
"""So many conditions can exclude each other."""


@dataclass(frozen=True, slots=True)
class Found:
    """A record, and where it stands among all: ids are in the order of time."""

    id: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the records that match."""

    found: list[Found]
    more: bool
    """Whether there are more behind the last one."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the index is behind the files."""

    bytes: int
    segments: int
    """Those of which something is missing, or that were written anew."""
    unread: Unread = NONE_UNREAD
    """What is not in it because it cannot be read."""


class _File(NamedTuple):
    path: Path
    size: int
    position: Position
    """How far it is in the index, if it is the file that the index has read, maybe with more at its end."""


@dataclass(slots=True)
class Tally:
    """The records that match, counted."""

    total: int = 0
    first: int | None = None
    """When the first of them happened, in microseconds since 1970."""
    last: int | None = None
    by: dict[str, Counter[str]] = field(default_factory=dict)
    """How many have each value of each of GROUPING, and of `day`; those that have none are left out."""

    def add(self, values: Mapping[str, str | None], count: int, *times: int | None) -> None:
        """Count so many records that have these values, and happened between these times."""
        self.total += count
        for at in times:
            if at is not None:
                self.first = at if self.first is None else min(self.first, at)
                self.last = at if self.last is None else max(self.last, at)
        for name, value in values.items():
            if value is not None:
                self.by.setdefault(name, Counter())[value] += count

    def add_group(self, values: tuple[str | None, ...], count: int, first: int | None, last: int | None) -> None:
        """Count so many records of one day that have these values of GROUPING."""
        self.add(_named(values, first), count, first, last)

    def add_entry(self, entry: Entry) -> None:
        """Count one record."""
        at = time_of(entry)
        self.add(_named(group_values(entry), at), 1, at)


class Finder:
    """Reads the index; use it as a context manager, in one thread. Every call raises IndexUnusable."""

    def __init__(
        self,
        journal: Path,
        path: Path,
        *,
        seconds: float = SECONDS,
        clock: Clock = utc_now,
        pace: Pace | None = None,
        first: First = first_time,
    ) -> None:
        """Open the index; no question takes much longer than `seconds`. Raises IndexUnusable.

        With a `pace` it lets another thread in between, which serves requests.
        """
        self._first = first
        self._journal = journal
        self._clock = clock
        self._pace = pace
        self._seconds = seconds
        self._until = 0.0
        self._connection = connect_finder(path)
        self._path, self._inode = path, path.stat().st_ino
        self._connection.set_progress_handler(self._is_late, _STEPS)

    def __enter__(self) -> Self:
        """Return the finder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the index."""
        self._connection.close()

    def search(
        self,
        query: Query,
        *,
        limit: int,
        before: int | None = None,
        after: int | None = None,
        account: str | None = None,
    ) -> Page:
        """Return the newest records that match, newest first, of those whose ids are lower than `before`.

        With `after`, the oldest of those whose ids are higher, oldest first, and none before which another may still
        come: see `gateway.audit.index.settled`. With `account`, only that account's, whatever the query says. Raises
        TooCostly, OSError.
        """
        self._begin()
        if after is not None:
            before = self.settled()
        found: list[Found] = []
        for one in self.each(query, account=account, before=before, after=after, oldest_first=after is not None):
            if len(found) == limit:
                return Page(found, more=True)
            found.append(one)
        return Page(found, more=False)

    def stats(self, query: Query, *, account: str | None = None, less: Query | None = None) -> Tally:
        """Count the records that match; raises TooCostly.

        What is hidden (`gateway.audit.search.account_part`) is not counted of those that match `less`: of one moment.
        """
        self._begin()
        if less is None:
            return self._tally(query, account)
        with self.snapshot():
            tally = self._tally(query, account)
            take_out(tally.by, self._tally(less, account).by)
        return tally

    def _tally(self, query: Query, account: str | None) -> Tally:
        tally = Tally()
        if query.is_exact and not (query.has_words and self._has_many()):
            for values, count, lowest, highest in self._count(query, account):
                tally.add_group(values, count, time_at(lowest), time_at(highest))
        else:
            for one in self.each(query, account=account):
                tally.add_entry(one.entry)
        return tally

    def overview(self, query: Query, *, step: int, account: str | None = None, less: Query | None = None) -> Overview:
        """Count the records that match, as `stats`, and those of each step of `step` microseconds; raises TooCostly.

        Whole hours are the fastest.
        """
        self._begin()
        if less is None:
            return self._overlook(query, account, step)
        with self.snapshot():
            found = self._overlook(query, account, step)
            found.take_out(self._overlook(less, account, step))
        return found

    def _overlook(self, query: Query, account: str | None, step: int) -> Overview:
        found = Overview(step)
        if not query.is_exact or (query.has_words and self._has_many()):
            for one in self.each(query, account=account):
                found.add_entry(one.entry)
            return found
        tests = tests_of(query)
        if tests is None or step % HOUR:
            rows = Rows.of_records(state(query, account=account), ids=id_at(step))
        else:
            rows = Rows.of_tallies(query, self._choose(tests, account), hours=step // HOUR)
        for name, value, count in self._rows(rows.by_value, *rows.values):
            found.add_value(name, value, count)
        for number, decision, count in self._rows(rows.by_step, *rows.values):
            found.add_step(number, decision, count)
        return found

    def lag(self) -> Lag:
        """Return how far the index is behind the files now; raises OSError."""
        missing, unread = self._missing()
        [(lines,)] = self._rows("SELECT coalesce(sum(unread), 0) FROM segments")
        return Lag(sum(bytes_ for bytes_, _ in missing), len(missing), Unread(lines, unread))

    def settled(self) -> int:
        """Return the id before which nothing can come any more that can be read: see `settled_id`; raises OSError."""
        return settled_id(self._clock(), (at for _, at in self._missing()[0] if at is not None))

    def positions(self) -> dict[str, Position]:
        """Return how far each segment is in the index, by its name."""
        self._begin()
        return {
            name: Position(*rest) for name, *rest in self._rows("SELECT name, inode, offset, lines, mark FROM segments")
        }

    def usable_positions(self) -> dict[str, Position]:
        """Return the positions in those segments whose lines stand where the index says; raises OSError."""
        return {file.path.name: file.position for file in self._look()[0] if file.position.inode}

    def _missing(self) -> tuple[list[tuple[int, int | None]], int]:
        """Return of each file that can be read on how many bytes are missing, and from when; and how many cannot."""
        files, unread = self._look()
        missing = []
        for path, size, position in files:
            if size > position.offset:
                try:
                    missing.append((size - position.offset, self._first(path, position.offset)))
                except OSError:
                    unread += os.path.lexists(path)
        return missing, unread

    def _look(self) -> tuple[list[_File], int]:
        """Return the segments that can be read, and how many cannot; raises OSError."""
        files, unread, positions = [], 0, self.positions()
        for path in itertools.chain.from_iterable(list_segments(self._journal).values()):
            try:
                found, position = look_at(path), positions.get(path.name, Position())
                is_same = position.inode == found.st_ino and is_in(path, position.offset, position.mark)
            except OSError:
                unread += os.path.lexists(path)
            else:
                files.append(_File(path, found.st_size, position if is_same else Position()))
        return files, unread

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let everything that is asked in the block be of one moment."""
        with translated():
            self._connection.execute("BEGIN")
        yield
        with translated():
            self._connection.execute("COMMIT")

    def _begin(self) -> None:
        self._until = time.monotonic() + self._seconds

    def each(
        self,
        query: Query,
        *,
        account: str | None = None,
        before: int | None = None,
        after: int | None = None,
        oldest_first: bool = False,
    ) -> Iterator[Found]:
        """Yield what the index names and the journal confirms: ids between these two, neither included."""
        if not self._may_match(query, account):
            return
        stated = state(query, account=account, lowest=after, highest=before)
        sql = "SELECT id, name, inode, offset, lines, mark FROM segments"
        segments = {id_: (name, Position(*rest)) for id_, name, *rest in self._rows(sql)}
        order = "ASC" if oldest_first else "DESC"
        sql = f"SELECT r.id, r.segment, r.offset, r.length {stated.source} ORDER BY {stated.id} {order}"
        with _Files(self._journal) as files:
            for id_, segment, offset, length in self._rows(sql, *stated.values):
                entry = files.read(*segments.get(segment, ("", Position())), offset, length)
                if entry is None or not query.matches(entry):
                    # Written anew a moment ago, or more was named than was asked for.
                    continue
                if account is None or entry.get("account") == account:
                    yield Found(id_, entry)

    def _count(self, query: Query, account: str | None) -> Iterator[tuple[tuple[Any, ...], int, int, int]]:
        stated = state(query, account=account)
        groups = {id_: tuple(values) for id_, *values in self._rows(f"SELECT id, {', '.join(GROUPING)} FROM groups")}  # noqa: S608 - our own words
        sql = (
            f"SELECT r.grouping, r.id / {IDS_A_DAY} AS day, count(*), min(r.id), max(r.id) {stated.source}"
            " GROUP BY r.grouping, day"
        )
        for group, _day, *counts in self._rows(sql, *stated.values):
            yield groups.get(group, (None,) * len(GROUPING)), *counts

    def _choose(self, tests: Sequence[Test], account: str | None) -> Groups:
        groups = Groups() if account is None else Groups().having("account", [account])
        for test in tests:
            # There are few values of each, and SQLite does not know what upper and lower case are beyond ASCII.
            values = self._rows(f"SELECT DISTINCT {test.name} FROM groups WHERE {test.name} IS NOT NULL")  # noqa: S608 - our own words
            holding = [value for (value,) in values if test.holds(value)]
            groups = groups.having(test.name, holding, negated=test.negated)
        return groups

    def _may_match(self, query: Query, account: str | None) -> bool:
        """Tell whether there is any group that could match: what excludes each other is not looked for one by one."""
        tests, _ = split_tests(query)
        if not any(test.negated for test in tests) and len(tests) + (account is not None) < _EXCLUDING:
            return True
        groups = self._choose(tests, account)
        if not groups.where:
            return True
        return any(self._rows(f"SELECT 1 FROM groups WHERE {groups.where} LIMIT 1", *groups.values))  # noqa: S608 - our own words

    def _has_many(self) -> bool:
        return any(self._rows("SELECT rowid FROM marks WHERE marks MATCH ? LIMIT 1", f'"{MANY}"'))

    def _rows(self, sql: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        with translated(), thrown_away_if_damaged(self._path, self._inode):
            for row in self._connection.execute(sql, values):
                if self._pace is not None:
                    self._pace.step()
                if self._is_late():
                    raise TooCostly
                yield row

    def _is_late(self) -> bool:
        return time.monotonic() > self._until


class _Files:
    """The segments that are open for a search."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[str, int | None] = {}
        """None for one that is not what the index has read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            self._close(self._open.popitem()[1])

    def read(self, name: str, known: Position, offset: int, length: int) -> Entry | None:
        """Return the record at a place, None if there is none (any more)."""
        try:
            if name not in self._open:
                self._open_one(name, known)
            handle = self._open[name]
            return None if handle is None else read_entry(os.pread(handle, length, offset))
        except OSError:
            return None

    def _open_one(self, name: str, known: Position) -> None:
        if len(self._open) == _MOST_FILES:
            self._close(self._open.pop(next(iter(self._open))))
        self._open[name] = handle = os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        if os.fstat(handle).st_ino != known.inode or not is_at(handle, known.offset, known.mark):
            # Content was taken out of it, and the index does not know where its lines are now.
            self._open[name] = None
            os.close(handle)

    def _close(self, handle: int | None) -> None:
        if handle is not None:
            os.close(handle)


def their_page(page: Page) -> Page:
    """Return what the account may see of a page of its own records."""
    return Page([Found(one.id, their_part(one.entry)) for one in page.found], more=page.more)


def _named(values: tuple[str | None, ...], at: int | None) -> dict[str, str | None]:
    day = None if at is None else time.strftime("%Y-%m-%d", time.gmtime(at // 1_000_000))
    return {**dict(zip(GROUPING, values, strict=True)), "day": day}
