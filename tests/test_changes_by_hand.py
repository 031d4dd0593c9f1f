"""Whoever writes into the store with other tools is heard of too, and what is taken out is named."""

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import replace

import pytest

from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import KillSwitch, StoreChange, StoreError
from policy.model import AssumptionId
from tests.patience import PATIENCE_SECONDS
from tests.store_examples import ACME, ACTOR, ASSUMPTION, KEY, NOW, OTHER, STAFF, a_change, a_grant, begin

# What each statement names, each in its turn.
STATEMENTS = {
    "UPDATE {0}grants SET revoked_at = 1 WHERE id = 'g1'": {"account": ACME.id},
    "UPDATE {0}grants SET revoked_at = NULL": {"account": ACME.id},
    "UPDATE {0}accounts SET suspended = true WHERE id = 'other'": {"account": OTHER.id},
    "UPDATE {0}accounts SET grant_id = NULL WHERE id = 'acme'": {"account": ACME.id},
    "DELETE FROM {0}grants": {"account": ACME.id},
    "DELETE FROM {0}accounts WHERE id = 'other'": {"account": OTHER.id},
    "UPDATE {0}assumptions SET ended_at = 1": {"assumption": ASSUMPTION.id},
    "DELETE FROM {0}assumptions": {"assumption": ASSUMPTION.id},
    "UPDATE {0}staff SET disabled = true": {"staff": ACTOR},
    "DELETE FROM {0}staff": {"staff": ACTOR},
    "UPDATE {0}kill_switch SET stopped = false": {},
    "DELETE FROM {0}kill_switch": {},
    "UPDATE {0}signing_keys SET retired_at = 1": {},
    "UPDATE {0}signing_keys SET algorithm = 'ES256'": {},
    "DELETE FROM {0}signing_keys": {},
}


async def fill(store):
    await store.add_account(ACME)
    await store.add_account(OTHER)
    await store.save_change(a_change(ACME, grant=a_grant(ACME)), by="x", at=NOW)
    await begin(store, ASSUMPTION)
    await store.save_staff(STAFF, at=NOW)
    await store.set_kill_switch(KillSwitch(on=True))
    await store.add_key(KEY)


async def every_one_is_heard_of(store, execute):
    await fill(store)
    for statement, names in STATEMENTS.items():
        before = (await store.read_changes(0)).position
        async with heard(store):
            await execute(statement)
        found = await store.read_changes(before)
        assert [StoreChange(position=before + 1, **names)] == list(found.changes), statement
        assert None not in (found.tag, found.newest_tag)


@asynccontextmanager
async def closed_behind(store):
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def heard(store):
    async with asyncio.timeout(PATIENCE_SECONDS), store.listen() as push:
        yield
        await push.wait()


async def test_sql_in_the_embedded_store_is_heard_of(tmp_path):
    """Each statement is one change, named, with a tag of its own, and every listener notices."""

    async def execute(sql):
        with closing(sqlite3.connect(tmp_path / "locum.db", isolation_level=None)) as connection:
            connection.execute(sql.format(""))

    async with closed_behind(await open_sqlite(tmp_path / "locum.db")) as store:
        await every_one_is_heard_of(store, execute)


async def test_sql_in_postgres_is_heard_of(postgres, database):
    """Likewise; and a grant that changes with its account is one change, however often that happens."""
    from tests.postgres_server import open_store  # noqa: PLC0415 - it imports asyncpg

    async def execute(sql):
        await postgres.execute(sql.format("locum."), database=database)

    # One that is left open would keep the server from ending.
    async with closed_behind(await open_store(postgres, database)) as store:
        await every_one_is_heard_of(store, execute)
        await store.add_account(one := replace(ACME, id="one"))
        for _ in range(3):
            before = (await store.read_changes(0)).position
            change = a_change(one, grant=a_grant(one, id="g9"))
            await store.save_change(change, by="x", at=NOW)
            one = change.account
            found = [StoreChange(position=before + 1, account=one.id)]
            assert found == list((await store.read_changes(before)).changes)


async def test_a_transaction_by_hand_is_whole(tmp_path):
    """What is rolled back was no change."""
    store = await open_sqlite(tmp_path / "locum.db")
    await fill(store)
    before = await store.read_changes(0)
    with closing(sqlite3.connect(tmp_path / "locum.db", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM assumptions")
        connection.execute("ROLLBACK")
    after = await store.read_changes(0)
    assert (before, before.newest_tag) == (after, after.newest_tag)
    assert None is not await store.find_assumption(AssumptionId("s1"))
    await store.close()


async def test_without_a_count_postgres_says_nothing(postgres):
    """Its row was taken out by hand: nobody is told that all is well, and no change is made without its count."""
    from tests.postgres_server import open_store  # noqa: PLC0415 - it imports asyncpg

    database = await postgres.new_database()
    async with closed_behind(await open_store(postgres, database)) as store:
        await postgres.execute("DELETE FROM locum.position", database=database)
        with pytest.raises(StoreError, match=r"locum\.position"):
            await store.read_changes(0)
        with pytest.raises(StoreError):
            await store.add_account(ACME)
        assert None is await store.find_account(ACME.id)
