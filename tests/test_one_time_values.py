"""A value that counts once counts once for all processes and nodes together."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

from gateway.stores.sqlite import open_sqlite
from tests.postgres_server import open_store
from tests.session_contract import DIGEST, SESSION
from tests.store_examples import ACTOR, NOW, STAFF

LATER = NOW + timedelta(minutes=1)


async def redeem_everywhere(stores):
    await stores[0].add_one_time(DIGEST, "x", expires_at=LATER, now=NOW)
    given = await asyncio.gather(*(stores[n % len(stores)].redeem(DIGEST, now=NOW) for n in range(200)))
    assert ["x"] == [payload for payload in given if payload is not None]


async def change_everywhere(stores):
    """Of all who have read the same payload, one changes it, and every node reads that."""
    await stores[0].add_one_time(DIGEST, "read", expires_at=LATER, now=NOW)
    calls = (stores[n % len(stores)].swap_one_time(DIGEST, str(n), known="read", now=NOW) for n in range(200))
    changed = await asyncio.gather(*calls)
    assert 1 == sum(changed)
    read = {await store.find_one_time(DIGEST, now=NOW) for store in stores}
    assert {str(changed.index(True))} == read
    assert str(changed.index(True)) == await stores[-1].redeem(DIGEST, now=NOW)


async def lock_everywhere(stores):
    """A lock by one node ends the session that another began, and no node finds it any more."""
    await stores[1].begin_session(SESSION, STAFF, at=NOW)
    assert [SESSION] * len(stores) == [await store.find_session(DIGEST) for store in stores]
    await stores[0].disable_staff(ACTOR, disabled=True)
    assert [None] * len(stores) == [await store.find_session(DIGEST) for store in stores]


async def test_200_redemptions_by_several_processes_of_one_machine_give_one_success(tmp_path):
    """The embedded store, opened three times."""
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(3):
            stores.append(await open_sqlite(tmp_path / "locum.sqlite3"))
            stack.push_async_callback(stores[-1].close)
        await redeem_everywhere(stores)
        await change_everywhere(stores)
        await lock_everywhere(stores)


async def test_200_redemptions_by_several_nodes_give_one_success(postgres, database):
    """The shared store, from three nodes."""
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(3):
            stores.append(await open_store(postgres, database))
            stack.push_async_callback(stores[-1].close)
        await redeem_everywhere(stores)
        await change_everywhere(stores)
        await lock_everywhere(stores)
