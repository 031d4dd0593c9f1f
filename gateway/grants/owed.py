"""Records what is owed to the journal, as soon as it can be written again."""

import asyncio

from gateway.audit.log import JournalError
from gateway.grants.service import GrantService

_SECONDS = 1.0


async def record_owed(service: GrantService) -> None:
    """Try once a second; runs until cancelled."""
    while True:
        await asyncio.sleep(_SECONDS)
        try:
            await service.record_owed()
        except JournalError:
            continue
