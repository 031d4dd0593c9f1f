"""Keeps the shared database up with a node's journal, whatever becomes of the database meanwhile."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from gateway.audit.stepping import NONE_UNREAD, Unread
from gateway.pauses import Pauses
from gateway.stores.postgres.address import Address
from gateway.stores.postgres.connect import Connector
from gateway.stores.postgres.journal_lines import Shipper
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.store import StoreError

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 10.0
_PAUSE_SECONDS = 0.5
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0


async def keep_shipping(journal: Path, node: str, address: Address, told: Callable[[int, float, Unread], None]) -> None:
    """Ship for ever; `told` hears how many bytes are behind, for how many seconds that has been so, and what is unread.

    Others that open the database see to its shape. A fault of it, or of the way to it, is tried again later and later.
    """
    connector, loop = Connector(address, StoreTerms()), asyncio.get_running_loop()
    pauses, current_at = Pauses(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS), loop.time()
    unread = NONE_UNREAD
    while True:
        try:
            async with connector.apart(_CONNECT_SECONDS) as connection:
                shipper = Shipper(journal, node, connection)
                while True:
                    began = loop.time()
                    await shipper.catch_up()
                    pauses.reset()
                    current_at = began
                    unread = shipper.unread
                    told(shipper.behind(), loop.time() - began, unread)
                    await asyncio.sleep(_PAUSE_SECONDS)
        except (StoreError, OSError) as exc:
            log.warning("the journal cannot be shipped to the database, tried again: %s", exc)
            told(_size_of(journal), loop.time() - current_at, unread)
        await asyncio.sleep(pauses.next())


def _size_of(journal: Path) -> int:
    """Return how much there is: while the database does not say what it has, nothing of it may be there."""
    return sum(path.stat().st_size for path in journal.glob("*.jsonl"))
