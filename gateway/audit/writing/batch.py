"""What is open for writing: the batch that waits, and the segment that takes it."""

import asyncio
import errno
import os
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec
from msgspec.structs import replace

from gateway.audit.completion import Completion
from gateway.audit.hand import Hand
from gateway.audit.log import Instead, JournalError
from gateway.audit.record import Record, encode, to_json_of_each, write_moment
from gateway.audit.segment import Fsync, build_lines, sync_directory
from gateway.audit.writing.notes import Note
from gateway.locks import lock

Write = Callable[[int, bytes], int]

_SHORT_BYTES = 2048
"""More than nearly every record of a request has, but for what it seals."""
_LONGEST_PATH = 512


class Batch:
    """Lines that are written in one call, and those who wait for that."""

    __slots__ = (
        "_abandoned",
        "_notes",
        "_openings",
        "_whole",
        "_written_to",
        "bytes",
        "is_urgent",
        "leaves",
        "lines",
        "marks",
        "records",
        "timer",
        "waiters",
    )

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.records: list[Note | msgspec.Raw] = []
        """Each as it is encoded, or as it will be."""
        self.lines = b""
        """All of them, once no more is added."""
        self.leaves: list[bytes] = []
        """Likewise their hashes."""
        self.waiters: list[asyncio.Future[Batch]] = []
        self.marks: list[Record] = []
        """The records of the journal itself with which it begins."""
        self.bytes = 0
        """About how much is to be written, and seldom less, but for what frames the records."""
        self.is_urgent = False
        """Whether anybody waits for it."""
        self.timer: asyncio.TimerHandle | None = None
        """Goes off when those who wait have waited long enough."""
        self._written_to: tuple[Segment, int] | None = None
        self._openings: list[bytes] = []
        self._notes: list[tuple[int, Note]] = []
        self._abandoned: list[tuple[int, Instead]] = []
        self._whole: int | None = None

    def add(self, record: Note, *, origin: str, seq: int, at: datetime) -> None:
        """Add a record, with its place in the journal.

        How an exchange ended, and what was sealed before, is encoded together with all the others: nobody may change it
        any more. What may be long is encoded at once, which tells how much it is.
        """
        if isinstance(record, Completion):
            openings = b""
        elif (sealed := record.sealed) is None or not _is_short(record):
            encoded, openings = encode(record, origin=origin, seq=seq, at=at)
            self._keep(msgspec.Raw(encoded), openings, len(encoded))
            return
        else:
            openings = sealed.openings
            if record.seq is not None:
                # It may be waiting to be encoded with the place that it has.
                record = replace(record)
        record.at, record.origin, record.seq = write_moment(at), origin, seq
        self._keep(record, openings, _SHORT_BYTES)

    def add_note(self, note: Note, *, origin: str, seq: int, at: datetime) -> None:
        """Add a record likewise that nobody waits for, and that is taken back if it is not written."""
        self.add(note, origin=origin, seq=seq, at=at)
        self._notes.append((len(self.records) - 1, note))

    def finish(self) -> bytes:
        """Take no more records, and return the lines of those that there are."""
        self.leaves, self.lines = build_lines(to_json_of_each(self.records), self._openings)
        return self.lines

    def abandon(self, index: int, instead: Instead) -> list[Note]:
        """Nobody waits any more for the line of that index: if it is written, `instead` says what became of that.

        Returns what is to be said of it now, if that is known already.
        """
        if self._whole is None:
            self._abandoned.append((index, instead))
            return []
        return [instead()] if index < self._whole else []

    def end(self, whole: int) -> tuple[list[Note], list[Note]]:
        """So many of its lines are in the file, and no more will be.

        Returns the notes that are not among them, and what is to be said of those that are and were abandoned.
        """
        self._whole = whole
        if not (self._notes or self._abandoned):
            return [], []
        missed = [note for index, note in self._notes if index >= whole] if whole < len(self.records) else []
        return missed, [instead() for index, instead in self._abandoned if index < whole]

    def place(self, segment: "Segment", end: int) -> None:
        """Take note of the segment that has it, and of where in that its last line ends."""
        self._written_to = segment, end

    def written_to(self) -> tuple["Segment", int]:
        """Return these two; only for those who have been told that it is written."""
        if self._written_to is None:
            raise RuntimeError("the batch has not been written")
        return self._written_to

    def settle(self, why: str | None = None) -> None:
        """Tell those who wait, or why they wait in vain; nobody is told twice."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        for waiter in self.waiters:
            if waiter.done():
                continue
            if why is None:
                waiter.set_result(self)
            else:
                waiter.set_exception(JournalError(why))
        self.waiters = []

    def _keep(self, record: Note | msgspec.Raw, openings: bytes, size: int) -> None:
        self.records.append(record)
        self._openings.append(openings)
        self.bytes += size + len(openings)


class Segment:
    """An open segment; after its first error it is never written or relied on again.

    A failed fsync may have dropped the very pages it was asked to keep and marked them clean, so a second one that
    succeeds says nothing. Whoever uses the segment gives it up; `sync` goes on failing.
    """

    def __init__(self, path: Path, *, write: Write, fsync: Fsync, hand: Hand, failed: "Failed") -> None:
        """Create the file, which must not exist, lock it, and make its name durable; for a thread, for it may hang.

        `hand` does what `sync` and `close` ask for; `failed` is told, on the loop, of an fsync that failed. Raises
        FileExistsError if somebody else has locked it first, OSError.
        """
        self.path = path
        self.size = 0
        """Bytes of whole lines written, as far as the loop has heard."""
        self.is_empty = True
        """Not a byte has reached the file, not even of a torn line."""
        self.sealed = False
        """Given up after an error."""
        self.is_late = False
        """Whether somebody has waited too long for the fsync that is running."""
        self.is_closing = False
        """Whether no fsync may be begun any more: its handle could be another file's by then."""
        self._write = write
        self._fsync = fsync
        self._hand = hand
        self._failed = failed
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._error: OSError | None = None
        self._durable = 0
        self._covers = 0
        self._running: asyncio.Future[None] | None = None
        self._queued: asyncio.Future[None] | None = None
        try:
            # Whatever becomes of its name's order among the others, nobody rewrites it before it is closed.
            if not lock(self._fd):
                raise FileExistsError(errno.EEXIST, "somebody has locked the new segment")
            sync_directory(path.parent, fsync=fsync)
        except OSError:
            os.close(self._fd)
            path.unlink(missing_ok=True)
            raise

    def write(self, lines: bytes, *, durable: bool) -> tuple[int, OSError | None]:
        """Hand lines to the operating system in one call, from a thread: killing this process cannot lose them.

        With `durable`, the machine's losing power cannot either. Returns how many bytes of whole lines have got there,
        and what went wrong.
        """
        try:
            count = self._write(self._fd, lines)
        except Exception as error:  # noqa: BLE001 - whatever it is, the lines cannot be relied on
            return 0, as_ours(error)
        self.is_empty &= count == 0
        if count != len(lines):
            return lines.rfind(b"\n", 0, count) + 1, OSError(errno.ENOSPC, "the lines were written in part")
        if durable:
            try:
                self._fsync(self._fd)
            except Exception as error:  # noqa: BLE001 - likewise
                return count, as_ours(error)
        return count, None

    async def sync(self, upto: int) -> None:
        """Return once the first `upto` bytes, written by now, are on the disk; callers share an fsync. Raises OSError.

        An fsync that began before they were written says nothing of them, so it is waited out and the next one serves
        everybody who came meanwhile.
        """
        if upto > self._durable and self._error is None and not self.is_closing:
            if (waiter := self._running) is None:
                waiter = asyncio.get_running_loop().create_future()
                self._begin(waiter)
            elif upto > self._covers:
                waiter = self._queued = self._queued or asyncio.get_running_loop().create_future()
            # Shielded, for it is shared: one caller's hanging up must not take the others' answer away.
            await asyncio.shield(waiter)
        if upto <= self._durable:
            return
        if self._error is not None:
            raise OSError(self._error.errno, self._error.strerror) from self._error
        raise OSError(errno.EBADF, "the segment has been closed")

    def close(self) -> None:
        """Close the file once nothing asked for is running on it."""
        self.is_closing = True
        self._hand.call(partial(os.close, self._fd), _forget)

    def remove(self) -> None:
        """Close it likewise, and take its name away."""
        self.close()
        self._hand.call(partial(self.path.unlink, missing_ok=True), _forget)

    def _begin(self, waiter: asyncio.Future[None]) -> None:
        self._running, self._covers = waiter, self.size
        self._hand.call(partial(self._fsync, self._fd), self._end)

    def _end(self, outcome: BaseException | None) -> None:
        running, queued = self._running, self._queued
        self._running = self._queued = None
        self.is_late = False
        if outcome is not None:
            self._error = as_ours(outcome)
            self._failed(self, self._error)
        else:
            self._durable = self._covers
        if queued is not None and self._error is None and not self.is_closing:
            self._begin(queued)
            queued = None
        for waiter in (running, queued):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)


Failed = Callable[[Segment, OSError], None]


def _is_short(record: Record) -> bool:
    return record.query_names is None and (record.path is None or len(record.path) <= _LONGEST_PATH)


def as_ours(error: BaseException) -> OSError:
    """Return `error` as one of the disk's, whatever it is: what came of the call cannot be relied on."""
    return error if isinstance(error, OSError) else OSError(errno.EIO, str(error))


def _forget(_outcome: object) -> None:
    """Nobody waits for it."""
