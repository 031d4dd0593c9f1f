"""The journals of all nodes in the shared database: searched from here, or brought back as files to be verified."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.audit.evidence.sources import Source
from gateway.audit.index.asking import Busy
from gateway.audit.index.both import Reader
from gateway.audit.index.database import IndexUnusable, TooCostly
from gateway.audit.index.finding import Tally
from gateway.audit.index.opening import open_database_index
from gateway.audit.search import Entry, Query
from gateway.cli.context import Context
from gateway.config.model import Config, ConfigError
from gateway.stores.opening import needs_asyncpg
from gateway.stores.postgres.address import Address
from gateway.stores.postgres.terms import StoreTerms

T = TypeVar("T")
_DEFAULT_LIMIT = 10_000
_CONNECT_SECONDS = 10.0


class DatabaseReader(Reader):
    """Reads all nodes' journals; what it cannot is told as a command's error."""

    def __init__(self, config: Config) -> None:
        """Connect to nothing yet."""
        super().__init__(config.journal_directory, None)
        self._config = config

    def find(self, query: Query) -> list[Entry]:
        """Return the newest records that match, by time; no more than can be wanted on a screen."""
        return self.newest(query, _DEFAULT_LIMIT)

    def newest(self, query: Query, limit: int) -> list[Entry]:
        async def work() -> list[Entry]:
            index = open_database_index(self._config)
            page, _ = await index.search(query, limit=limit, before=None, after=None, account=None)
            if page.more:
                click.echo(f"these are the newest {limit}: there are more", err=True)
            return [one.entry for one in reversed(page.found)]

        return _run(work())

    def stats(self, query: Query) -> Tally:
        async def work() -> Tally:
            tally, _ = await open_database_index(self._config).stats(query, account=None)
            return tally

        return _run(work())


@click.command("fetch")
@click.argument("directory", metavar="DIRECTORY", type=click.Path(path_type=Path))
@click.pass_obj
def fetch_command(context: Context, directory: Path) -> None:
    """Write the journals of all nodes, as the shared database has them, into DIRECTORY: one folder for each node.

    `locum audit verify --journal DIRECTORY/NODE` then judges the database's copy, and everything else can read it.
    """
    address = context.config.store.address
    if address is None:
        raise ConfigError("store.url: there is no database that several machines share")
    with needs_asyncpg():
        # Only now, because asyncpg is there only where somebody wants it.
        from gateway.stores.postgres.connect import Connector  # noqa: PLC0415
        from gateway.stores.postgres.journal_back import fetch_journal, list_nodes  # noqa: PLC0415

    async def work() -> None:
        async with Connector(address, context.config.store.terms).apart(_CONNECT_SECONDS) as connection:
            for node in await list_nodes(connection):
                target = directory / node
                try:
                    target.mkdir(mode=0o700, parents=True)
                    count = await fetch_journal(connection, node, target)
                except OSError as exc:
                    raise click.ClickException(f"`{target}` cannot be written: {exc.strerror}") from exc
                click.echo(f"{target}: {count} lines")

    asyncio.run(work())


@contextmanager
def open_journals(address: Address, terms: StoreTerms) -> Iterator[dict[str, Source]]:
    """Connect, and yield the journal of each node that the database has; raises StoreError, also while one is read."""
    with needs_asyncpg():
        # Likewise.
        from gateway.stores.postgres.connect import Connector  # noqa: PLC0415
        from gateway.stores.postgres.journal_back import DatabaseJournal, list_nodes  # noqa: PLC0415

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        connection = runner.run(stack.enter_async_context(Connector(address, terms).apart(_CONNECT_SECONDS)))
        try:
            nodes = runner.run(list_nodes(connection))
            yield {node: DatabaseJournal(runner, connection, node) for node in nodes}
        finally:
            runner.run(stack.aclose())


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except (TooCostly, IndexUnusable, Busy) as exc:
        raise click.ClickException(str(exc)) from exc
