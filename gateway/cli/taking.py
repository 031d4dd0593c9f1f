"""Taking power away from the command line: done first, recorded then, because it never waits for its record."""

from collections.abc import Awaitable, Callable

import click

from gateway.audit.log import JournalError
from gateway.audit.record import Record
from gateway.cli.context import open_office, open_store
from gateway.config.model import Config, ConfigError
from gateway.stores.store import Store, StoreError


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
