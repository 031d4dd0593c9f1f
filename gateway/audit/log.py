"""The audit log's contract, as those who must record before they act see it."""

from typing import Protocol

from gateway.audit.record import Record


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

    async def append(self, record: Record, *, durable: bool = False) -> int:
        """Keep `record` and return its sequence number.

        When it returns, the record survives a crash of this process; with `durable`, also a crash of the machine.
        Raises JournalError otherwise, and does not take long over it: then what was to be recorded must not happen.
        Records get their numbers in the order of the calls. What was refused because it took too long, like a call that
        was cancelled, may still be on the record.
        """

    async def close(self) -> None:
        """Let go of the log; every later append raises JournalError. Safe to call twice."""
