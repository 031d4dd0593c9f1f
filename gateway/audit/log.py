"""The audit log's contract, as those who must record before they act see it."""

from collections.abc import Callable
from typing import Protocol

from gateway.audit.completion import Completion
from gateway.audit.record import Record

Instead = Callable[[], Completion]
"""Says what became of something that was recorded, and then not done, because its `append` failed."""


class JournalError(Exception):
    """Ours: the record could not be kept. Staff are refused; customers do not notice."""


class JournalBusy(JournalError):
    """Another process writes what only one may: wait, and try again."""


class AuditLog(Protocol):
    """Where every decision and change is written before it takes effect."""

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded, and none is taking too long; for health pages only.

        Nobody asks it before an append: the next append is what tries again.
        """

    async def append(self, record: Record, *, durable: bool = False, instead: Instead | None = None) -> int:
        """Keep `record` and return its sequence number.

        When it returns, the record survives a crash of this process; with `durable`, also a crash of the machine.
        Raises JournalError otherwise, and does not take long over it: then what was to be recorded must not happen.
        What was sealed before is written as it is by then, so nobody changes it after the call.
        Records get their numbers in the order of the calls. What was refused because it took too long, like a call that
        was cancelled, may still be on the record: if it is, and only then, what `instead` returns is recorded as well.
        """

    def note(self, note: Record | Completion) -> None:
        """Have something recorded that has happened, and for which nobody waits.

        While that is not possible it is kept in memory, within a bound, and what is beyond that is counted. A crash of
        this process loses it, and so does one of the machine.
        """

    async def close(self) -> None:
        """Let go of the log; every later append raises JournalError. Safe to call twice."""
