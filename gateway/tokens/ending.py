"""Ends one assumption because whoever holds it wants it to end: recorded, stored, cut."""

import logging
from collections.abc import Callable

from msgspec import structs

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record, record_end
from gateway.audit.writing.owed import Debts
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.stores.store import Store, StoreError
from policy.model import Assumption, AssumptionId, ClientId

log = logging.getLogger(__name__)


class Ender:
    """The one way in which an assumption's own side ends it; it may be told the same any number of times.

    It only takes power away, so it is done even if it cannot be recorded at once.
    """

    def __init__(self, store: Store, journal: AuditLog, *, clock: Clock, ended: Callable[[Assumption], None]) -> None:
        """Have `ended` cut what is open here, and forget what is known; it is called when the end is stored."""
        self._store = store
        self._journal = journal
        self.debts = Debts(journal)
        """What could not be recorded yet."""
        self._clock = clock
        self._ended = ended

    async def end(self, assumption: AssumptionId, *, by: str, caller: Caller, client: ClientId | None = None) -> bool:
        """End it, durably when this returns; False if it had ended before or never was.

        Raises StoreError, and then it may go on; the record says that it was not stored.
        """
        found = await self._store.find_assumption(assumption)
        if found is None or found.ended_at is not None:
            return False
        record = structs.replace(
            record_end(found, by=by, request_id=caller.request_id),
            client_id=client,
            client_ip=caller.client_ip,
            user_agent=caller.user_agent,
        )
        recorded = await self._recorded(record)
        try:
            stored = await self._store.end_assumption(found.id, at=self._clock())
        except StoreError:
            if recorded:
                await self._note(structs.replace(record, decision="deny", reason="store_unavailable"))
            raise
        finally:
            self._ended(found)
        if not recorded:
            self.debts.add(record)
        return stored

    async def _recorded(self, record: Record) -> bool:
        try:
            await self.debts.settle()
            await self._journal.append(record, durable=True)
        except JournalError:
            log.exception("the end of an assumption could not be recorded yet")
            return False
        return True

    async def _note(self, record: Record) -> None:
        """Record what has happened; what cannot be said now is owed."""
        if not self.debts.is_settled or not await self._recorded(record):
            self.debts.add(record)
