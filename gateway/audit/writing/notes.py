"""Records that nobody waits for: kept while the journal cannot be written, within a bound, and put into it again."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable

from gateway.audit.completion import Completion
from gateway.audit.log import JournalError
from gateway.audit.record import Record

log = logging.getLogger(__name__)

MOST_KEPT = 16_384
"""Without the journal nothing begins, so no more should come than was open when it failed."""
AGAIN_SECONDS = 0.5

Note = Record | Completion


class Notes:
    """Those of one journal, in the order in which they came as long as the journal can be written.

    What is beyond the bound is counted, and the count goes on the record (kind `journal`, reason `completions_lost`).
    One that was in the middle of being written when the disk failed may stand in the journal twice.
    """

    def __init__(self, put: Callable[[Note], None]) -> None:
        """`put` adds a note to what is written next, or raises JournalError; `keep` takes what it could not write."""
        self._put = put
        self._kept: deque[Note] = deque()
        self._unsaid = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.lost = 0
        """How many were beyond the bound, since the start."""

    @property
    def waiting(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def add(self, note: Note) -> None:
        """Have it written as soon as that is possible."""
        if self._kept:
            self.keep((note,))
            return
        try:
            self._put(note)
        except JournalError:
            self.keep((note,))

    def keep(self, notes: Iterable[Note]) -> None:
        """Take notes that could not be written, for later."""
        for note in notes:
            if len(self._kept) < MOST_KEPT and not self._closed:
                self._kept.append(note)
            else:
                self._lose()
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self.retry)

    def retry(self) -> None:
        """Try to write those that are kept, the oldest first; if that cannot be done, it is tried again later."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            while self._kept:
                self._put(self._kept[0])
                self._kept.popleft()
            if self._unsaid:
                self._put(Record(kind="journal", reason="completions_lost", count=self._unsaid))
                self._unsaid = 0
        except JournalError:
            if not self._closed:
                self._timer = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self.retry)

    def close(self) -> None:
        """Give up, and say in the log how many could not be recorded."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._kept:
            log.error("how %d exchanges ended could not be recorded: the journal cannot be written", len(self._kept))
            self.lost += len(self._kept)
            self._kept.clear()

    def _lose(self) -> None:
        if not self._unsaid or self._closed:
            log.error("more exchanges have ended than can be kept while the journal cannot be written: counting them")
        self._unsaid += 1
        self.lost += 1
