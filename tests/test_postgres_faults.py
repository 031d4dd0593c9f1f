"""What can happen to a database and the way to it: every fault is a StoreError in time, and passes by itself."""

import asyncio
import itertools
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.stores.postgres.address import parse_url
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.store import StoreError
from policy.model import AccountId, AssumptionId
from tests.patience import PATIENCE_SECONDS, within
from tests.postgres_server import Wire, asyncpg, connect, open_store, shape
from tests.store_examples import ACME, ACTOR, ASSUMPTION, NOW, STAFF, a_change, a_grant, begin

READ_SECONDS = 0.3
SLACK_SECONDS = 1.5  # a machine that has other things to do; the deadline itself is far below


@pytest.fixture
async def store(postgres, database):
    store = await open_store(postgres, database, read_seconds=READ_SECONDS, write_seconds=2, most_connections=3)
    yield store
    await store.close()


@pytest.fixture
async def wire(postgres):
    async with Wire(postgres) as wire:
        yield wire


@pytest.fixture
async def far(postgres, database, wire):
    """A store behind a wire that can fail."""
    store = await open_store(
        postgres,
        database,
        url=postgres.url(database, port=wire.port),
        read_seconds=READ_SECONDS,
        write_seconds=1,
        quiet_seconds=0.2,
    )
    yield store
    await store.close()


async def refused_in_time(work):
    """The call raises StoreError, not much after the deadline of a question."""
    with pytest.raises(StoreError) as refused:
        async with within(READ_SECONDS + SLACK_SECONDS):
            await work
    return str(refused.value)


async def answers_again(store):
    """It answers by itself after a while, with what was stored."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await store.find_account(ACME.id)
            except StoreError:
                await asyncio.sleep(0.02)


async def hears_again(store):
    """It hears of a change, by itself after a while."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        for number in itertools.count():
            try:
                async with store.listen() as push:
                    await begin(store, replace(ASSUMPTION, id=AssumptionId(f"as_{number}")))
                    await push.wait()
            except StoreError:
                await asyncio.sleep(0.02)
            else:
                return


async def lost_in_time(push):
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(StoreError):
            while True:
                await push.wait()
    with pytest.raises(StoreError):
        await push.wait()


async def sleeping(postgres, database):
    """Wait until a connection of this database is in the middle of a statement."""
    sql = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND state = 'active' AND wait_event_type = 'Lock'"
    await postgres.until(len, sql, database)


@pytest.fixture
async def locked(postgres, database):
    """A transaction of somebody else that keeps every account's row and the position."""
    other = await asyncpg.connect(postgres.url(database))
    await other.execute("BEGIN; LOCK TABLE locum.accounts, locum.position IN ACCESS EXCLUSIVE MODE")
    yield other
    await other.close()


async def test_a_statement_that_is_cut_off_is_a_store_error_and_the_next_works(store, postgres, database, locked):
    """The backend is ended in the middle of a write: nothing of it is there, and the pool has another connection."""
    write = asyncio.ensure_future(store.add_account(ACME))
    await sleeping(postgres, database)
    assert 1 == await postgres.end_backends(database, like="%INSERT INTO locum.accounts%")
    with pytest.raises(StoreError):
        await write
    await locked.execute("ROLLBACK")
    assert None is await answers_again(store)
    assert 0 == (await store.read_changes(0)).position
    await store.add_account(ACME)


async def test_idle_connections_that_were_ended_are_replaced(store, postgres, database):
    """A failover proxy that drops what is idle costs nobody an answer for long."""
    await store.add_account(ACME)
    await postgres.end_backends(database)
    assert ACME == (await answers_again(store)).account


async def test_a_lock_that_is_held_ends_a_question_in_time_and_the_server_gives_up_too(
    store, postgres, database, locked
):
    """A question that waits for a lock is refused at its deadline; the place it took is free again."""
    for _ in range(5):
        assert "in time" in await refused_in_time(store.find_account(ACME.id))
    await locked.execute("ROLLBACK")
    await answers_again(store)


async def test_a_write_that_waits_too_long_is_nowhere(store, postgres, database, locked):
    """Whoever was told that the store cannot answer finds nothing stored afterwards, and nothing counted."""
    with pytest.raises(StoreError):
        await store.add_account(ACME)
    await locked.execute("ROLLBACK")
    assert None is await answers_again(store)
    assert 0 == (await store.read_changes(0)).position


async def test_a_cancelled_call_leaves_no_connection_in_the_middle(store, postgres, database, locked):
    """Of many calls that are cancelled at any moment none leaves its answer, or its transaction, to the next one."""
    change = a_change(ACME, grant=a_grant(ACME))
    for number in range(20):
        calls = [store.find_account(ACME.id), store.save_change(change, by="x", at=NOW), store.find_staff(ACTOR)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.wait(tasks, timeout=number / 2000)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    await locked.execute("ROLLBACK")
    await store.add_account(ACME)
    await store.save_change(change, by="x", at=NOW)
    assert change.grant == (await store.find_account(ACME.id)).grant
    assert None is await store.find_staff(ACTOR)
    idle = "SELECT state FROM pg_stat_activity WHERE datname = $1 AND state LIKE 'idle in transaction%'"
    await postgres.until(lambda rows: not rows, idle, database)


async def test_who_finds_no_free_connection_is_told_in_time(store, postgres, database, locked):
    """With all connections waiting for a lock, one more question is refused at its own deadline."""
    writes = [asyncio.ensure_future(store.add_account(replace(ACME, id=AccountId(str(n))))) for n in range(3)]
    await sleeping(postgres, database)
    assert "max_connections" in await refused_in_time(store.find_staff(ACTOR))
    await locked.execute("ROLLBACK")
    await asyncio.gather(*writes)
    assert None is await store.find_staff(ACTOR)


async def test_no_more_connections_than_the_most_are_opened(store, postgres, database):
    """However many call at once."""
    await asyncio.gather(*(store.add_account(replace(ACME, id=AccountId(str(n)))) for n in range(100)))
    [[count]] = await postgres.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", database)
    assert 1 <= count <= 3


async def test_a_server_that_stands_still_is_a_store_error_in_time(store, postgres):
    """Neither an open connection nor a new one keeps anybody waiting, and the channel is known to be lost."""
    await store.add_account(ACME)
    async with store.listen() as push:
        with postgres.standing_still():
            for _ in range(3):
                await refused_in_time(store.find_account(ACME.id))
            # What a reload waits for.
            await refused_in_time(store.list_keys())
            await lost_in_time(push)
    assert ACME == (await answers_again(store)).account


async def test_a_server_that_crashed_comes_back_by_itself(postgres, store):
    """What was acknowledged before is there; in between every call is a StoreError, and every channel is lost."""
    await store.add_account(ACME)
    async with store.listen() as push:
        postgres.kill()
        try:
            await lost_in_time(push)
            for _ in range(3):
                await refused_in_time(store.find_account(ACME.id))
            with pytest.raises(StoreError):
                async with store.listen():
                    pass
        finally:
            postgres.start()
    assert ACME == (await answers_again(store)).account
    async with store.listen() as push:
        await store.save_staff(STAFF, at=NOW)
        await asyncio.wait_for(push.wait(), PATIENCE_SECONDS)


@pytest.mark.parametrize("fault", ["stall", "half_open", "cut"])
async def test_a_wire_that_fails_is_a_store_error_in_time(far, wire, fault):
    """Held back, half open or cut: calls are refused in time, the channel is lost, and both come back by themselves."""
    await far.add_account(ACME)
    async with far.listen() as push:
        getattr(wire, fault)()
        for _ in range(3):
            await refused_in_time(far.find_account(ACME.id))
        await lost_in_time(push)
        with pytest.raises(StoreError):
            await asyncio.wait_for(far.end_assumption(ASSUMPTION.id, at=NOW), 1 + SLACK_SECONDS)
    wire.go_on()
    assert ACME == (await answers_again(far)).account
    await hears_again(far)


async def test_faults_leave_nothing_open(postgres, database):
    """After losses with calls cancelled in the middle of them, and the end, no socket and no task is left."""
    sockets, tasks = count_descriptors(), len(asyncio.all_tasks())
    async with Wire(postgres) as wire:
        url = postgres.url(database, port=wire.port)
        far = await open_store(postgres, database, url=url, read_seconds=0.1)
        await far.add_account(ACME)
        for number in range(8):
            (wire.cut if number % 4 else wire.half_open)()
            calls = [asyncio.ensure_future(far.find_account(ACME.id)) for _ in range(5)]
            await asyncio.wait(calls, timeout=0.003 * (number % 3))
            for call in calls[:2]:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            wire.go_on()
            await answers_again(far)
        await far.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while count_descriptors() > sockets or len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    await postgres.until(lambda found: not found, "SELECT 1 FROM pg_stat_activity WHERE datname = $1", database)


def count_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_database_that_is_away_is_not_hammered(far, wire):
    """While it cannot be reached, a thousand questions are a few attempts."""
    wire.cut()
    before = wire.accepted
    began = time.monotonic()
    for _ in range(1000):
        with pytest.raises(StoreError):
            await far.find_account(ACME.id)
    seconds = time.monotonic() - began
    assert wire.accepted - before <= 12 + 4 * seconds


async def test_a_channel_whose_backend_was_ended_is_lost(store, postgres, database):
    """The one that waits is told, and who listens again hears again."""
    async with store.listen() as push:
        waiting = asyncio.ensure_future(push.wait())
        await asyncio.wait([waiting], timeout=0.01)
        assert 1 == await postgres.end_backends(database, like="LISTEN%")
        with pytest.raises(StoreError):
            await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    async with store.listen() as push:
        await store.add_account(ACME)
        await asyncio.wait_for(push.wait(), PATIENCE_SECONDS)


async def test_opening_what_does_not_answer_is_a_store_error(postgres, database, wire):
    """At the start too: stalled, refused, or not a database at all."""
    wire.stall()
    began = time.monotonic()
    with pytest.raises(StoreError):
        await open_store(postgres, database, url=postgres.url(database, port=wire.port), write_seconds=0.5)
    assert time.monotonic() - began < PATIENCE_SECONDS
    for url in ("postgresql://locum@127.0.0.1:1/x", f"postgresql://nobody@127.0.0.1:{postgres.port}/x?sslmode=disable"):
        with pytest.raises(StoreError):
            await open_store(postgres, database, url=url)


async def test_opening_what_falls_silent_ends_when_nobody_waits_any_longer(postgres, database):
    """Behind the connect, where no time for connecting helps: cancelled in time, with no socket and no task left."""
    sockets, tasks = count_descriptors(), len(asyncio.all_tasks())
    async with Wire(postgres) as wire:
        connector = connect.Connector(parse_url(postgres.url(database, port=wire.port)), StoreTerms())
        async with connector.apart(PATIENCE_SECONDS) as connection:
            wire.stall()
            with pytest.raises(StoreError, match=r"does not answer within 0\.2 s"), connect.bounded(connection, 0.2):
                await shape.count_applied(connection, shape.migrations())
        wire.go_on()
        async with connector.apart(PATIENCE_SECONDS) as connection:
            wire.stall()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await shape.migrate(connection, shape.migrations())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while count_descriptors() > sockets or len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"R\x00\x00\x00\x08\xff\xff\xff\xff", b""])
async def test_what_is_no_database_is_a_store_error(postgres, answer):
    """Whatever it says."""

    async def serve(reader, writer):
        await reader.read(1024)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StoreError):
            await asyncio.wait_for(open_store(postgres, "", url=postgres.url("x", port=port)), PATIENCE_SECONDS)
