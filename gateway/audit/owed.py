"""What was done before it could be recorded, kept in memory until the journal can be written again."""

import asyncio

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record

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
        """Owe `record`; until `settle` it is lost with the process."""
        self._owed.append(record)

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
