"""Records what is owed to the journal, as soon as it can be written again."""

import asyncio
from typing import Protocol

from gateway.audit.log import JournalError

_SECONDS = 1.0


class Debtor(Protocol):
    """Whoever may do a thing before it can be recorded."""

    async def record_owed(self) -> None:
        """Record what is owed; raises JournalError while it still cannot be."""


async def record_owed(debtor: Debtor) -> None:
    """Try once a second; runs until cancelled."""
    while True:
        await asyncio.sleep(_SECONDS)
        try:
            await debtor.record_owed()
        except JournalError:
            continue
