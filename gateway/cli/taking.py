"""Taking power away from the command line: done first, recorded then, because it never waits for its record."""

from collections.abc import Awaitable, Callable

import click

from gateway.audit.completion import Completion
from gateway.audit.log import Instead, JournalError
from gateway.audit.record import Record
from gateway.cli.office import open_office, open_store
from gateway.config.model import Config, ConfigError
from gateway.stores.store import Store, StoreError


class Unwritten:
    """An AuditLog for what is recorded once it is done: it keeps the records until somebody writes them."""

    healthy = True

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def append(
        self,
        record: Record,
        *,
        durable: bool = False,  # noqa: ARG002 - an AuditLog's
        instead: Instead | None = None,  # noqa: ARG002 - likewise
    ) -> int:
        """Keep it here alone."""
        self.records.append(record)
        return len(self.records)

    def note(self, note: Record | Completion) -> None:
        """Refuse: a command has no exchanges."""
        raise TypeError(f"a command has nothing to note: {note.kind}")

    async def close(self) -> None:
        """Keep what there is."""


async def take_away(config: Config, take: Callable[[Store], Awaitable[Record]]) -> None:
    """Have `take` do it, and record what it returns; if that fails, the command fails and says what was done.

    Raises StoreError before anything is done, and ClickException once it is, whatever keeps it off the record.
    """
    async with open_store(config) as store:
        record = await take(store)
    try:
        async with open_office(config) as office:
            await office.journal.append(record, durable=True)
    except (JournalError, StoreError, ConfigError, OSError) as exc:
        raise click.ClickException(
            f"this is done ({record.kind}: {record.reason}), but not on the record: {exc}"
        ) from exc
