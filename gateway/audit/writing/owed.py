"""What was done before it could be recorded, kept in memory until the journal can be written again.

A process that ends before that loses the record, not the trace: what was done is in the store, with who and when, and
a line of the log says what the journal lacks.
"""

import asyncio
import logging

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""Between two tries to settle."""


class Debts:
    """The records that one part owes to the journal, because it may act before they are written.

    One that the disk took too long over may be in the journal already, and then stands in it twice.
    """

    def __init__(self, journal: AuditLog) -> None:
        """Owe nothing yet."""
        self._journal = journal
        self._owed: list[Record] = []
        self._settling = asyncio.Lock()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is owed."""
        return not self._owed

    def add(self, record: Record) -> None:
        """Owe `record`; until `settle` it is lost with the process, but for a line of the log that names nobody."""
        self._owed.append(record)
        said = {
            name: value
            for name in ("kind", "reason", "decision", "account", "assumption", "grant_id", "grant_epoch", "request_id")
            if (value := getattr(record, name)) is not None
        }
        log.error("owed to the journal until it can be written: %s", said)

    async def settle(self) -> None:
        """Record what is owed, the oldest first; raises JournalError while that still cannot be done."""
        async with self._settling:
            while self._owed:
                await self._journal.append(self._owed[0], durable=True)
                del self._owed[0]

    async def keep_settling(self) -> None:
        """Try again and again; runs until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            try:
                await self.settle()
            except JournalError:
                continue
