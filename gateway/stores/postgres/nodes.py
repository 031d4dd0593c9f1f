"""Which nodes have shipped a journal, read over a connection of its own."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.audit.segment import parse_name
from gateway.stores.nodes import Node
from gateway.stores.postgres.address import Address
from gateway.stores.postgres.connect import Connector, bounded, translated
from gateway.stores.postgres.terms import StoreTerms

_SECONDS: Final = 2.0
_MOST: Final = 500
_SEGMENTS: Final = 100
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SELECT: Final = f"""
    SELECT node, through, heard_at, extract(epoch FROM now() - heard_at)::float8,
        ARRAY(SELECT name FROM locum.journal_segments s WHERE s.node = n.node ORDER BY id DESC LIMIT {_SEGMENTS})
    FROM locum.journal_nodes n ORDER BY node LIMIT {_MOST}
"""  # noqa: S608 - our own words


class DatabaseNodes:
    """Implements `gateway.stores.nodes.Nodes`; whoever asks while somebody else does waits for a turn."""

    def __init__(self, address: Address, terms: StoreTerms) -> None:
        """Connect to nothing yet."""
        self._connector = Connector(address, terms)
        self._turn = asyncio.Lock()

    async def read(self) -> Sequence[Node]:
        async with self._turn, self._connector.apart(_SECONDS) as connection:
            with bounded(connection, _SECONDS), translated():
                rows = await connection.fetch(_SELECT)
                return [
                    Node(
                        name=name,
                        origins=_origins(names),
                        heard_at=heard_at,
                        silent_seconds=silent,
                        through=_time(through),
                    )
                    for name, through, heard_at, silent, names in rows
                ]


def _origins(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({found.origin for name in names if (found := parse_name(name)) is not None}))


def _time(microseconds: int) -> datetime | None:
    return _START + timedelta(microseconds=microseconds) if microseconds else None
