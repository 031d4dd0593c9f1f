import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.stores.migrate import Migration, load_migrations, migrate
from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "locum.db"


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program at the same file."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        yield connection


async def make_database(path: Path) -> None:
    await (await open_sqlite(path)).close()


async def test_a_database_of_a_newer_version_is_refused(path: Path):
    """What a newer version has migrated is not touched by an older one."""
    await make_database(path)
    with raw(path) as newer:
        newer.execute("INSERT INTO migrations VALUES (9999, '9999_future', 'abc')")
    with pytest.raises(StoreError, match="newer version has applied `9999_future`"):
        await open_sqlite(path)


async def test_a_database_with_a_changed_migration_is_refused(path: Path):
    """An applied migration whose text is not the one in this release is an error."""
    await make_database(path)
    with raw(path) as changed:
        changed.execute("UPDATE migrations SET checksum = '0' WHERE number = 1")
    with pytest.raises(StoreError, match="`0001_start` differs"):
        await open_sqlite(path)


def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path):
    """Each migration is applied as a whole or not at all; those before it stay."""
    good = Migration(number=1, name="0001_good", sql="CREATE TABLE a (x);\n-- why; and;\nCREATE TABLE b (x);\n")
    bad = Migration(number=2, name="0002_bad", sql="CREATE TABLE c (x);\nCREATE TABLE a (x);\n")
    cut = Migration(number=2, name="0002_cut", sql="CREATE TABLE c (x);\nCREATE TABLE d (x)")
    with raw(tmp_path / "db") as connection:
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, [good, bad])
        with pytest.raises(StoreError, match="0002_cut"):
            migrate(connection, [good, cut])
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
        assert tables == [("a",), ("b",), ("migrations",)]
        assert connection.execute("SELECT number, name FROM migrations").fetchall() == [(1, "0001_good")]


def test_migrations_are_numbered_without_gaps():
    """The numbers are 1, 2, 3 ..., in the order of the files."""
    migrations = load_migrations()
    assert list(range(1, len(migrations) + 1)) == [migration.number for migration in migrations]
    assert migrations, "at least the first is packaged"


async def test_workers_that_start_together_on_a_new_file_all_get_it(path: Path):
    """First starts take turns on the directory, so that none meets a lock that SQLite does not wait for."""
    path.parent.mkdir()
    turn = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(turn, fcntl.LOCK_EX)
    opening = [asyncio.ensure_future(open_sqlite(path)) for _ in range(8)]
    try:
        done, _ = await asyncio.wait(opening, timeout=0.2)
        assert set() == done
        assert [] == list(path.parent.iterdir())
    finally:
        os.close(turn)
        stores = await asyncio.gather(*opening)
        for store in stores:
            await store.close()
    with raw(path) as other:
        assert len(load_migrations()) == other.execute("SELECT count(*) FROM migrations").fetchone()[0]
