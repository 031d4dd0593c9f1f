"""Each fault of a store, with facts warm, old and gone: staff are refused in time, customers notice nothing, it mends.

The whole gateway, before the embedded store and before a PostgreSQL behind a wire that can fail.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time

import pytest

from gateway.config.load import build
from gateway.grants.patience import FACTS_SECONDS, REFUSED_SECONDS
from tests.browser_world import open_browser
from tests.gateway_world import document, open_world
from tests.patience import PATIENCE_SECONDS, within
from tests.postgres_server import Wire
from tests.upstream_client import eventually


async def kept_out(world, token):
    """Staff are refused in time and told when to come back; a customer is served as ever."""
    seen = len(world.upstream.requests)
    async with within(REFUSED_SECONDS):
        status, headers, body = await world.get(token)
    assert (503, "1") == (status, headers["retry-after"])
    assert b"store_unavailable" in body
    assert seen == len(world.upstream.requests)
    async with within(REFUSED_SECONDS):
        assert (200, b"ok") == (await world.get(None))[0::2]


async def is_let_in(world, token):
    return (await world.get(token))[0] == 200


async def forget(world, change):
    """Put the same configuration in force again, which forgets every fact."""
    wanted = document(world.directory, upstream=world.upstream.url, issuer=world.issuer.issuer)
    change(wanted)
    await world.gateway.renew(build(wanted, {}, base=world.directory))


async def through(world, fault, *, change=lambda _document: None):
    """Go through warm, old and cold facts with the fault there, and see it mend by itself."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await world.choose("day"))[0] == 503 or (await world.ask())[0] == 503:
            pass  # a slow machine may need more time than a store gets
    token = await world.token()
    never_used = await world.token(subject_token="nora")
    await eventually_let_in(world, token)
    async with fault:
        # Cold: of this assumption nothing was ever fetched for a request.
        await kept_out(world, never_used)
        # Warm and fresh: what was known may count, unless the channel's loss has made all of it old already. Nobody hangs.
        async with within(REFUSED_SECONDS):
            status = (await world.get(token))[0]
        assert status in (200, 503)
        world.clock.forward(seconds=3)
        await kept_out(world, token)
        world.clock.forward(seconds=3)
        await kept_out(world, never_used)
        status, answer = await world.ask()
        assert (503, "store_unavailable") == (status, answer["reason"])
        async with world.http.get(f"{world.gateway.admin_url}/readyz") as ready:
            assert 503 == ready.status
    await eventually_let_in(world, never_used)
    await forget(world, change)
    await eventually_let_in(world, token)


async def eventually_let_in(world, token):
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await is_let_in(world, token):  # noqa: ASYNC110 - nobody tells when the pause before a new try is over
            await asyncio.sleep(0.05)


# --- PostgreSQL ---


@contextlib.asynccontextmanager
async def wire_that(wire, fault):
    getattr(wire, fault)()
    try:
        yield
    finally:
        wire.cut()
        wire.go_on()


@contextlib.asynccontextmanager
async def server_stopped(postgres):
    with postgres.standing_still():
        yield


@contextlib.asynccontextmanager
async def server_killed(postgres):
    postgres.kill()
    try:
        yield
    finally:
        await asyncio.to_thread(postgres.start)


@pytest.mark.parametrize("fault", ["stall", "cut", "half_open", "stopped", "killed"])
async def test_a_fault_of_the_shared_database_keeps_staff_out_and_nobody_else(tmp_path, postgres, database, fault):
    """The network stalls, resets, or breaks on one side only; the server stands still, or crashes."""
    async with Wire(postgres) as wire:

        def change(wanted):
            wanted["store"] = {"url": postgres.url(database, port=wire.port)}

        async with open_world(tmp_path, change=change, patience_seconds=FACTS_SECONDS) as world:
            server = {"stopped": server_stopped, "killed": server_killed}
            there = server[fault](postgres) if fault in server else wire_that(wire, fault)
            await through(world, there, change=change)


# --- the embedded store ---


@contextlib.asynccontextmanager
async def renamed(path):
    """A table is gone, as after half a migration."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA legacy_alter_table = ON")
        for table in ("accounts", "assumptions", "staff", "kill_switch"):
            other.execute(f"ALTER TABLE {table} RENAME TO gone_{table}")
        try:
            yield
        finally:
            for table in ("accounts", "assumptions", "staff", "kill_switch"):
                other.execute(f"ALTER TABLE gone_{table} RENAME TO {table}")


async def test_a_store_without_its_tables_keeps_staff_out_and_nobody_else(tmp_path):
    """It lacks what this version needs, as after half a migration, and has it again."""
    async with open_world(tmp_path) as world:
        await through(world, renamed(tmp_path / "locum.sqlite3"))


async def test_a_store_that_is_garbage_keeps_staff_out_and_nobody_else(tmp_path):
    """Every page of it is overwritten under our hands; the operator has to put a copy back."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        token = await world.token()
        assert await is_let_in(world, token)
        for path in (tmp_path / "locum.sqlite3", tmp_path / "locum.sqlite3-wal"):
            with path.open("r+b") as file:
                file.write(b"\xa5" * path.stat().st_size)
        for _ in range(2):
            world.clock.forward(seconds=3)
            await kept_out(world, token)


async def test_a_request_has_one_time_for_all_it_asks_the_store(tmp_path):
    """By cookie it asks more than once; what the first answer took, the next has not."""
    patience = 1.5
    async with open_browser(tmp_path, patience_seconds=patience) as browser:
        assert 200 == (await browser.ask()).status
        heard, first, second = len(browser.world.upstream.requests), threading.Event(), threading.Event()
        browser.world.clock.forward(seconds=3)
        reader, facts = browser.world.gateway.store._reader, browser.world.gateway._state.facts
        asked = facts.fetches()["browser"]

        def hold(until):
            return asyncio.ensure_future(reader.run(lambda _connection: until.wait(PATIENCE_SECONDS)))

        held = [hold(first)]
        async with within(patience + 0.5):
            asking = asyncio.ensure_future(browser.ask())
            await eventually(lambda: asked < facts.fetches()["browser"])
            # A short answer is told with the next one: this one makes the cookie's be told before all stands still.
            held.append(asyncio.ensure_future(reader.run(lambda _connection: time.sleep(0.02))))
            held.append(hold(second))
            asyncio.get_running_loop().call_later(1, first.set)
            answer = await asking
        second.set()
        await asyncio.gather(*held)
        assert 503 == answer.status
        assert b"store_unavailable" in answer.body
        assert asked + 1 == facts.fetches()["browser"]
        assert heard == len(browser.world.upstream.requests)
