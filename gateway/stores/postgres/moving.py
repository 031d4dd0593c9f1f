"""The whole of a database at one moment, and the way into an empty one; for a command, not for a gateway."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.stores.postgres import shape
from gateway.stores.postgres.address import Address
from gateway.stores.postgres.connect import LONGEST_SECONDS, Connection, Connector, bounded, translated
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.postgres.text import read_values, write_values
from gateway.stores.rows import Row
from gateway.stores.store import StoreError
from gateway.stores.tables import TABLES, Reading, Table

_CONNECT_SECONDS = 10.0
_AT_ONCE = 1000


class DatabaseReading(Reading):
    """Reads in the transaction of a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def rows(self, sql: str) -> AsyncIterator[Row]:
        with translated():
            async for record in self._connection.cursor(sql.replace("{schema}", "locum."), prefetch=_AT_ONCE):
                yield read_values(tuple(record))


@asynccontextmanager
async def read_database(address: Address, terms: StoreTerms) -> AsyncIterator[DatabaseReading]:
    """Hold the database still, as far as the block sees; raises StoreError, also if it is of another shape."""
    async with _connected(address, terms) as (connection, is_current):
        if not is_current:
            raise StoreError("the database is not of this version's shape: run `locum db migrate`")
        with translated():
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield DatabaseReading(connection)


async def migrate_database(address: Address, terms: StoreTerms) -> int:
    """Bring the database to this version's shape, whatever the configuration says of it; return the steps it took."""
    async with _connected(address, terms) as (connection, _):
        return await shape.migrate(connection, shape.migrations())


async def copy_into(address: Address, terms: StoreTerms, source: Reading, told: Callable[[str, int], None]) -> int:
    """Copy all that `source` holds into an empty database, and return the position.

    One transaction: everything is there, compared with the source value by value, or nothing is. `told` hears of
    each table and its rows. Raises StoreError, also for a database that holds anything.
    """
    async with _connected(address, terms) as (connection, _):
        await shape.migrate(connection, shape.migrations())
        with translated():
            await connection.execute("BEGIN")
            await _claim(connection)
        for table in TABLES:
            with translated():
                await connection.copy_records_to_table(
                    table.name, schema_name="locum", columns=table.columns, records=_records(source, table)
                )
        with translated():
            # What would count each row as a change of today was off for the copy.
            await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            for table in TABLES:
                await connection.execute(f"ALTER TABLE locum.{table.name} ENABLE TRIGGER USER")
            await connection.execute(
                "UPDATE locum.position SET position = (SELECT coalesce(max(position), 0) FROM locum.changes)"
            )
            position = int(await connection.fetchval("SELECT position FROM locum.position"))
        for table in TABLES:
            told(table.name, await _compare(source, DatabaseReading(connection), table))
        with translated():
            await connection.execute("COMMIT")
        return position


@asynccontextmanager
async def _connected(address: Address, terms: StoreTerms) -> AsyncIterator[tuple[Connection, bool]]:
    """Yield a connection to a database that answers, and whether it is of this version's shape."""
    async with Connector(address, terms).apart(_CONNECT_SECONDS, first=True) as connection:
        # What follows may take as long as it takes; that there is somebody to do it shows here.
        with bounded(connection, LONGEST_SECONDS):
            applied = await shape.count_applied(connection, wanted := shape.migrations())
        yield connection, applied == len(wanted)


async def _claim(connection: Connection) -> None:
    for table in TABLES:
        await connection.execute(f"LOCK TABLE locum.{table.name} IN ACCESS EXCLUSIVE MODE")
        if await connection.fetchval(f"SELECT EXISTS (SELECT 1 FROM locum.{table.name})"):  # noqa: S608 - our own words
            raise StoreError(f"the database holds rows already, in `{table.name}`: copy into a new one")
        await connection.execute(f"ALTER TABLE locum.{table.name} DISABLE TRIGGER USER")


async def _records(source: Reading, table: Table) -> AsyncIterator[Row]:
    truths = [index for index, column in enumerate(table.columns) if column in table.booleans]
    async for row in source.rows(table.select):
        values = list(write_values(row))
        for index in truths:
            values[index] = bool(values[index])
        yield tuple(values)


async def _compare(source: Reading, copy: Reading, table: Table) -> int:
    """Return how many rows a table has; raises StoreError unless they are the same in both."""
    copied = aiter(copy.rows(table.select))
    count = 0
    async for row in source.rows(table.select):
        count += 1
        if await anext(copied, None) != row:
            raise StoreError(f"row {count} of `{table.name}` did not come through as it was; nothing was copied")
    if await anext(copied, None) is not None:
        raise StoreError(f"`{table.name}` has more rows than it had; nothing was copied")
    return count
