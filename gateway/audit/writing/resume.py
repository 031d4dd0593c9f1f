"""What earlier writers of an origin left behind, as far as the next one must know it."""

import io
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.evidence.checkpoint import Checkpoint, CheckpointError, open_note, read_newest, repair_history
from gateway.audit.sealed import UNREADABLE
from gateway.audit.segment import Fsync, decode_gone, list_segments, parse_line, parse_name, read_lines
from gateway.audit.writing.place import Place, read_place
from policy.merkle import Frontier, leaf_hash

UNSIGNED = "unsigned_tail"
"""The reason of the record (kind `journal`) by which a writer says that the `count` records before it were there and
under no checkpoint: it signs them, and cannot know who wrote them."""

_OF_THE_JOURNAL = b'"kind":"journal"'
_MOST_LINE_BYTES = 1024 * 1024


class Head(msgspec.Struct):
    """Of a record, its number, and what tells whether it speaks about a segment of the journal."""

    seq: int | None = None
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
    end: tuple[str, int] | None
    """The newest segment, and where its last whole line ends."""


def read_past(directory: Path, *, origin: str, fsync: Fsync, key: Ed25519PublicKey | None) -> Past:
    """Read what lies behind the newest checkpoint and make it durable; for the origin's one writer. Raises OSError.

    The checkpoint must be signed by `key`; without one nothing is built on it. All segments are read if it is not known
    where it ends in them, or if what is known does not agree with it.
    Damaged lines are counted and hashed as they are: it is `gateway.audit.evidence.verify` that judges them, and a
    writer that would not start over them would give everybody who can spoil a line a way to stop it.
    """
    with suppress(OSError):  # whatever stands there: it keeps nobody from starting
        repair_history(directory, origin=origin, fsync=fsync)
    newest, damaged = _newest_checkpoint(directory, origin=origin, key=key)
    segments = list_segments(directory).get(origin, [])
    place = read_place(directory, origin=origin)
    tail = _Reading()
    if key is not None and newest is not None and place is not None and tail.begin_at(place, segments, newest):
        tail.read(fsync=fsync)
        if tail.root_then == newest.root and tail.is_in_order:
            return tail.past(covered=newest.size, altered=False)
    whole = _Reading(segments, newest)
    whole.read(fsync=fsync)
    altered = damaged or (newest is not None and whole.root_then != newest.root)
    return whole.past(covered=0 if newest is None or altered else newest.size, altered=altered)


class _Reading:
    """One pass over segments, from the first line or from some place on."""

    def __init__(self, segments: list[Path] | None = None, newest: Checkpoint | None = None) -> None:
        self.root_then: bytes | None = None
        """The root of as many lines as the newest checkpoint speaks of."""
        self.is_in_order = True
        """Whether the first line read has the number that it should have."""
        self._segments = segments or []
        self._newest_size = None if newest is None else newest.size
        self._tree = Frontier()
        self._start = self._first = 0
        self._torn: dict[str, int] = {}
        self._end: tuple[str, int] | None = None

    def begin_at(self, place: Place, segments: list[Path], newest: Checkpoint) -> bool:
        """Begin at `place`, unless it cannot be one of these segments', or not one before the newest checkpoint."""
        names = [path.name for path in segments]
        if place.size > newest.size or place.segment not in names:
            return False
        first = names.index(place.segment)
        if not _ends_at(segments[first], place):
            return False
        self._segments, self._newest_size = segments[first:], newest.size
        self._tree, self._start, self._first = place.tree, place.offset, place.size
        self._note_root()
        return True

    def read(self, *, fsync: Fsync) -> None:
        start = self._start
        for path in self._segments:
            self._end = (path.name, start)
            for offset, line in read_lines(path, start=start):
                self._take(path.name, offset, line)
            start = 0
            _make_durable(path, fsync=fsync)

    def past(self, *, covered: int, altered: bool) -> Past:
        torn = tuple(sorted(self._torn.items()))
        return Past(tree=self._tree, torn=torn, covered=covered, altered=altered, end=self._end)

    def _take(self, segment: str, offset: int, line: bytes) -> None:
        if not line.endswith(b"\n"):
            self._torn[segment] = offset
            return
        leaf, head = _read_line(line)
        if self._tree.size == self._first:
            self.is_in_order = head().seq == self._first
        self._tree.append(leaf)
        self._end = (segment, offset + len(line))
        self._note_root()
        if _OF_THE_JOURNAL in line:
            # A segment can have one torn line; where that begins changes when content is taken out of the lines before.
            spoken = head()
            if spoken.segment is not None and spoken.offset is not None:
                self._torn.pop(spoken.segment, None)

    def _note_root(self) -> None:
        if self._tree.size == self._newest_size:
            self.root_then = self._tree.root()


def _ends_at(path: Path, place: Place) -> bool:
    """Tell whether the last line of a tree ends there, so that no line is passed over between it and the rest."""
    if place.offset == 0:
        name = parse_name(path.name)
        return name is not None and name.first == place.size
    start = max(0, place.offset - _MOST_LINE_BYTES)
    with path.open("rb") as file:
        if file.seek(0, io.SEEK_END) < place.offset:
            return False
        file.seek(start)
        lines = file.read(place.offset - start).splitlines(keepends=True)
    _, head = _read_line(lines[-1])
    return head().seq == place.size - 1


def _newest_checkpoint(directory: Path, *, origin: str, key: Ed25519PublicKey | None) -> tuple[Checkpoint | None, bool]:
    """Return the newest checkpoint if it is good, and whether there is something else in its place."""
    note = read_newest(directory, origin=origin)
    if note is None:
        return None, False
    try:
        return open_note(note, key=key), False
    except CheckpointError:
        return None, True


def _read_line(line: bytes) -> tuple[bytes, Callable[[], Head]]:
    """Return a line's leaf hash, and what reads its head."""
    parts = parse_line(line)
    if parts is None:
        return leaf_hash(line), Head
    if parts.gone:
        gone = decode_gone(parts.gone)
        return bytes.fromhex(parts.leaf.decode()), Head if gone is None else partial(Head, seq=gone.seq)
    return leaf_hash(parts.record), partial(_read_head, parts.record)


def _read_head(record: bytes) -> Head:
    try:
        return msgspec.json.decode(record, type=Head)
    except UNREADABLE:
        return Head()


def _make_durable(path: Path, *, fsync: Fsync) -> None:
    """A checkpoint must not speak of lines that a power cut can still take away."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fsync(handle)
    finally:
        os.close(handle)
