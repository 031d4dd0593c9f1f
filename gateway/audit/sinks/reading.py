"""Reads the journal for a sink: each origin in the order in which it was written, from a place that can be kept.

The place is where a line ends in a file, with that line's number and its leaf hash. When a file was written anew, by
retention or an erasure, that place is another line's: then it is read again, and what has a number up to ours is passed
over. That is also how the end of a file is found which a loss of power has cut. The order of the files alone says what
comes next, so that numbers which a loss of power has freed, and which were given away again, are not taken for sent.

A file that does not begin as it did is no longer the same journal, which was begun anew or put back from a backup; and
neither is it where the file is gone while older ones are there. Then all of it is read again, behind a notice of that.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from gateway.audit.pace import Pace
from gateway.audit.position import first_mark, is_at, mark_of
from gateway.audit.segment import Entry, parse_name, read_entry

MOST_RAW_BYTES: Final = 256 * 1024
"""Of lines in one batch; the widest format makes about four times as much of them."""

Missing = Literal["gone", "missing", "unreadable", "replaced"]
"""Why there is nothing to send: retention took it, no file has it, the line cannot be read, or the journal is another
one, and whether the one that was read up to here had more nobody knows."""


class Position(msgspec.Struct, frozen=True):
    """Where the last line that needs no sending ends: in which file, at which byte, and its number."""

    segment: str
    offset: int
    seq: int
    mark: str = ""
    """The line's: see `gateway.audit.position`."""
    begins: str = ""
    """And that of the file's first line."""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Records of an origin that cannot be sent, `first` to `last`."""

    origin: str
    first: int
    last: int
    why: Missing


@dataclass(frozen=True, slots=True)
class Item:
    """One record, or a gap, and the position behind it; `id` is its leaf hash, the same each time it is read."""

    what: Entry | Gap
    at: Position
    id: str


@dataclass(slots=True)
class Piece:
    """What was read of an origin in one go."""

    items: list[Item]
    at: Position | None
    """Behind the last line that was read."""
    more: bool
    """Whether there may be more at once."""


class _Number(msgspec.Struct):
    seq: int | None = None


class _Line(msgspec.Struct):
    """What every line says, whatever was taken from it."""

    record: _Number | None = None
    gone: _Number | None = None


def read_on(origin: str, paths: list[Path], at: Position | None, *, most: int, pace: Pace) -> Piece:
    """Return up to `most` items behind `at`, or from the first line on; `paths` are the origin's, as they are listed.

    Raises OSError.
    """
    try:
        return _read_on(origin, paths, at, most=most, pace=pace)
    except _Replaced as exc:
        was, start = exc.at, Position(paths[0].name, 0, -1)
        gap = Gap(origin=origin, first=was.seq + 1, last=was.seq + 1, why="replaced")
        return Piece(items=[Item(gap, start, f"replaced-{origin}-{was.seq}-{was.mark}")], at=start, more=True)


class _Replaced(Exception):
    """The journal is not the one in which this place was."""

    def __init__(self, at: Position) -> None:
        super().__init__()
        self.at = at


def _read_on(origin: str, paths: list[Path], at: Position | None, *, most: int, pace: Pace) -> Piece:
    reading = _Reading(origin, at, most)
    for path, offset, is_last in _files(paths, at):
        reading.open(path, offset)
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    # Torn, or not all of it is there yet: if another file follows, it never will be.
                    break
                reading.take(line)
                pace.step()
                if reading.is_full:
                    return reading.piece(more=True)
        if is_last:
            break
    return reading.piece(more=False)


def behind(paths: list[Path], at: Position | None) -> int:
    """Return how many bytes of an origin are still to be read; raises OSError."""
    try:
        start = _start(paths, at)
    except _Replaced:
        start, at = 0, None
    total = sum(path.stat().st_size for path in paths[start:])
    is_there = at is not None and start < len(paths) and paths[start].name == at.segment
    return max(0, total - (at.offset if at is not None and is_there else 0))


class _Reading:
    """One pass over the lines of an origin."""

    def __init__(self, origin: str, at: Position | None, most: int) -> None:
        self._origin = origin
        self._start = at
        self._most = most
        self._items: list[Item] = []
        self._bytes = 0
        self._gap: tuple[Gap, Position] | None = None
        self._at = at
        self._last = -1 if at is None else at.seq
        self._passing = False
        self._name = ""
        self._offset = 0
        self._begins = ""

    def open(self, path: Path, offset: int) -> None:
        """Go on in a file, whose lines up to our number are passed over if it is the one that we stand in."""
        self._name, self._offset = path.name, offset
        start = self._start
        self._passing = start is not None and path.name == start.segment and offset < start.offset
        self._begins = start.begins if start is not None and offset else ""

    @property
    def is_full(self) -> bool:
        return len(self._items) >= self._most or self._bytes >= MOST_RAW_BYTES

    def take(self, line: bytes) -> None:
        mark = mark_of(line)
        if self._offset == 0:
            self._begins = mark
        self._offset += len(line)
        entry = read_entry(line)
        seq = _seq(entry, line)
        start = self._start
        if self._passing and start is not None and (seq is None or seq <= start.seq):
            if seq == start.seq and start.mark not in (mark, ""):
                raise _Replaced(start)
            self._at = Position(self._name, self._offset, start.seq, mark, self._begins)
            return
        number = self._last + 1 if seq is None else seq
        at = Position(self._name, self._offset, number, mark, self._begins)
        if seq is not None and seq > self._last + 1:
            self._skip(self._last + 1, seq - 1, "missing", at)
        self._last, self._at = number, at
        self._bytes += len(line)
        if entry is None:
            self._skip(number, number, "unreadable" if seq is None else "gone", at)
            return
        self._end_gap()
        self._items.append(Item(entry, at, mark))

    def piece(self, *, more: bool) -> Piece:
        self._end_gap()
        return Piece(items=self._items, at=self._at, more=more)

    def _skip(self, first: int, last: int, why: Missing, at: Position) -> None:
        if self._gap is not None and self._gap[0].why == why and self._gap[0].last + 1 == first:
            first = self._gap[0].first
        else:
            self._end_gap()
        self._gap = Gap(origin=self._origin, first=first, last=last, why=why), at

    def _end_gap(self) -> None:
        if self._gap is not None:
            gap, at = self._gap
            self._items.append(Item(gap, at, f"{gap.why}-{gap.origin}-{gap.first}-{gap.last}"))
            self._gap = None


def _files(paths: list[Path], at: Position | None) -> Iterator[tuple[Path, int, bool]]:
    """Yield the files to read, where in each, and whether it is the newest."""
    start = _start(paths, at)
    for index in range(start, len(paths)):
        path = paths[index]
        offset = _settle(path, at) if at is not None and path.name == at.segment else 0
        yield path, offset, index == len(paths) - 1


def _start(paths: list[Path], at: Position | None) -> int:
    """Return the index of the file to go on in; raises _Replaced."""
    if at is None:
        return 0
    names = [path.name for path in paths]
    if at.segment in names:
        return names.index(at.segment)
    wanted, first = parse_name(at.segment), parse_name(names[0]) if names else None
    if wanted is None or (first is not None and first < wanted):
        # Nobody takes away a file and leaves those before it.
        raise _Replaced(at)
    return 0


def _settle(path: Path, at: Position) -> int:
    """Return the offset if the line that ends there is ours still, and 0 if the file has to be read anew.

    Raises _Replaced and OSError.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if is_at(file, at.offset, at.mark):
            return at.offset
        begins = first_mark(file)
    finally:
        os.close(file)
    if at.begins and begins not in (at.begins, None):
        raise _Replaced(at)
    return 0


def _seq(entry: Entry | None, line: bytes) -> int | None:
    if entry is not None:
        seq = entry.get("seq")
        return seq if isinstance(seq, int) and not isinstance(seq, bool) else None
    try:
        found = msgspec.json.decode(line, type=_Line)
    except msgspec.DecodeError:
        return None
    number = found.gone or found.record
    return None if number is None else number.seq
