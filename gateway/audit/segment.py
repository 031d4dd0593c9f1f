"""One file of the journal: its name and its lines."""

import itertools
import os
import re
from binascii import hexlify
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from policy.merkle import leaf_hash

Fsync = Callable[[int], None]

ORIGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What an origin may be called: it is part of file names and the first line of checkpoints."""

_OPENING, _MIDDLE, _END = b'{"leaf":"', b'","record":', b"}\n"
_LEAF_END = len(_OPENING) + 64
_NAME = re.compile(rf"({ORIGIN.pattern})-(\d{{12}})(?:\.(\d+))?\.jsonl", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SegmentName:
    """A segment's file name: the origin, the first sequence number, and a count should that name be taken."""

    origin: str
    first: int
    attempt: int = 0

    def __str__(self) -> str:
        """Return the file name."""
        return f"{self.origin}-{self.first:012d}{f'.{self.attempt}' if self.attempt else ''}.jsonl"


def parse_name(name: str) -> SegmentName | None:
    """Return what a file name says, or None if no segment is called so."""
    if (found := _NAME.fullmatch(name)) is None:
        return None
    return SegmentName(origin=found[1], first=int(found[2]), attempt=int(found[3] or 0))


def list_segments(directory: Path) -> dict[str, list[Path]]:
    """Return the segments of each origin in the order in which they were written."""
    names = sorted(name for path in directory.iterdir() if (name := parse_name(path.name)) is not None)
    return {
        origin: [directory / str(name) for name in group]
        for origin, group in itertools.groupby(names, key=lambda name: name.origin)
    }


def build_line(record: bytes) -> tuple[bytes, bytes]:
    """Return the leaf hash of an encoded record and the line that keeps it."""
    leaf = leaf_hash(record)
    return leaf, b"".join((_OPENING, hexlify(leaf), _MIDDLE, record, _END))


def split_line(line: bytes) -> tuple[bytes, bytes] | None:
    """Return the leaf hash that a whole line states, in hexadecimal, and the record; None if it is no such line."""
    if not line.startswith(_OPENING) or not line.startswith(_MIDDLE, _LEAF_END) or not line.endswith(_END):
        return None
    return line[len(_OPENING) : _LEAF_END], line[_LEAF_END + len(_MIDDLE) : -len(_END)]


def read_lines(path: Path, *, start: int = 0) -> Iterator[tuple[int, bytes]]:
    r"""Yield the lines of a file with their offsets; only the last can be torn, which is to lack its `\n`."""
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            yield start, line
            start += len(line)


def sync_directory(directory: Path, *, fsync: Fsync) -> None:
    """Make the names in a directory durable; raises OSError."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(handle)
    finally:
        os.close(handle)
