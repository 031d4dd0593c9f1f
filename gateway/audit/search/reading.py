"""Reading the journal's files for people, in the order of time."""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.search.words import Entry
from gateway.audit.segment import list_segments, read_entry, read_lines


@dataclass(slots=True)
class Position:
    """How far a segment has been read."""

    inode: int = 0
    offset: int = 0
    lines: int = 0


def read(directory: Path) -> Iterator[Entry]:
    """Yield all records of all origins by time; lines that are none are passed over (see `verify`)."""
    return Follower(directory).poll()


class Follower:
    """Reads a journal that is being written to, each record once, also when content is taken out of a segment."""

    def __init__(self, directory: Path, positions: Mapping[str, Position] | None = None) -> None:
        """Start before the first record, or behind what `positions` say of each segment, by its name."""
        self._directory = directory
        self._positions = dict(positions or {})

    def poll(self) -> Iterator[Entry]:
        """Yield what has come since the last poll, by time; exhaust it before the next one. Raises OSError."""
        origins = (self._read_new(paths) for paths in list_segments(self._directory).values())
        return heapq.merge(*origins, key=lambda entry: (str(entry.get("at")), str(entry.get("origin"))))

    def _read_new(self, paths: list[Path]) -> Iterator[Entry]:
        for path in paths:
            position = self._positions.setdefault(path.name, Position())
            found = path.stat()
            known = 0
            if position.inode != found.st_ino:
                # Content was taken out of it: the lines are as many as before, and shorter.
                known = position.lines
                position.inode, position.offset, position.lines = found.st_ino, 0, 0
            if found.st_size == position.offset:
                continue
            for offset, line in read_lines(path, start=position.offset):
                if not line.endswith(b"\n"):
                    break
                position.offset = offset + len(line)
                position.lines += 1
                if position.lines > known and (entry := read_entry(line)) is not None:
                    yield entry
