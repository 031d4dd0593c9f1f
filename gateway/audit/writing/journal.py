"""The journal: an append-only log in files, one writer per origin.

A directory (0700) holds, for each origin such as `node-worker0`, segments `<origin>-<first seq>.jsonl` (0600), a lock
file, the newest signed checkpoint with its place in the files, and the history of checkpoints. A segment holds one JSON
object a line:

    {"leaf":"<64 hexadecimal digits>","record":{...},"open":{...}}

`open` is what the record seals (see `gateway.audit.sealed`), and can go; so can a record's content (see
`gateway.audit.removal.retention`). `leaf` is the RFC 6962 leaf hash of the record's exact bytes, so that a changed byte
is found on its own line, with no key and no neighbour. The record holds `origin`, `seq` and `at`: `seq` counts from 0
over the origin's whole life, so that what is missing, doubled or moved shows. What a liar can make consistent again by
hashing anew, the checkpoints' roots show: they are over all records of the origin. One writer per origin needs no lock
between processes while it writes; a new segment at each start means that nobody ever writes behind lines that a crash
may have spoilt.

A line without its end of line was never acknowledged. It stays where it is, and the next segment begins with a record
(kind `journal`, reason `torn_tail` or `recovered`) that names the segment and the offset at which it was given up.
Whole lines that no checkpoint covers at a start are signed behind a record (reason `unsigned_tail`) that counts them.
"""

import asyncio
import logging
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

from gateway.audit.evidence.checkpoint import Checkpoint, NoteSigner, write_note
from gateway.audit.hand import Hand
from gateway.audit.log import Instead, JournalBusy, JournalError
from gateway.audit.record import Record, forget_commitments
from gateway.audit.segment import ORIGIN, Fsync, sync_directory
from gateway.audit.writing.batch import Batch, Write
from gateway.audit.writing.notes import Note
from gateway.audit.writing.place import Place, write_place
from gateway.audit.writing.resume import UNSIGNED, read_past
from gateway.audit.writing.writer import Writer, mark
from gateway.clock import Clock, Ticks, boot_seconds
from gateway.locks import claim
from gateway.tasks import Tasks

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 0.5
"""How long a record may wait for the disk; as long as a request waits for its facts."""
CLOSING_SECONDS = 1.0
"""How long a disk may keep a worker from stopping; what it has not taken by then was acknowledged to nobody."""


class Journal:
    """The audit log of one origin; see `gateway.audit.log.AuditLog` for what holds when a call returns.

    After an error in writing, the segment is sealed for ever and `append` raises JournalError; a later append opens a
    new segment as soon as the disk lets it, and that begins with a record of what happened. While the disk hangs,
    `append` raises JournalError at once; it works again when the disk does.
    """

    def __init__(
        self,
        directory: Path,
        *,
        origin: str,
        writer: Writer,
        keeper: Hand,
        activity: asyncio.Event,
        signer: NoteSigner | None,
        checkpoint_seconds: float,
        patience_seconds: float,
        closing_seconds: float,
        always_durable: bool,
        fsync: Fsync,
    ) -> None:
        """Use `open`."""
        self._directory = directory
        self._origin = origin
        self._writer = writer
        self._keeper = keeper
        self._activity = activity
        self._signer = signer
        self._checkpoint_seconds = checkpoint_seconds
        self._patience = patience_seconds
        self._closing_seconds = closing_seconds
        self._always_durable = always_durable
        self._fsync = fsync
        self._lock = -1
        self._closed = False
        self._checkpointed = self._found = 0
        self._signing: asyncio.Future[None] | None = None
        self._past_end: tuple[str, int] | None = None
        self._tasks = Tasks()

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        origin: str,
        clock: Clock,
        signer: NoteSigner | None,
        ticks: Ticks = boot_seconds,
        segment_bytes: int = 64 * 1024 * 1024,
        checkpoint_seconds: float = 1.0,
        patience_seconds: float = PATIENCE_SECONDS,
        closing_seconds: float = CLOSING_SECONDS,
        always_durable: bool = False,
        write: Write = os.write,
        fsync: Fsync = os.fsync,
    ) -> Self:
        """Become the one writer of `origin`, reading what earlier ones left; starts unhealthy if the disk is full.

        With `always_durable` every record that is waited for waits for an fsync.
        `signer` signs the checkpoints, and knows those of earlier writers; None writes none. Raises JournalError if
        another process writes this origin, or if the directory cannot be read.
        """
        if ORIGIN.fullmatch(origin) is None:
            raise JournalError(f"`{origin}` cannot name a journal: use letters, digits, dots, hyphens and underscores")
        # What waits for the disk itself is done by one thread, in the order in which it was asked for.
        keeper, activity = Hand(f"journal-{origin}-fsync"), asyncio.Event()
        writer = Writer(
            directory,
            origin=origin,
            clock=clock,
            ticks=ticks,
            write=write,
            fsync=fsync,
            keeper=keeper,
            segment_bytes=segment_bytes,
            patience_seconds=patience_seconds,
            written=activity.set,
        )
        journal = cls(
            directory,
            origin=origin,
            writer=writer,
            keeper=keeper,
            activity=activity,
            signer=signer,
            checkpoint_seconds=checkpoint_seconds,
            patience_seconds=patience_seconds,
            closing_seconds=closing_seconds,
            always_durable=always_durable,
            fsync=fsync,
        )
        try:
            journal._lock = await journal._keeper.run(partial(_claim, directory, origin=origin, fsync=fsync))
            await journal._resume()
        except OSError as error:
            await journal.close()
            raise JournalError(f"the journal `{directory}` cannot be opened: {error.strerror}") from error
        except JournalError:
            await journal.close()
            raise
        return journal

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded, and none is taking too long."""
        writer = self._writer
        late = writer.segment is not None and writer.segment.is_late
        return writer.fault is None and not writer.is_hanging and not late and not self._closed

    @property
    def size(self) -> int:
        """How many records the origin has, over all its segments."""
        return self._writer.tree.size

    @property
    def failures(self) -> int:
        """How often writing has failed, or has taken too long, since it was opened."""
        return self._writer.failures

    @property
    def notes_waiting(self) -> int:
        """How many notes are kept in memory because they could not be written."""
        return self._writer.notes.waiting

    @property
    def notes_lost(self) -> int:
        """How many were more than could be kept, since it was opened."""
        return self._writer.notes.lost

    async def append(self, record: Record, *, durable: bool = False, instead: Instead | None = None) -> int:
        """Keep `record` and return its sequence number; raises JournalError."""
        durable = durable or self._always_durable
        if durable and (segment := self._writer.segment) is not None and segment.is_late:
            raise JournalError(self._hangs())
        seq, written, batch, index = self._writer.put(record)
        try:
            await written
            if durable:
                await self._make_durable(batch)
        except BaseException:
            if instead is not None:
                self._writer.abandon(batch, index, instead)
            raise
        return seq

    def note(self, note: Note) -> None:
        """See `AuditLog.note`."""
        self._writer.notes.add(note)

    async def rotate(self) -> None:
        """Go on in a new segment: what there is in earlier ones by now is never written to again; raises JournalError.

        What is recorded from now on has commitments of its own, so that they say nothing of what was before.
        """
        forget_commitments()
        self._writer.is_rotating = True
        await self.append(mark("rotated"))

    async def checkpoint(self) -> None:
        """Sign the tree as it is now and write it down, once all it covers is durable; raises JournalError."""
        if self._signing is not None:
            # Somebody has asked for it before, and may have hung up.
            await asyncio.wait([self._signing])
        writer = self._writer
        segment, tree, size = writer.segment, writer.tree, writer.tree.size
        if self._signer is None or size == self._checkpointed:
            return
        if writer.fault is not None:
            # What a sealed segment holds may not be durable; the next one says so before it is signed.
            raise JournalError(writer.fault)
        if size <= self._found:
            raise JournalError(f"it is not on the record yet that the journal of `{self._origin}` ended unsigned")
        text = Checkpoint(origin=self._origin, size=size, root=tree.root()).text()
        name, offset = (segment.path.name, segment.size) if segment is not None else self._past_end or ("", 0)
        place = Place(size=size, peaks=tree.peaks, segment=name, offset=offset)
        try:
            # Durable first: a checkpoint held elsewhere must not outlive records that a power cut takes away.
            if segment is not None:
                await segment.sync(segment.size)
            self._signing = self._keeper.run(partial(self._write_checkpoint, self._signer(text), place))
            self._signing.add_done_callback(partial(self._signed, size))
            await asyncio.shield(self._signing)
        except OSError as error:
            raise JournalError(f"the checkpoint of `{self._origin}` cannot be written: {error.strerror}") from error

    async def close(self) -> None:
        """Make all durable, write the last checkpoint and give up the lock; safe to call twice.

        A disk that hangs is not waited for long. The lock is then kept until it is over, or the process has ended, so
        that what is written late does not mix with what another process writes.
        """
        if self._closed:
            return
        self._closed = True
        until = asyncio.get_running_loop().time() + self._closing_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._finish()
        released = self._writer.release(self._unlock)
        try:
            async with asyncio.timeout_at(until):
                await released
        except TimeoutError:
            log.error("the journal of %s was closed while the disk hangs", self._origin)  # noqa: TRY400 - the disk's

    async def _finish(self) -> None:
        await self._tasks.close()
        await self._writer.finish()
        try:
            await self.checkpoint()
            if (segment := self._writer.segment) is not None:
                await segment.sync(segment.size)
        except (JournalError, OSError):
            log.exception("the journal of %s was closed without its last checkpoint", self._origin)

    async def _resume(self) -> None:
        key = None if self._signer is None else self._signer.public
        read = partial(read_past, self._directory, origin=self._origin, fsync=self._fsync, key=key)
        past = await self._keeper.run(read)
        marks = [mark("torn_tail", segment=name, offset=offset) for name, offset in past.torn]
        self._checkpointed, self._past_end = past.covered, past.end
        if self._signer is not None and past.tree.size > past.covered and not past.altered:
            # Whoever wrote them was killed before it signed, or somebody else has put them there. First of the marks,
            # so that they are the records right before it; without it none of them is signed.
            self._found = past.tree.size
            marks.insert(0, mark(UNSIGNED, count=past.tree.size - past.covered))
        if past.altered:
            log.error("the journal of %s is not the one that its checkpoint speaks of: verify it", self._origin)
            marks.append(mark("history_altered"))
        self._writer.resume(past.tree, marks)
        if marks:
            with suppress(JournalError):
                await self._writer.write_marks()
        if self._signer is not None:
            self._tasks.start(self._keep_checkpoints(), name=f"checkpoints of {self._origin}")

    async def _make_durable(self, batch: Batch) -> None:
        """Return once a batch that has been written is durable; raises JournalError, also if that takes too long."""
        segment, end = batch.written_to()
        limit = asyncio.timeout(self._patience)
        try:
            async with limit:
                await segment.sync(end)
        except OSError as error:
            if limit.expired():
                segment.is_late = True
                raise JournalError(self._hangs()) from error
            raise JournalError(f"the journal cannot be made durable: {error.strerror}") from error

    def _hangs(self) -> str:
        return f"the journal cannot be made durable: the disk takes more than {self._patience:g} s"

    def _write_checkpoint(self, note: bytes, place: Place) -> None:
        write_note(note, directory=self._directory, origin=self._origin, fsync=self._fsync)
        # Behind the note: what speaks of a newer checkpoint than there is would be of no use.
        if place.segment:
            write_place(self._directory, place, origin=self._origin)

    def _signed(self, size: int, job: asyncio.Future[None]) -> None:
        if job.exception() is None:
            self._checkpointed = size

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

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


def _claim(directory: Path, *, origin: str, fsync: Fsync) -> int:
    """Make the directory, and return the handle that keeps the origin for this process alone."""
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # workers start together
        sync_directory(directory.parent, fsync=fsync)
    if (handle := claim(directory / f"{origin}.lock")) is None:
        raise JournalBusy(f"another process writes the journal of `{origin}`: give this one another origin")
    return handle
