"""A store that cannot be opened at the start keeps staff out, and nobody else; it is opened as soon as it can be."""

import asyncio
import contextlib
import fcntl
import os

import pytest

from gateway.audit.removal.rewriting import Disk, closed
from gateway.clock import boot_seconds, utc_now
from gateway.config.load import build
from gateway.late import Late, LateJournal, LateStore
from gateway.locks import Lock
from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import Store, StoreError
from tests.gateway_world import document
from tests.patience import within
from tests.process_world import open_process_world, until
from tests.rawwire import exchange

GARBAGE = b"this is no database" * 1000


@contextlib.contextmanager
def broken(directory):
    """Within the block the database is something else; behind it, it is what it was."""
    data = directory / "data"
    kept = [(path, path.with_name(f"kept-{path.name}")) for path in sorted(data.glob("locum.sqlite3*"))]
    for path, aside in kept:
        path.rename(aside)
    database = data / "locum.sqlite3"
    database.write_bytes(GARBAGE)
    database.chmod(0o600)
    yield
    for path, aside in kept:
        aside.rename(path)


async def readiness(world):
    async with world.http.get(f"{world.gateway.admin_url}/readyz") as ready:
        return ready.status, (await ready.json())["parts"]


@pytest.mark.parametrize("workers", [1, 2])
async def test_customers_are_served_before_the_store_is_there(tmp_path, workers):
    """Nothing has ever been opened here. Each fault of staff's way is a 503; then it is opened, and the keys are one."""
    async with open_process_world(tmp_path) as world, contextlib.AsyncExitStack() as stack:
        with broken(tmp_path):
            running = await stack.enter_async_context(world.running(workers=workers))
            for _ in range(4):
                assert 200 == (await world.get(None))[0]
            status, document = await world.ask(scope="tickets:read")
            assert (503, "temporarily_unavailable") == (status, document["error"])
            assert 503 == (await world.choose("day"))[0]
            assert b"keys" not in await jwks(world)
            status, parts = await readiness(world)
            assert (503, "failing", "failing") == (status, parts["store"], parts["journal"])
            assert not (tmp_path / "data" / "journal-key.pem").exists()
        await running.says("the store is open, and staff are let in again", times=workers)
        assert 200 == (await world.choose("day"))[0]
        token = await world.token()
        assert {200} == {(await world.get(token))[0] for _ in range(8)}
        keys = [await jwks(world) for _ in range(8)]
        assert [keys[0]] * 8 == keys
        assert 1 == keys[0].count(b'"kid"')
        code, said = await world.told("--config", "config.toml", "audit", "verify")
        assert (0, "ok") == (code, said.splitlines()[-1])


async def jwks(world):
    raw = b"GET /.locum/jwks.json HTTP/1.1\r\nHost: acme.helpdesk.example\r\nConnection: close\r\n\r\n"
    return (await exchange("127.0.0.1", world.port, raw)).partition(b"\r\n\r\n")[2]


async def test_a_token_from_before_counts_again_once_the_store_is_there(tmp_path):
    """A restart while the store is away: 503 with a time to come back, whatever the token; nothing reaches the app."""
    async with open_process_world(tmp_path) as world, contextlib.AsyncExitStack() as stack:
        async with world.running():
            await world.choose("day")
            token = await world.token()
            assert 200 == (await world.get(token))[0]
        with broken(tmp_path):
            running = await stack.enter_async_context(world.running())
            heard = len(world.upstream.requests)
            for credential in (token, token + "x"):
                status, headers, _ = await world.get(credential)
                assert (503, "1") == (status, headers["retry-after"])
            assert heard == len(world.upstream.requests)
            world.configure()
            running.send()
            await running.says("the new configuration is in force")
            assert (503, 200) == ((await world.get(token))[0], (await world.get(None))[0])
        await running.says("the store is open")
        assert 200 == (await world.get(token))[0]
        assert (200, "ok") == ((await readiness(world))[0], (await readiness(world))[1]["store"])
        await until(lambda: world.records(kind="decision", decision="allow"))


async def test_a_store_that_somebody_keeps_locked_is_opened_when_they_let_it_go(tmp_path):
    """As by a command that was stopped in the middle: nobody waits longer than was said, and a later try finds it open."""
    tmp_path.chmod(0o700)
    whole = document(tmp_path, upstream="http://127.0.0.1:1", issuer="http://127.0.0.1:2")
    late = Late(build(whole, {}, base=tmp_path), origin="gateway", shared=False, clock=utc_now, ticks=boot_seconds)
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    async with within(2):
        await late.try_to_open(seconds=0.2)
    assert not late.is_open
    with pytest.raises(StoreError, match="another process has been opening the store"):
        await open_sqlite(tmp_path / "locum.sqlite3", busy_seconds=0.1)
    os.close(holder)
    await late.try_to_open()
    assert late.is_open
    await late.close()


async def test_a_command_that_rewrites_the_journal_of_a_gateway_that_is_down_keeps_no_customer_out(tmp_path):
    """While it has the journal the gateway starts and serves customers; staff are let in when the command is done."""
    async with open_process_world(tmp_path) as world, contextlib.AsyncExitStack() as stack:
        async with world.running():
            assert 200 == (await world.choose("day"))[0]
        (newest,) = (tmp_path / "data" / "journal").glob("gateway-*.jsonl")
        with closed(newest, disk=Disk()) as is_closed:
            assert is_closed
            running = await stack.enter_async_context(world.running())
            assert 200 == (await world.get(None))[0]
            assert 503 == (await world.ask(scope="tickets:read"))[0]
        await running.says("the store is open, and staff are let in again")
        assert 200 == (await world.get(await world.token()))[0]


async def test_a_command_that_is_soon_done_delays_a_start_and_nothing_else(tmp_path):
    """A look at who writes an origin takes its lock for a moment, too."""
    tmp_path.chmod(0o700)
    whole = document(tmp_path, upstream="http://127.0.0.1:1", issuer="http://127.0.0.1:2")
    config = build(whole, {}, base=tmp_path)
    late = Late(config, origin="gateway", shared=False, clock=utc_now, ticks=boot_seconds)
    config.journal_directory.mkdir(mode=0o700)
    lock = Lock(config.journal_directory / "gateway.lock")
    assert lock.take()
    asyncio.get_running_loop().call_later(0.1, lock.release)
    await late.try_to_open()
    assert late.is_open
    await late.close()


async def test_it_ends_while_it_still_waits(tmp_path):
    """Told to stop, it does, and with 0."""
    async with open_process_world(tmp_path) as world:
        with broken(tmp_path):
            async with world.running() as running:
                assert 200 == (await world.get(None))[0]
                running.process.terminate()
                assert 0 == await running.ends()


async def test_what_stands_in_knows_every_call_and_answers_none():
    """No call of the contract is forgotten, and none that is not one is made up."""
    late = LateStore()
    calls = [name for name in dir(Store) if not name.startswith("_")]
    assert len(calls) > 20
    for name in calls:
        with pytest.raises(StoreError):
            getattr(late, name)()
    for name in ("alone", "__wrapped__", "anything"):
        assert not hasattr(late, name)
    assert (False, 0) == (LateJournal().healthy, LateJournal().size)
    await LateJournal().close()
