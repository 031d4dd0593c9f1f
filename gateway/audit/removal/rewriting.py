"""Taking something out of files that are never written to again: a new file, made durable, in the place of the old one.

Every segment but the newest of an origin is such a file, and so is that while nobody writes the origin. One process at
a time rewrites. Whoever keeps a position in a segment notices that its name stands for another file (the inode).
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from gateway.audit.log import JournalBusy
from gateway.audit.segment import Fsync, list_segments, parse_name, read_lines, sync_directory
from gateway.audit.writing.batch import Write
from gateway.audit.writing.place import read_place, write_place
from gateway.locks import Claim, Lock, claim

Change = Callable[[bytes], bytes]
"""Returns the line that takes the place of a whole line; the same one if nothing is to be taken out of it."""

_DRAFT = ".new"
_REMOVING = "removing.lock"
_BUFFER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The calls that can fail."""

    write: Write = os.write
    fsync: Fsync = os.fsync
    rename: Callable[[Path, Path], None] = os.replace
    claim: Claim = claim


@contextmanager
def rewriting(directory: Path, *, disk: Disk) -> Iterator[None]:
    """Be the one process that rewrites this journal, and clear away what an earlier one left half done.

    Raises JournalBusy if another one does, OSError.
    """
    with _lock(directory / "rewriting.lock", disk.claim) as is_ours:
        if not is_ours:
            raise JournalBusy("another process is erasing or retaining in this journal: try again when it is done")
        for draft in directory.glob(f"*.jsonl{_DRAFT}"):
            draft.unlink(missing_ok=True)
        yield


@contextmanager
def removing(directory: Path, *, disk: Disk) -> Iterator[None]:
    """Be the one who takes something away, from asking which accounts are under hold until it is gone.

    Raises JournalBusy if somebody has just been told that an account is under hold, OSError.
    """
    with _lock(directory / _REMOVING, disk.claim) as is_ours:
        if not is_ours:
            raise JournalBusy("an account has just come under hold: try again")
        yield


def is_removing(directory: Path) -> bool:
    """Tell whether something is being taken away by someone who has asked for the holds before; raises OSError."""
    with _lock(directory / _REMOVING) as is_ours:
        return not is_ours


@contextmanager
def closed(path: Path, *, disk: Disk) -> Iterator[bool]:
    """Tell whether a segment is never written to again, which holds until the block ends; raises OSError."""
    name = parse_name(path.name)
    if name is None or not path.exists():
        yield False
        return
    with _lock(path, disk.claim) as is_not_open:
        if not is_not_open:
            # Whatever its name says: where segments have been lost, a writer may be in one that is not the newest.
            yield False
        elif not is_newest(path):
            yield True
        else:
            with _lock(path.with_name(f"{name.origin}.lock"), disk.claim) as is_ours:
                # Whoever wrote the origin may have begun another one just before it ended.
                yield is_ours or not is_newest(path)


def is_written(directory: Path, origin: str) -> bool:
    """Tell whether somebody writes an origin now; raises OSError."""
    with _lock(directory / f"{origin}.lock") as is_ours:
        return not is_ours


def is_newest(path: Path) -> bool:
    """Tell whether a segment is the one in which its origin's writer goes on, if there is a writer."""
    name = parse_name(path.name)
    return name is not None and list_segments(path.parent)[name.origin][-1] == path


def rewrite(path: Path, change: Change, *, disk: Disk) -> None:
    """Put a changed file in a segment's place, durably; the segment must be `closed`. Raises OSError.

    Whatever fails, and whenever the process is killed, either file is there whole. A torn last line, which was never
    acknowledged, is left out once a later segment speaks of it: it may hold what is taken out elsewhere.
    """
    draft = path.with_name(path.name + _DRAFT)
    draft.unlink(missing_ok=True)
    place = _Moved(path)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            for lines in _changed(path, change, place):
                _write_all(handle, lines, write=disk.write)
            disk.fsync(handle)
        finally:
            os.close(handle)
        disk.rename(draft, path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent, fsync=disk.fsync)
    place.write()


class _Moved:
    """Where the newest checkpoint ends, if that is in a segment which is rewritten and nobody writes."""

    def __init__(self, path: Path) -> None:
        name = parse_name(path.name)
        self._origin = "" if name is None else name.origin
        self._directory = path.parent
        place = read_place(path.parent, origin=self._origin) if is_newest(path) else None
        self._place = place if place is not None and place.segment == path.name else None
        self._offset = 0

    def note(self, before: int, after: int) -> None:
        """Take note of where a line ended and ends now."""
        if self._place is not None and before == self._place.offset:
            self._offset = after

    def write(self) -> None:
        if self._place is not None:
            moved = structs.replace(self._place, offset=self._offset)
            write_place(self._directory, moved, origin=self._origin)


def _changed(path: Path, change: Change, place: _Moved) -> Iterator[bytes]:
    """Yield the changed lines, many at a time."""
    lines: list[bytes] = []
    length = end = 0
    for offset, line in read_lines(path):
        if not line.endswith(b"\n"):
            if is_newest(path):
                lines.append(line)
            break
        after = change(line)
        lines.append(after)
        length += len(after)
        end += len(after)
        place.note(offset + len(line), end)
        if length >= _BUFFER_BYTES:
            yield b"".join(lines)
            lines, length = [], 0
    yield b"".join(lines)


def _write_all(handle: int, content: bytes, *, write: Write) -> None:
    if content and write(handle, content) != len(content):
        raise OSError(errno.ENOSPC, "the file was written in part")


@contextmanager
def _lock(path: Path, claim: Claim = claim) -> Iterator[bool]:
    """Tell whether the lock is ours until the block ends."""
    lock = Lock(path, claim=claim)
    try:
        yield lock.take()
    finally:
        lock.release()
