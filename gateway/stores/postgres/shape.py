"""The database's shape: numbered SQL files, each applied once, whole, by whichever node comes first."""

from collections.abc import Sequence

from gateway.stores.migrate import Migration, check_applied, load_migrations
from gateway.stores.postgres.connect import Connection, translated
from gateway.stores.store import StoreError

# Any number will do that no other program takes for the same in this database: "Locu" in ASCII.
_LOCK = 0x4C6F6375
_PREPARE = """
    CREATE SCHEMA IF NOT EXISTS locum;
    CREATE TABLE IF NOT EXISTS locum.migrations (
        number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL
    )
"""


def migrations() -> Sequence[Migration]:
    """Return the migrations of this version, in order."""
    return load_migrations("gateway.stores.postgres")


async def migrate(connection: Connection, wanted: Sequence[Migration]) -> int:
    """Bring the database to the shape of the last of `wanted`, a transaction for each; return how many it took.

    Others that come at the same time wait, and find it done. Raises StoreError, with nothing changed, for a database
    that a newer version has migrated, or whose applied migrations differ from these.
    """
    taken = 0
    if await count_applied(connection, wanted) == len(wanted):
        return taken
    for migration in wanted:
        with translated():
            await connection.execute("BEGIN")
        try:
            with translated():
                await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
                await connection.execute(_PREPARE)
            # Looked at again under each lock: another node may have come first.
            if await count_applied(connection, wanted) < migration.number:
                await _apply(connection, migration)
                taken += 1
            with translated():
                await connection.execute("COMMIT")
        except StoreError:
            with translated():
                await connection.execute("ROLLBACK")
            raise
    return taken


async def lock(connection: Connection) -> None:
    """Keep others who call this waiting, and who migrate, until the connection ends."""
    with translated():
        await connection.execute(f"SELECT pg_advisory_lock({_LOCK})")


async def count_applied(connection: Connection, wanted: Sequence[Migration]) -> int:
    """Return how many of `wanted` the database has; raises StoreError if they do not fit."""
    with translated():
        if await connection.fetchval("SELECT to_regclass('locum.migrations')") is None:
            return 0
        applied = await connection.fetch("SELECT name, checksum FROM locum.migrations ORDER BY number")
    return check_applied([(row["name"], row["checksum"]) for row in applied], wanted)


async def _apply(connection: Connection, migration: Migration) -> None:
    with translated():
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO locum.migrations (number, name, checksum) VALUES ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.checksum,
        )
