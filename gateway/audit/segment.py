"""One file of the journal: its name, its lines, and the only hand that writes it."""

import asyncio
import errno
import itertools
import os
import re
from binascii import hexlify
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
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


class Segment:
    """An open segment; after its first error it is never written or relied on again.

    A failed fsync may have dropped the very pages it was asked to keep and marked them clean, so a second one that
    succeeds says nothing. Whoever uses the segment gives it up; `sync` goes on failing.
    """

    def __init__(self, path: Path, *, fsync: Fsync, thread: Executor) -> None:
        """Create the file, which must not exist, and make its name durable; raises OSError."""
        self.path = path
        self.size = 0
        """Bytes of whole lines written."""
        self.sealed = False
        """Given up after an error."""
        self._fsync = fsync
        self._thread = thread
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._error: OSError | None = None
        self._job: asyncio.Future[None] | None = None
        self._queued: asyncio.Future[None] | None = None
        try:
            sync_directory(path.parent, fsync=fsync)
        except OSError:
            os.close(self._fd)
            path.unlink(missing_ok=True)
            raise

    def write(self, line: bytes) -> None:
        """Hand a line to the operating system in one call: killing this process cannot lose it. Raises OSError."""
        if os.write(self._fd, line) != len(line):
            raise OSError(errno.ENOSPC, "the line was written in part")
        self.size += len(line)

    def is_empty(self) -> bool:
        """Tell whether not a byte has reached the file, not even of a torn line."""
        return os.fstat(self._fd).st_size == 0

    async def sync(self) -> None:
        """Return once every line written so far is on the disk; callers share an fsync. Raises OSError.

        An fsync that is already running may have begun before the caller's line was written, so it is waited out and
        the next one serves everybody who came meanwhile.
        """
        if self._error is None:
            if self._queued is None:
                self._queued = asyncio.get_running_loop().create_future()
            waiter = self._queued
            if self._job is None:
                self._begin(waiter)
            # Shielded, for it is shared: one caller's hanging up must not take the others' answer away.
            await asyncio.shield(waiter)
        if self._error is not None:
            raise OSError(self._error.errno, self._error.strerror) from self._error

    async def close(self) -> None:
        """Close the file once no fsync is running on it; safe to call twice."""
        while self._job is not None:
            await asyncio.wait([self._job])
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _begin(self, waiter: asyncio.Future[None]) -> None:
        self._queued = None
        self._job = asyncio.get_running_loop().run_in_executor(self._thread, self._fsync, self._fd)
        self._job.add_done_callback(partial(self._end, waiter))

    def _end(self, waiter: asyncio.Future[None], job: asyncio.Future[None]) -> None:
        self._job = None
        error = job.exception()
        if error is not None:
            self._error = error if isinstance(error, OSError) else OSError(errno.EIO, str(error))
        waiter.set_result(None)
        if self._queued is not None and self._error is None:
            self._begin(self._queued)
        elif self._queued is not None:
            self._queued.set_result(None)
