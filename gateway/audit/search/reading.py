"""Reading the journal's files for people, in the order of time."""

import heapq
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gateway.audit.position import Stamp, is_in, mark_of, stamp_of
from gateway.audit.segment import Entry, list_segments, read_entry, read_lines
from gateway.audit.stepping import Faults, look_at


@dataclass(slots=True)
class Position:
    """How far a segment has been read."""

    inode: int = 0
    offset: int = 0
    lines: int = 0
    mark: str = ""
    """The last line's: see `gateway.audit.position`."""


def read(directory: Path) -> Iterator[Entry]:
    """Yield all records of all origins by time; lines that are none are passed over (see `verify`)."""
    return Follower(directory).poll()


class Follower:
    """Reads a journal that is being written to, each record once, also when content is taken out of a segment."""

    def __init__(
        self, directory: Path, positions: Mapping[str, Position] | None = None, *, faults: Faults | None = None
    ) -> None:
        """Start before the first record, or behind what `positions` say of each segment, by its name.

        With `faults`, files that cannot be read are noted there and stepped over.
        """
        self._directory = directory
        self._faults = faults
        self._positions = dict(positions or {})
        self._seen: dict[str, Stamp] = {}

    def poll(self) -> Iterator[Entry]:
        """Yield what has come since the last poll, by time; exhaust it before the next one.

        Raises OSError, with `faults` only if the directory itself cannot be read.
        """
        origins = (self._read_new(paths) for paths in list_segments(self._directory).values())
        return heapq.merge(*origins, key=lambda entry: (str(entry.get("at")), str(entry.get("origin"))))

    def _read_new(self, paths: list[Path]) -> Iterator[Entry]:
        for path in paths:
            with nullcontext() if self._faults is None else self._faults.stepped_over(path):
                yield from self._read_one(path)

    def _read_one(self, path: Path) -> Iterator[Entry]:
        position = self._positions.setdefault(path.name, Position())
        found, known = look_at(path), 0
        if self._seen.get(path.name) == stamp_of(found):
            return
        if position.inode != found.st_ino or not is_in(path, position.offset, position.mark):
            # If content was taken out of it, the lines are as many as before, and shorter.
            known = position.lines if _has(path, position) else 0
            position.inode, position.offset, position.lines, position.mark = found.st_ino, 0, 0, ""
        for offset, line in read_lines(path, start=position.offset):
            if not line.endswith(b"\n"):
                break
            position.offset, position.mark = offset + len(line), mark_of(line)
            position.lines += 1
            if position.lines > known and (entry := read_entry(line)) is not None:
                yield entry
        self._seen[path.name] = stamp_of(found)


def _has(path: Path, position: Position) -> bool:
    """Tell whether the line up to which a file was read is the same of its lines still."""
    line = next(islice(read_lines(path), position.lines - 1, None), None) if position.lines else None
    return line is not None and mark_of(line[1]) == position.mark
