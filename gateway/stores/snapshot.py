"""The embedded store as it is at one moment, with nobody else at it."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateway.stores.database import connect_writer
from gateway.stores.rows import Row
from gateway.stores.store import StoreError
from gateway.stores.tables import Reading


class Snapshot(Reading):
    """Reads in the caller's thread, so it is for a command and never for a gateway."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Use `take`."""
        self._connection = connection

    async def rows(self, sql: str) -> AsyncIterator[Row]:
        with _translated():
            for row in self._connection.execute(sql.replace("{schema}", "")):
                yield row


@contextmanager
def take(path: Path, *, alone: bool) -> Iterator[Snapshot]:
    """Hold the store at `path` still until the block ends; `alone`: refuse if any other process has it open, and
    keep them out. Raises StoreError.
    """
    if not path.is_file():
        raise StoreError(f"there is no embedded store at `{path}`: check server.data_directory")
    with _translated(), closing(connect_writer(path, busy_seconds=1)) as connection:
        if alone:
            _claim(connection, path)
        else:
            connection.execute("BEGIN")
        yield Snapshot(connection)


def _claim(connection: sqlite3.Connection, path: Path) -> None:
    # In this mode a log of one's own is kept, which only goes while nobody else has the file open.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as exc:
        raise StoreError(
            f"`{path}` is in use: stop `locum run` with all its workers, and every other `locum` command, first"
        ) from exc


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        raise StoreError(f"the embedded store cannot be read: {exc}: check the file and its permissions") from exc
