"""Writes the records of one origin on a thread: one batch while the next is filled.

The loop never meets the disk, so a disk that hangs keeps out staff only. Whoever waits longer than a stated time is
refused, and so is everybody after them at once, until the call that hangs has come back. What comes of that call
decides what is on the record: more may be than was acknowledged, never less.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from gateway.audit.hand import Hand
from gateway.audit.log import Instead, JournalError
from gateway.audit.record import Record
from gateway.audit.segment import Fsync, SegmentName, list_segments, parse_name
from gateway.audit.writing.batch import Batch, Segment, Write, as_ours
from gateway.audit.writing.notes import Note, Notes
from gateway.clock import Clock, Ticks
from policy.merkle import Frontier

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
"""How long a failed journal refuses without asking the disk again."""
NOTE_SECONDS = 0.05
"""How long a note waits for a record that somebody waits for, so that both need one call of the disk."""
MOST_RECORDS = 8192
"""So many may wait for the disk: what comes within half a second, at the most that one worker can answer."""
MOST_BYTES = 8 * 1024 * 1024
"""And so much of them."""
_CLOSED = "the journal is closed"
_TOO_MUCH = "more is to be recorded than the disk takes"
_STRANGERS_SHARE = 4
"""Only while less than one part in so many is taken do refusals of strangers wait for the disk: the rest is staff's."""


class Writer:
    """The open end of one origin's journal; everything but what says otherwise is for the loop's thread."""

    def __init__(
        self,
        directory: Path,
        *,
        origin: str,
        clock: Clock,
        ticks: Ticks,
        write: Write,
        fsync: Fsync,
        keeper: Hand,
        segment_bytes: int,
        patience_seconds: float,
        written: Callable[[], None],
    ) -> None:
        """Write segments of about `segment_bytes`; `written` is called whenever there is more on the record.

        `keeper` does what waits for the disk itself, so that what need not wait for that overtakes it. Nobody waits
        longer than `patience_seconds`.
        """
        self.tree = Frontier()
        """Over the lines that have been written, acknowledged or not."""
        self.segment: Segment | None = None
        """What is written to; None before the first record and after an error."""
        self.fault: str | None = None
        """Why the last attempt to write failed."""
        self.is_hanging = False
        """Whether somebody has waited too long for a call that has not come back."""
        self.is_rotating = False
        """Whether the next batch begins a new segment, however small the one that is open."""
        self.failures = 0
        """How often writing has failed, or has taken too long."""
        self.notes = Notes(self._note)
        """What is recorded without anybody's waiting for it."""
        self._directory = directory
        self._origin = origin
        self._clock = clock
        self._ticks = ticks
        self._write = write
        self._fsync = fsync
        self._hand = Hand(f"journal-{origin}")
        self._keeper = keeper
        self._segment_bytes = segment_bytes
        self._patience = patience_seconds
        self._on_written = written
        self._loop = asyncio.get_running_loop()
        self._marks: list[Record] = []
        self._next = 0
        self._filling: Batch | None = None
        self._writing: Batch | None = None
        self._notes_wait = False
        self._opening: asyncio.Task[None] | None = None
        self._retry_at = 0.0
        self._closed = False

    def resume(self, tree: Frontier, marks: list[Record]) -> None:
        """Go on behind the lines of `tree`; `marks` come before any other record."""
        self.tree, self._next, self._marks = tree, tree.size, marks

    def put(self, record: Record) -> tuple[int, asyncio.Future[Batch], Batch, int]:
        """Add a record to the batch that waits; return its number, and a future that is done once it is written.

        Returned are also that batch and the record's index in it, for `abandon`. Raises JournalError, and so does the
        future, if it cannot be written, or not in time.
        """
        if self._closed or self.is_hanging or self.segment is None:
            self._check()
        batch = self._filling or self._begin()
        if batch.bytes * _STRANGERS_SHARE >= MOST_BYTES or len(batch.records) * _STRANGERS_SHARE >= MOST_RECORDS:
            _check_room(batch, record)
        seq, index = self._next, len(batch.records)
        batch.add(record, origin=self._origin, seq=seq, at=self._clock())
        self._next = seq + 1
        if not batch.is_urgent:
            self._hurry(batch)
        waiter: asyncio.Future[Batch] = self._loop.create_future()
        batch.waiters.append(waiter)
        return seq, waiter, batch, index

    def abandon(self, batch: Batch, index: int, instead: Instead) -> None:
        """See `AuditLog.append`: nobody waits for that record any more, which may be on the record all the same."""

        def say() -> None:
            for note in batch.abandon(index, instead):
                self.notes.add(note)

        # Not before whoever waited has heard of it.
        self._loop.call_soon(say)

    async def write_marks(self) -> None:
        """Write what the next segment begins with, without waiting for a record; raises JournalError."""
        self._check()
        waiter: asyncio.Future[Batch] = self._loop.create_future()
        batch = self._filling or self._begin()
        self._hurry(batch)
        batch.waiters.append(waiter)
        await waiter

    async def finish(self) -> None:
        """Take no more records, and return once nothing waits or is being written."""
        self.notes.retry()
        self._closed = True
        while (batch := self._filling or self._writing) is not None:
            self._hurry(batch)
            waiter: asyncio.Future[Batch] = self._loop.create_future()
            # However it ends, and also if nobody waits for that any more.
            waiter.add_done_callback(lambda waiter: None if waiter.cancelled() else waiter.exception())
            batch.waiters.append(waiter)
            await asyncio.wait([waiter])
        if self._opening is not None:
            await self._opening
        self.notes.close()

    def release(self, last: Callable[[], None]) -> asyncio.Future[None]:
        """Close what is open, then do `last`, behind everything that either hand still does, and end both."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        if self._writing is not None:
            self._writing.settle(_CLOSED)
        self._drop(_CLOSED)
        self.notes.close()
        done: asyncio.Future[None] = self._loop.create_future()
        keeper, segment = self._keeper, self.segment
        self.segment = None
        if segment is not None:
            segment.is_closing = True

        def behind_the_writing() -> None:
            # From that thread, for the loop may be closed before a disk that hangs lets it go on.
            if segment is not None:
                segment.close()
            keeper.call(last, lambda _outcome: None if done.done() else done.set_result(None))
            keeper.stop()

        self._hand.call(behind_the_writing, lambda _outcome: None)
        self._hand.stop()
        return done

    def seal(self, segment: Segment, error: OSError) -> None:
        """Give a segment up, once; the next one says where that was."""
        if segment.sealed:
            return
        segment.sealed = True
        log.error("the journal sealed %s: %s", segment.path.name, error.strerror)
        if self.segment is segment:
            self.segment = None
        self._give_up(f"the journal cannot be written: {error.strerror}")
        if self._writing is None:
            self._bury(segment)

    def _check(self) -> None:
        if self._closed:
            raise JournalError(_CLOSED)
        if self.is_hanging:
            raise JournalError(f"the journal cannot be written: the disk takes more than {self._patience:g} s")
        if self.fault is None or self._filling is not None or self._opening is not None:
            return
        if self._writing is not None or self._ticks() < self._retry_at:
            raise JournalError(self.fault)

    def _note(self, note: Note) -> None:
        """Add a note to the batch that waits, which is not handed over for that alone; raises JournalError."""
        if self._closed or self.is_hanging or self.segment is None:
            self._check()
        batch = self._filling or self._begin()
        if not self._notes_wait:
            # One timer for all of them: it holds no batch, and nothing has to cancel it.
            self._notes_wait = True
            self._loop.call_later(NOTE_SECONDS, self._hurry_notes)
        if batch.bytes >= MOST_BYTES or len(batch.records) >= MOST_RECORDS:
            raise JournalError(_TOO_MUCH)
        batch.add_note(note, origin=self._origin, seq=self._next, at=self._clock())
        self._next += 1

    def _hurry(self, batch: Batch) -> None:
        """Hand a batch over at the end of this turn of the loop, or when the one before it is done."""
        if batch.is_urgent:
            return
        batch.is_urgent = True
        if self._writing is None:
            self._loop.call_soon(self._hand_over)

    def _hurry_notes(self) -> None:
        """Hand over the batch that waits: all notes since the timer was set are in it, or were handed over before."""
        self._notes_wait = False
        if self._filling is not None:
            self._hurry(self._filling)

    def _begin(self) -> Batch:
        """Begin a batch; it is handed over as soon as anybody waits for it, or after a while."""
        batch = self._filling = Batch()
        batch.timer = self._loop.call_later(self._patience, self._late, batch)
        batch.marks, self._marks = self._marks, []
        for mark in batch.marks:
            batch.add(mark, origin=self._origin, seq=self._next, at=self._clock())
            self._next += 1
        return batch

    def _hand_over(self) -> None:
        batch, segment = self._filling, self.segment
        if batch is None or not batch.is_urgent or self._writing is not None or self._opening is not None:
            return
        if segment is None or segment.size >= self._segment_bytes or self.is_rotating:
            self._opening = self._loop.create_task(self._open(), name=f"segment of {self._origin}")
            return
        try:
            lines = batch.finish()
        except Exception:
            log.exception("records of %s cannot be written as JSON", self._origin)
            self._give_up("what is to be recorded cannot be written as JSON")
            return
        self._filling, self._writing = None, batch
        # A journal that has failed has not recovered before the disk has really kept something.
        work = partial(segment.write, lines, durable=bool(batch.marks))
        self._hand.call(work, partial(self._written, batch, segment))

    def _written(self, batch: Batch, segment: Segment, outcome: tuple[int, OSError | None] | BaseException) -> None:
        self._writing = None
        self.is_hanging = False
        count, error = outcome if isinstance(outcome, tuple) else (0, as_ours(outcome))
        whole = self._count(batch, segment, count)
        if segment.sealed:
            # An fsync has failed meanwhile.
            self._bury(segment)
        elif error is not None:
            self.seal(segment, error)
        else:
            self.fault = None
        # If it failed, nothing is waiting behind it.
        if self._filling is None:
            self._next = self.tree.size
        batch.settle(self.fault)
        self._end(batch, whole)
        if batch.leaves:
            self._on_written()
        if self._filling is not None:
            self._hand_over()

    def _end(self, batch: Batch, whole: int) -> None:
        """Say of the batch's lines that so many are in the file."""
        missed, instead = batch.end(whole)
        if missed:
            self.notes.keep(missed)
        for note in instead:
            self.notes.add(note)

    def _count(self, batch: Batch, segment: Segment, count: int) -> int:
        """Take note of the batch's lines that are in the file, and return how many that are."""
        segment.size += count
        batch.place(segment, segment.size)
        leaves = batch.leaves
        if count != len(batch.lines):
            whole = batch.lines[:count].count(b"\n")
            leaves = leaves[:whole]
            self._marks = batch.marks[whole:] + self._marks
        self.tree.extend(leaves)
        return len(leaves)

    def _late(self, batch: Batch) -> None:
        """Refuse everybody who waits, and whoever comes, for as long as what hangs does."""
        if self._writing is None and self._opening is None:
            # It was the loop that had no time.
            batch.timer = self._loop.call_later(self._patience, self._late, batch)
            return
        if not self.is_hanging:
            log.error("the journal hangs: %s takes more than %g s", self._directory, self._patience)
            self.failures += 1
        self.is_hanging = True
        why = f"the journal could not be written within {self._patience:g} s"
        if self._writing is not None:
            self._writing.settle(why)
        self._drop(why)

    def _drop(self, why: str) -> None:
        """Refuse those who wait for the next batch; nothing of it is on the record."""
        batch, self._filling = self._filling, None
        self._next = self.tree.size + (0 if self._writing is None else len(self._writing.leaves))
        if batch is not None:
            self._marks = batch.marks + self._marks
            batch.settle(why)
            self._end(batch, 0)

    def _give_up(self, why: str) -> None:
        self.fault = why
        self.failures += 1
        self._retry_at = self._ticks() + RETRY_SECONDS
        self._drop(why)

    def _bury(self, segment: Segment) -> None:
        """Close a sealed segment, and let the next one say where it ends."""
        if segment.is_empty:
            # Nothing to keep, and a full disk would collect one such file for each attempt.
            segment.remove()
            return
        segment.close()
        self._marks.append(mark("recovered", segment=segment.path.name, offset=segment.size))

    async def _open(self) -> None:
        """Finish the old segment and open a new one, for the batch that waits."""
        old = self.segment
        try:
            if old is not None:
                # A durable record in the next segment vouches for those before it.
                await old.sync(old.size)
                old.close()
                self.segment = None
            self.segment = await self._keeper.run(partial(self._create, self.tree.size))
            self.is_rotating = False
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be kept waiting for it
            if old is None or not old.sealed:
                self._give_up(f"the journal cannot be opened: {as_ours(error).strerror}")
        finally:
            self._opening = None
            self.is_hanging = False
        self._hand_over()

    def _create(self, first: int) -> Segment:
        """Begin a segment whose name comes behind all that there are, also where some of those have been lost."""
        name = SegmentName(origin=self._origin, first=first)
        if others := list_segments(self._directory).get(self._origin):
            newest = parse_name(others[-1].name)
            if newest is not None and newest >= name:
                name = replace(newest, attempt=newest.attempt + 1)
        while True:
            try:
                return Segment(
                    self._directory / str(name),
                    write=self._write,
                    fsync=self._fsync,
                    hand=self._keeper,
                    failed=self.seal,
                )
            except FileExistsError:
                name = replace(name, attempt=name.attempt + 1)


def mark(reason: str, *, segment: str | None = None, offset: int | None = None, count: int | None = None) -> Record:
    """Return a record of the journal itself."""
    return Record(kind="journal", reason=reason, segment=segment, offset=offset, count=count)


def _check_room(batch: Batch, record: Record) -> None:
    """Raise JournalError if there is no room for `record`; strangers have less of it, so that they starve nobody."""
    is_strangers = record.decision == "deny" and record.actor is None
    if is_strangers or batch.bytes >= MOST_BYTES or len(batch.records) >= MOST_RECORDS:
        raise JournalError(_TOO_MUCH)
