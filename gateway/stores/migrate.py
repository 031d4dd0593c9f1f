"""The database's shape: numbered SQL files, each applied once, whole, and never changed afterwards."""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources

from gateway.stores.store import StoreError

_FILE = re.compile(r"([0-9]{4})_[a-z0-9_]+\.sql", re.ASCII)
# "Locu" in ASCII: tells our file from anybody else's (https://sqlite.org/pragma.html#pragma_application_id).
_APPLICATION_ID = 0x4C6F6375
_TABLE = """
    CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL) STRICT
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered step from one shape of the database to the next."""

    number: int
    """Counted from 1, without gaps."""
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return sha256(self.sql.encode()).hexdigest()


def load_migrations(package: str = "gateway.stores") -> Sequence[Migration]:
    """Return the migrations of this version, in order; each kind of store has its own package."""
    files = resources.files(package).joinpath("migrations").iterdir()
    return [
        Migration(number=int(found[1]), name=file.name.removesuffix(".sql"), sql=file.read_text(encoding="utf-8"))
        for file in sorted(files, key=lambda file: file.name)
        if (found := _FILE.fullmatch(file.name))
    ]


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    """Bring the database to the shape of the last of `migrations`, each in a transaction of its own.

    Raises StoreError, with nothing changed, for a database that is not ours, that a newer version has migrated, or
    whose applied migrations differ from these. `connection` is in autocommit mode (`isolation_level=None`).
    """
    with transaction(connection, "EXCLUSIVE"):
        _claim(connection)
        _count_applied(connection, migrations)
    for migration in migrations:
        # Looked at again under each lock: another process may have come first.
        with transaction(connection, "EXCLUSIVE"):
            if _count_applied(connection, migrations) < migration.number:
                _apply(connection, migration)


@contextmanager
def transaction(connection: sqlite3.Connection, lock: str = "IMMEDIATE") -> Iterator[None]:
    """Hold the write lock from the start; commit at the end, or leave everything as it was if the block raises."""
    connection.execute(f"BEGIN {lock}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Some errors (a full disk, say) have rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _claim(connection: sqlite3.Connection) -> None:
    [application] = connection.execute("PRAGMA application_id").fetchone()
    if application == _APPLICATION_ID:
        return
    [tables] = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables:
        raise StoreError("the file is the database of another program: name a file of its own in the configuration")
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(_TABLE)


def _count_applied(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> int:
    applied = connection.execute("SELECT name, checksum FROM migrations ORDER BY number").fetchall()
    return check_applied(applied, migrations)


def check_applied(applied: Sequence[tuple[str, str]], migrations: Sequence[Migration]) -> int:
    """Return how many were applied, by their names and checksums in order; raises StoreError if these are not ours."""
    if len(applied) > len(migrations):
        raise StoreError(f"a newer version has applied `{applied[-1][0]}` to the database: run that version or later")
    for (name, checksum), migration in zip(applied, migrations, strict=False):
        if (name, checksum) != (migration.name, migration.checksum):
            raise StoreError(f"`{name}` differs from what was applied to the database: reinstall an unchanged release")
    return len(applied)


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    # Not `executescript`, which would commit our transaction first.
    statement = ""
    for line in migration.sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    if statement.strip():
        raise StoreError(f"`{migration.name}` does not end with a whole statement: reinstall an unchanged release")
    row = (migration.number, migration.name, migration.checksum)
    connection.execute("INSERT INTO migrations (number, name, checksum) VALUES (?, ?, ?)", row)
