"""One file of the journal: its name and its lines."""

import itertools
import os
import re
from binascii import hexlify
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gateway.audit.sealed import UNREADABLE, reveal
from policy.merkle import leaf_hashes

Fsync = Callable[[int], None]

Entry = dict[str, Any]
"""A decoded record: the fields of `Record` that are not None, with `origin`, `seq` and `at`; and as `erased` the names
of the groups (see `gateway.audit.sealed`) whose fields have been taken away."""

ORIGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What an origin may be called: it is part of file names and the first line of checkpoints."""

_BEGINNING, _RECORD, _GONE, _OPEN, _END = b'{"leaf":"', b'","record":', b'","gone":', b',"open":', b"}\n"
_LEAF_END = len(_BEGINNING) + 64
_decoder = msgspec.json.Decoder(Entry)
_LEAF = re.compile(rb"[0-9a-f]{64}")
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


class Line(NamedTuple):
    """The parts of a line, as their exact bytes."""

    leaf: bytes
    """The leaf hash that it states, in hexadecimal."""
    record: bytes
    """Empty if retention has taken it away."""
    openings: bytes = b""
    """What stands under `open`; empty if nothing does."""
    gone: bytes = b""
    """What stands in the record's place."""


def build_line(record: bytes, openings: bytes = b"") -> tuple[bytes, bytes]:
    """Return the leaf hash of an encoded record and the line that keeps it, with what it seals."""
    (leaf,), line = build_lines((record,), (openings,))
    return leaf, line


def build_lines(records: Sequence[bytes], openings: Iterable[bytes]) -> tuple[list[bytes], bytes]:
    """Return the leaf hashes of encoded records, and the lines that keep each with what it seals, joined."""
    leaves = leaf_hashes(records)
    parts: list[bytes] = []
    for leaf, record, opened in zip(leaves, records, openings, strict=True):
        if opened:
            parts += (_BEGINNING, hexlify(leaf), _RECORD, record, _OPEN, opened, _END)
        else:
            parts += (_BEGINNING, hexlify(leaf), _RECORD, record, _END)
    return leaves, b"".join(parts)


def join_line(line: Line) -> bytes:
    """Return the line of which these are the parts."""
    if line.gone:
        return b"".join((_BEGINNING, line.leaf, _GONE, line.gone, _END))
    opened = (_OPEN, line.openings) if line.openings else ()
    return b"".join((_BEGINNING, line.leaf, _RECORD, line.record, *opened, _END))


def parse_line(line: bytes) -> Line | None:
    """Return the parts of a whole line; None if it is no such line. Nothing of it is checked."""
    if not line.startswith(_BEGINNING) or not line.endswith(_END):
        return None
    leaf = line[len(_BEGINNING) : _LEAF_END]
    if line.startswith(_RECORD, _LEAF_END):
        content = line[_LEAF_END + len(_RECORD) : -len(_END)]
        # Nothing in a record is called `open`, and in its texts no quote stands unescaped.
        cut = content.find(b"}" + _OPEN)
        if cut < 0:
            return Line(leaf, content)
        openings = content[cut + 1 + len(_OPEN) :]
        return Line(leaf, content[: cut + 1], openings) if openings else None
    if line.startswith(_GONE, _LEAF_END) and _LEAF.fullmatch(leaf):
        return Line(leaf, b"", gone=line[_LEAF_END + len(_GONE) : -len(_END)])
    return None


class Gone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in the place of a record whose content retention has taken away."""

    seq: int
    by: str
    """The record that says so, as `<origin>:<seq>`."""


def encode_gone(gone: Gone) -> bytes:
    """Return its only form."""
    return msgspec.json.encode(gone)


def decode_gone(gone: bytes) -> Gone | None:
    """Return what it says, or None if that is not in the only form it has."""
    try:
        found = msgspec.json.decode(gone, type=Gone)
    except UNREADABLE:
        return None
    return found if encode_gone(found) == gone else None


def read_entry(line: bytes) -> Entry | None:
    """Return what a whole line says, for whoever reads the journal for its content.

    None if retention has taken the content away, or the line cannot be read. Nothing is checked here: that is
    `gateway.audit.evidence.verify`'s.
    """
    parts = parse_line(line)
    if parts is None or not parts.record:
        return None
    try:
        return reveal(_decoder.decode(parts.record), parts.openings)
    except UNREADABLE:
        return None


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
