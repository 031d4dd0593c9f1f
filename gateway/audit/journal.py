"""The journal: an append-only log in files, one writer per origin.

A directory (0700) holds, for each origin such as `node-worker0`, segments `<origin>-<first seq>.jsonl` (0600), a lock
file, the newest signed checkpoint and the history of checkpoints. A segment holds one JSON object a line:

    {"leaf":"<64 hexadecimal digits>","record":{...}}

`leaf` is the RFC 6962 leaf hash of the record's exact bytes, so that a changed byte is found on its own line, with no
key and no neighbour. The record holds `origin`, `seq` and `at`: `seq` counts from 0 over the origin's whole life, so
that what is missing, doubled or moved shows. What a liar can make consistent again by hashing anew, the checkpoints'
roots show: they are over all records of the origin. One writer per origin needs no lock between processes while it
writes; a new segment at each start means that nobody ever writes behind lines that a crash may have spoilt.

A line without its end of line was never acknowledged. It stays where it is, and the next segment begins with a record
(kind `journal`, reason `torn_tail` or `recovered`) that names the segment and the offset at which it was given up.
"""

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

from gateway.audit.checkpoint import Checkpoint, write_note
from gateway.audit.log import JournalBusy, JournalError
from gateway.audit.record import Record, encode
from gateway.audit.resume import read_past
from gateway.audit.segment import ORIGIN, Fsync, Segment, SegmentName, build_line, sync_directory
from gateway.clock import Clock, Ticks, boot_seconds
from gateway.tasks import Tasks
from policy.merkle import Frontier

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
"""How long a failed journal refuses without asking the disk again."""


class Journal:
    """The audit log of one origin; see `gateway.audit.log.AuditLog` for what holds when a call returns.

    After an error in writing, the segment is sealed for ever and `append` raises JournalError; a later append opens a
    new segment as soon as the disk lets it, and that begins with a record of what happened.
    """

    def __init__(
        self,
        directory: Path,
        *,
        origin: str,
        clock: Clock,
        signer: Callable[[bytes], bytes] | None,
        ticks: Ticks,
        segment_bytes: int,
        checkpoint_seconds: float,
        fsync: Fsync,
    ) -> None:
        """Use `open`."""
        self._directory = directory
        self._origin = origin
        self._clock = clock
        self._signer = signer
        self._ticks = ticks
        self._segment_bytes = segment_bytes
        self._checkpoint_seconds = checkpoint_seconds
        self._fsync = fsync
        # One thread, so that what reaches the disk does so in the order in which it was asked for.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"journal-{origin}")
        self._lock = _lock(directory, origin=origin)
        self._tree = Frontier()
        self._segment: Segment | None = None
        self._opening: asyncio.Task[None] | None = None
        self._sealed: list[Segment] = []
        self._marks: list[Record] = []
        self._fault: str | None = None
        self._retry_at = 0.0
        self._closed = False
        self._activity = asyncio.Event()
        self._checkpointed = 0
        self._tasks = Tasks()

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        origin: str,
        clock: Clock,
        signer: Callable[[bytes], bytes] | None,
        ticks: Ticks = boot_seconds,
        segment_bytes: int = 64 * 1024 * 1024,
        checkpoint_seconds: float = 1.0,
        fsync: Fsync = os.fsync,
    ) -> Self:
        """Become the one writer of `origin`, reading what earlier ones left; starts unhealthy if the disk is full.

        `signer` turns a checkpoint's text into a signed note; None writes no checkpoints. Raises JournalError if
        another process writes this origin, or if the directory cannot be read.
        """
        if ORIGIN.fullmatch(origin) is None:
            raise JournalError(f"`{origin}` cannot name a journal: use letters, digits, dots, hyphens and underscores")
        try:
            _make_directory(directory, fsync=fsync)
            journal = cls(
                directory,
                origin=origin,
                clock=clock,
                signer=signer,
                ticks=ticks,
                segment_bytes=segment_bytes,
                checkpoint_seconds=checkpoint_seconds,
                fsync=fsync,
            )
        except OSError as error:
            raise JournalError(f"the journal `{directory}` cannot be opened: {error.strerror}") from error
        try:
            await journal._resume()
        except OSError as error:
            await journal.close()
            raise JournalError(f"the journal `{directory}` cannot be read: {error.strerror}") from error
        return journal

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self._fault is None and not self._closed

    @property
    def size(self) -> int:
        """How many records the origin has, over all its segments."""
        return self._tree.size

    async def append(self, record: Record, *, durable: bool = False) -> int:
        """Keep `record` and return its sequence number; raises JournalError."""
        segment = self._segment
        if segment is None or segment.size >= self._segment_bytes or self._closed:
            segment = await self._next_segment()
        seq = self._write(segment, record)
        if durable:
            await self._sync(segment)
        return seq

    async def checkpoint(self) -> None:
        """Sign the tree as it is now and write it down, once all it covers is durable; raises JournalError."""
        segment, size = self._segment, self._tree.size
        if self._signer is None or size == self._checkpointed:
            return
        text = Checkpoint(origin=self._origin, size=size, root=self._tree.root()).text()
        # Durable first: a checkpoint held elsewhere must not outlive records that a power cut takes away.
        if segment is not None:
            await self._sync(segment)
        write = partial(write_note, self._signer(text), directory=self._directory, origin=self._origin)
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, partial(write, fsync=self._fsync))
        except OSError as error:
            raise JournalError(f"the checkpoint of `{self._origin}` cannot be written: {error.strerror}") from error
        self._checkpointed = size

    async def close(self) -> None:
        """Make all durable, write the last checkpoint and give up the lock; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        await self._tasks.close()
        if self._opening is not None:
            await self._opening
        try:
            if self._segment is not None:
                await self._sync(self._segment)
                await self.checkpoint()
        except JournalError:
            log.exception("the journal of %s was closed without its last checkpoint", self._origin)
        for segment in filter(None, [*self._sealed, self._segment]):
            await segment.close()
        self._segment = None
        self._thread.shutdown()
        os.close(self._lock)

    async def _resume(self) -> None:
        loop = asyncio.get_running_loop()
        read = partial(read_past, self._directory, origin=self._origin, fsync=self._fsync)
        past = await loop.run_in_executor(self._thread, read)
        self._tree = past.tree
        self._marks = [_mark("torn_tail", segment=name, offset=offset) for name, offset in past.torn]
        self._checkpointed = past.covered
        if self._tree.size > past.covered and not past.altered:
            # Whoever wrote them was killed before it signed; they are durable by now.
            self._activity.set()
        if past.altered:
            log.error("the journal of %s is not the one that its checkpoint speaks of: verify it", self._origin)
            self._marks.append(_mark("history_altered"))
        if self._marks:
            with suppress(JournalError):
                await self._next_segment()
        if self._signer is not None:
            self._tasks.start(self._keep_checkpoints(), name=f"checkpoints of {self._origin}")

    def _write(self, segment: Segment, record: Record) -> int:
        seq = self._tree.size
        leaf, line = build_line(encode(record, origin=self._origin, seq=seq, at=self._clock()))
        try:
            segment.write(line)
        except OSError as error:
            self._seal(segment, error)
            raise JournalError(f"the journal cannot be written: {error.strerror}") from error
        self._tree.append(leaf)
        self._activity.set()
        return seq

    async def _sync(self, segment: Segment) -> None:
        try:
            await segment.sync()
        except OSError as error:
            self._seal(segment, error)
            raise JournalError(f"the journal cannot be made durable: {error.strerror}") from error

    def _seal(self, segment: Segment, error: OSError) -> None:
        """Give a segment up, once, and say in the next one where that was."""
        if segment.sealed:
            return
        segment.sealed = True
        log.error("the journal sealed %s: %s", segment.path.name, error.strerror)
        self._fault = f"the journal cannot be written: {error.strerror}"
        self._retry_at = self._ticks() + RETRY_SECONDS
        self._sealed.append(segment)
        if self._segment is segment:
            self._segment = None
        with suppress(OSError):
            if segment.is_empty():
                # Nothing to keep, and a full disk would collect one such file for each attempt.
                segment.path.unlink()
                return
        self._marks.append(_mark("recovered", segment=segment.path.name, offset=segment.size))

    async def _next_segment(self) -> Segment:
        """Return the segment to write to, opened by one task for all who wait; raises JournalError."""
        if self._closed:
            raise JournalError("the journal is closed")
        if self._opening is None:
            if self._fault is not None and self._ticks() < self._retry_at:
                raise JournalError(self._fault)
            loop = asyncio.get_running_loop()
            self._opening = loop.create_task(self._open_segment(), name=f"segment of {self._origin}")
        # Shielded: a caller that hangs up must not leave a half-opened segment behind.
        await asyncio.shield(self._opening)
        if self._segment is None or self._closed:
            raise JournalError(self._fault or "the journal is closed")
        return self._segment

    async def _open_segment(self) -> None:
        """Finish the old segment and open a new one; leaves a fault or a segment to write to."""
        old, self._segment = self._segment, None
        try:
            if old is not None:
                await self._sync(old)
                await old.close()
            while self._sealed:
                await self._sealed[0].close()
                self._sealed.pop(0)
            new = await asyncio.get_running_loop().run_in_executor(self._thread, self._create)
            await self._write_marks(new)
        except JournalError:
            return
        except OSError as error:
            self._fault = f"the journal cannot be opened: {error.strerror}"
            self._retry_at = self._ticks() + RETRY_SECONDS
            return
        finally:
            self._opening = None
        self._segment = new
        self._fault = None
        if self._tree.size > self._checkpointed:
            self._activity.set()

    def _create(self) -> Segment:
        attempt = 0
        while True:
            name = SegmentName(origin=self._origin, first=self._tree.size, attempt=attempt)
            try:
                return Segment(self._directory / str(name), fsync=self._fsync, thread=self._thread)
            except FileExistsError:
                attempt += 1

    async def _write_marks(self, segment: Segment) -> None:
        if not self._marks:
            return
        while self._marks:
            self._write(segment, self._marks[0])
            self._marks.pop(0)
        # Not healthy before the disk has really kept something again.
        await self._sync(segment)

    async def _keep_checkpoints(self) -> None:
        while True:
            await self._activity.wait()
            self._activity.clear()
            try:
                await self.checkpoint()
            except JournalError as error:
                log.warning("%s", error)
                self._activity.set()
            await asyncio.sleep(self._checkpoint_seconds)


def _mark(reason: str, *, segment: str | None = None, offset: int | None = None) -> Record:
    return Record(kind="journal", reason=reason, segment=segment, offset=offset)


def _make_directory(directory: Path, *, fsync: Fsync) -> None:
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # workers start together
        sync_directory(directory.parent, fsync=fsync)


def _lock(directory: Path, *, origin: str) -> int:
    handle = os.open(directory / f"{origin}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise JournalBusy(f"another process writes the journal of `{origin}`: give this one another origin") from error
    except OSError:
        os.close(handle)
        raise
    return handle
