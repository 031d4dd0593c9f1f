# ruff: noqa: ASYNC240 - a test may block its own loop for a small file
import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.stores import rows
from gateway.stores.migrate import load_migrations, migrate, transaction
from gateway.stores.sqlite import SqliteStore, open_sqlite
from gateway.stores.store import Changes, KillSwitch, StoreChange, StoreError
from policy.model import ActorId, Assumption, AssumptionId
from tests.patience import PATIENCE_SECONDS
from tests.store_examples import ACME, ACTOR, ASSUMPTION, NOW, OTHER, STAFF, a_change, a_grant, begin

KEPT = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locum.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_sqlite(path)
    yield store
    await store.close()


def make_first_version(path: Path, *, filled: bool) -> None:
    """Make a database as the first version left it."""
    path.touch(0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, load_migrations()[:1])
        if filled:
            with transaction(connection):
                grant = a_grant(ACME)
                connection.execute(
                    "INSERT INTO accounts VALUES (?, ?, ?, ?, ?)", (*rows.account_row(ACME)[:4], grant.id)
                )
                connection.execute(
                    "INSERT INTO grants VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (grant.id, grant.account, *rows.grant_row(grant)[1:]),
                )
                connection.execute(
                    "INSERT INTO assumptions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    rows.assumption_row(ASSUMPTION)[:11],
                )


# What the first version left.


async def test_a_database_of_the_first_version_goes_on(path: Path):
    """Its rows are there, a first change of everything stands for them, and what follows is named.

    Of an assumption nobody had noted when it ends by itself: as late as its token could.
    """
    make_first_version(path, filled=True)
    store = await open_sqlite(path)
    assert a_grant(ACME) == (await store.find_account(ACME.id)).grant
    assert [ASSUMPTION] == list(await store.list_assumptions(at=NOW, account=ACME.id))
    assert KillSwitch() == await store.find_kill_switch()
    assert await store.read_changes(0) == Changes(position=1, changes=[StoreChange(position=1)])
    await store.save_staff(STAFF, at=NOW)
    assert [ASSUMPTION.id] == list(await store.end_assumptions_of(ACTOR, at=NOW))
    named = [StoreChange(position=2, staff=ACTOR), StoreChange(position=3, assumption=ASSUMPTION.id)]
    assert await store.read_changes(1) == Changes(position=3, changes=named)
    await store.close()


@pytest.mark.parametrize("table", ["accounts", "assumptions", "staff"])
async def test_a_row_of_any_kind_is_a_change_of_everything(path: Path, table: str):
    """Whatever the first version left, there is a first change that stands for it."""
    sql = {
        "accounts": "INSERT INTO accounts (id, type, suspended, epoch) VALUES ('acme', 'paid', 0, 0)",
        "assumptions": "INSERT INTO assumptions VALUES ('s', 'a', 'x', 'i', 'u', 'g', 't', 'r', '', 0, NULL)",
        "staff": "INSERT INTO staff VALUES ('i', 'u', 'n', '', '[]', 0, 0)",
    }[table]
    make_first_version(path, filled=False)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql)
    store = await open_sqlite(path)
    assert await store.read_changes(0) == Changes(position=1, changes=[StoreChange(position=1)])
    await store.close()


async def test_an_empty_database_of_the_first_version_has_no_changes(path: Path):
    """Nothing was there, so nothing changed."""
    make_first_version(path, filled=False)
    store = await open_sqlite(path)
    assert await store.read_changes(0) == Changes(position=0, changes=[])
    await store.close()


async def test_the_changes_of_before_there_were_tags_go_on(path: Path):
    """Each keeps its position and its names and gets a tag of its own; the count goes on, and so do all triggers."""
    path.touch(0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, load_migrations()[:3])
        with transaction(connection):
            accounts = ((str(number),) for number in range(5000))
            connection.executemany("INSERT INTO accounts VALUES (?, 'paid', 0, 0, NULL)", accounts)
        connection.execute("INSERT INTO changes (position, staff_issuer, staff_subject) VALUES (9000, 'i', 'u')")
    store = await open_sqlite(path)
    assert (await store.read_changes(8999)).changes == [
        StoreChange(position=9000, staff=ActorId(issuer="i", subject="u"))
    ]
    assert (await store.read_changes(4999)).changes is None
    await store.add_account(ACME)
    found = await store.read_changes(9000)
    assert found == Changes(position=9001, changes=[StoreChange(position=9001, account=ACME.id)])
    with closing(sqlite3.connect(path)) as connection:
        tags = connection.execute("SELECT tag FROM changes ORDER BY position").fetchall()
    assert len(tags) == len(set(tags))
    assert [(found.tag,), (found.newest_tag,)] == tags[-2:]
    await store.close()


# What is kept.


async def test_the_newest_changes_are_kept_by_name_and_no_position_comes_again(store: SqliteStore, path: Path):
    """Of 10,000 changes the newest 4096 are named, from one further back anything may have changed; opening changes nothing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other, transaction(other):
        accounts = ((str(number), "paid", 0, 0) for number in range(10_000))
        other.executemany("INSERT INTO accounts (id, type, suspended, epoch) VALUES (?, ?, ?, ?)", accounts)
        assert other.execute("SELECT count(*) FROM changes").fetchone() == (KEPT,)
    for after in (0, 10_000 - KEPT - 1):
        assert await store.read_changes(after) == Changes(position=10_000, changes=None)
    assert [str(number) for number in range(10_000 - KEPT, 10_000)] == [
        change.account for change in (await store.read_changes(10_000 - KEPT)).changes
    ]
    await store.close()
    again = await open_sqlite(path)
    await again.add_account(ACME)
    assert (await again.read_changes(10_000)).changes == [StoreChange(position=10_001, account=ACME.id)]
    await again.close()


async def test_what_is_looked_for_is_found_without_a_look_at_anything_else(store: SqliteStore, path: Path):
    """By an index: not 20,000 assumptions that ended or expired, nor 20,000 of others that have not, make it slow."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    for lane in (store._writer, store._reader):
        # Called once in a thousand instructions of SQLite's machine, of which 20,000 rows take millions.
        await lane.run(lambda connection: connection.set_progress_handler(count, 1000))
    await begin(store, ASSUMPTION)
    insert_many(path, replace(ASSUMPTION, ended_at=NOW), name="ended")
    insert_many(path, replace(ASSUMPTION, expires_at=NOW, actor=ACTOR._replace(subject="u2")), name="expired")
    assert [ASSUMPTION] == list(await store.list_assumptions(at=NOW))
    assert [ASSUMPTION] == list(await store.list_assumptions(at=NOW, account=ACME.id))
    insert_many(path, replace(ASSUMPTION, account=OTHER.id, actor=ACTOR._replace(subject="u2")), name="open")
    assert [ASSUMPTION] == list(await store.list_assumptions(at=NOW, account=ACME.id))
    assert [ASSUMPTION.id] == list(await store.end_assumptions_of(ACTOR, at=NOW))
    assert steps <= 2


def insert_many(path: Path, assumption: Assumption, *, name: str) -> None:
    rest = rows.assumption_row(assumption)[1:]
    many = ((f"{name}-{number}", *rest) for number in range(20_000))
    with closing(sqlite3.connect(path, isolation_level=None)) as other, transaction(other):
        other.executemany("INSERT INTO assumptions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", many)


# Another file than before.


async def test_an_older_copy_says_so(path: Path, tmp_path: Path):
    """Put back, it answers a lower position than was asked about, until it is raised above it."""
    store = await open_sqlite(path)
    await store.add_account(ACME)
    await store.close()
    shutil.copy2(path, tmp_path / "copy.db")
    store = await open_sqlite(path)
    off = a_change(ACME, grant=a_grant(ACME))
    await store.save_change(off, by="admin-7", at=NOW)
    await store.close()
    (tmp_path / "copy.db").replace(path)
    store = await open_sqlite(path)
    assert await store.read_changes(2) == Changes(position=1, changes=None)
    await store.raise_position(2)
    assert await store.read_changes(2) == Changes(position=3, changes=[StoreChange(position=3)])
    await store.close()


async def test_an_older_copy_that_has_gone_on_shows_by_its_tags(path: Path, tmp_path: Path):
    """It has another change where one was seen; a copy that has gone on from there has the same."""
    store = await open_sqlite(path)
    await store.add_account(ACME)
    await store.close()
    shutil.copy2(path, tmp_path / "copy.db")
    tags = []
    for database in (path, tmp_path / "copy.db"):
        store = await open_sqlite(database)
        await store.touch_account(ACME.id)
        tags.append([(await store.read_changes(position)).tag for position in (1, 2)])
        await store.close()
    [[first, second], [first_again, another]] = tags
    assert first == first_again
    assert second != another


@pytest.mark.parametrize("loss", ["replaced", "removed"])
async def test_a_file_replaced_while_in_use_is_a_store_error(path: Path, tmp_path: Path, loss: str):
    """What others write into the new file would never be heard, so reads, writes and channels fail; the old file does."""
    store, other = await open_sqlite(path), await open_sqlite(tmp_path / "copy.db")
    await store.add_account(ACME)
    await other.close()
    async with asyncio.timeout(PATIENCE_SECONDS), store.listen() as push:
        path.rename(tmp_path / "old.db")
        if loss == "replaced":
            (tmp_path / "copy.db").rename(path)
        for refused in (
            lambda: store.find_account(ACME.id),
            lambda: store.add_account(OTHER),
            lambda: store.read_changes(0),
            push.wait,
        ):
            with pytest.raises(StoreError, match="replaced while in use" if loss == "replaced" else "No such file"):
                await refused()
        (tmp_path / "old.db").replace(path)
        assert (await store.find_account(ACME.id)).account == ACME
    await store.close()


async def test_a_change_without_room_for_its_count_is_not_made(store: SqliteStore):
    """Fact and count are one transaction: where the count cannot go on, neither can the fact."""
    await store.raise_position(2**63 - 2)
    assert (await store.read_changes(0)).position == 2**63 - 1
    for write in (
        lambda: store.add_account(ACME),
        lambda: begin(store, ASSUMPTION),
        lambda: store.save_staff(STAFF, at=NOW),
    ):
        with pytest.raises(StoreError):
            await write()
    assert None is await store.find_account(ACME.id)
    assert None is await store.find_assumption(AssumptionId("s1"))
    assert None is await store.find_staff(ACTOR)
