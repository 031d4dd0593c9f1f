"""What earlier writers of an origin left behind, as far as the next one must know it."""

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.audit.checkpoint import Checkpoint, CheckpointError, open_note, read_newest
from gateway.audit.segment import Fsync, list_segments, read_lines, split_line
from policy.merkle import Frontier, leaf_hash


class Mark(msgspec.Struct):
    """Of a record, what tells whether it speaks about a segment of the journal."""

    kind: str
    reason: str | None = None
    segment: str | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The tree over every line there is, and what the next writer must put on record about them."""

    tree: Frontier
    torn: tuple[tuple[str, int], ...]
    """Segments that end in a torn line which no record speaks of, with the offset of that line."""
    covered: int
    """How many of the lines the newest checkpoint speaks of, if they are those."""
    altered: bool
    """The lines are not those of which the newest checkpoint speaks."""


def read_past(directory: Path, *, origin: str, fsync: Fsync) -> Past:
    """Read all segments of an origin and make them durable; raises OSError.

    Damaged lines are counted and hashed as they are: it is `gateway.audit.verify` that judges them, and a writer that
    would not start over them would give everybody who can spoil a line a way to stop it.
    """
    tree = Frontier()
    torn: set[tuple[str, int]] = set()
    newest, damaged = _newest_checkpoint(directory, origin=origin)
    root_then: bytes | None = None
    for path in list_segments(directory).get(origin, []):
        for offset, line in read_lines(path):
            if not line.endswith(b"\n"):
                torn.add((path.name, offset))
                continue
            _, record = split_line(line) or (b"", line)
            tree.append(leaf_hash(record))
            if newest is not None and tree.size == newest.size:
                root_then = tree.root()
            if b'"kind":"journal"' in record:
                torn.discard(_spoken_of(record))
        _make_durable(path, fsync=fsync)
    altered = damaged or (newest is not None and root_then != newest.root)
    covered = 0 if newest is None or altered else newest.size
    return Past(tree=tree, torn=tuple(sorted(torn)), covered=covered, altered=altered)


def _newest_checkpoint(directory: Path, *, origin: str) -> tuple[Checkpoint | None, bool]:
    note = read_newest(directory, origin=origin)
    if note is None:
        return None, False
    try:
        return open_note(note, key=None), False
    except CheckpointError:
        return None, True


def _spoken_of(record: bytes) -> tuple[str, int]:
    try:
        mark = msgspec.json.decode(record, type=Mark)
    except msgspec.DecodeError:
        return "", -1
    return mark.segment or "", -1 if mark.offset is None else mark.offset


def _make_durable(path: Path, *, fsync: Fsync) -> None:
    """A checkpoint must not speak of lines that a power cut can still take away."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fsync(handle)
    finally:
        os.close(handle)
