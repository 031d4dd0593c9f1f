"""Puts on the record that time alone, or the end of a grant, has ended an assumption: who was told it began hears so.

For whoever decides, an end by time is no event but a fact about now. Any number of processes and nodes do this side by
side; one of them at a time has an assumption in hand, so that its end is told once.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from msgspec import structs

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record, record_end
from gateway.clock import Clock
from gateway.rarely import Rarely
from gateway.stores.store import Store, StoreConflict, StoreError
from policy.model import Assumption

log = logging.getLogger(__name__)

EXPIRED: Final = "expired"
GRANT_OVER: Final = "grant_over"
_PAUSE_SECONDS: Final = 2.0
_MOST: Final = 100
"""At a time, so that what many have left open holds up nobody."""
_LONGEST_AGO: Final = timedelta(days=1)
"""What was over before is nobody's news."""
_HELD: Final = timedelta(minutes=1)
"""So long an assumption is in the hands of one process; if that dies, another one tells."""


class Ends:
    """Records such ends; one that cannot be recorded now is tried again, and is told late rather than never."""

    def __init__(self, store: Store, journal: AuditLog, *, clock: Clock, pause_seconds: float = _PAUSE_SECONDS) -> None:
        """Look again `pause_seconds` behind the last look."""
        self._store = store
        self._journal = journal
        self._clock = clock
        self._pause_seconds = pause_seconds
        self._rarely = Rarely(log)

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._pause_seconds)

    async def look(self) -> None:
        """Record what is over by now, and mark it as ended."""
        now = self._clock()
        try:
            for one in await self._store.list_over(at=now, since=now - _LONGEST_AGO, most=_MOST):
                await self._tell(one, now)
        except (StoreError, JournalError) as error:
            self._rarely.warning("that assumptions have ended cannot be recorded yet: %s", error)

    async def _tell(self, over: Assumption, now: datetime) -> None:
        digest = sha256(b"locum assumption over\0" + over.id.encode()).digest()
        try:
            await self._store.add_one_time(digest, "", expires_at=now + _HELD, now=now)
        except StoreConflict:
            return
        # Somebody may have recorded it since it was listed, and have been in no hurry to say so.
        found = await self._store.find_assumption(over.id)
        if found is None or found.ended_at is not None:
            return
        await self._journal.append(record_over(found, now), durable=True)
        # Marked last: if this process dies before, it is told once more rather than not at all.
        await self._store.end_assumption(found.id, at=min(found.expires_at, now))


def record_over(over: Assumption, now: datetime) -> Record:
    """Return the record of an end that nobody has brought about by hand."""
    return structs.replace(
        record_end(over, by=""),
        by=None,
        reason=EXPIRED if over.expires_at <= now else GRANT_OVER,
        expires_at=over.expires_at.isoformat(),
    )
