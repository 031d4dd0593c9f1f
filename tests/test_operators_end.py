"""What an operator ends from the command line ends in every worker, and what was put back does not come back by itself."""

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
from contextlib import AsyncExitStack

import pytest
from click.testing import CliRunner

from gateway.cli.root import cli
from gateway.grants.mark import read_highest
from gateway.stores.sqlite import open_sqlite
from policy.model import AccountId, ActorId
from tests.patience import PATIENCE_SECONDS
from tests.process_world import open_process_world, until
from tests.rawwire import response

FIRST = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"


@pytest.fixture
def script():
    """An app that answers `/tickets/1` and never ends `/events`."""

    async def stream(connection):
        await connection.send(FIRST)
        await asyncio.Event().wait()

    return lambda seen: stream if seen.target == b"/events" else response()


@contextlib.asynccontextmanager
async def watching(world, token):
    """A stream of events that is open."""
    async with world.connection() as line:
        line.send(token, "/events")
        assert 200 == (await line.head())[0]
        async with asyncio.timeout(PATIENCE_SECONDS):
            await line.reader.readuntil(b"first\r\n")
        yield line


async def locum(world, *words):
    """Run a command here, which is quicker than in a process of its own; return its exit code and all that it said."""
    result = await asyncio.to_thread(
        CliRunner().invoke, cli, ["--config", str(world.directory / "config.toml"), *words]
    )
    return result.exit_code, result.output


async def told(world, *words):
    code, said = await locum(world, *words)
    assert 0 == code, said
    return said


async def reason_of(world, token):
    status, _, body = await world.get(token)
    return 200 if status == 200 else body.decode().partition('"reason":"')[2].partition('"')[0]


async def test_the_kill_switch_stops_everybody_everywhere(tmp_path, script):
    """Streams in both workers are cut, requests and tokens are refused, customers do not notice; `off` lets them in."""
    async with open_process_world(tmp_path, script=script) as world, world.running(workers=2):
        await world.choose("day")
        token = await world.token()
        async with AsyncExitStack() as stack:
            streams, origins = [], set()
            while len(origins) < 2:
                assert len(streams) < 64, "one of the workers gets no connection"
                streams.append(await stack.enter_async_context(watching(world, token)))
                origins = {record["origin"] for record in world.records(kind="decision", decision="allow")}
            own = await stack.enter_async_context(watching(world, None))
            said = await told(world, "kill-switch", "on", "--reason", "an incident", "--as", "robin")
            assert "kill-switch: on\n" == said
            assert {b""} == {await stream.rest() for stream in streams}
            assert {"kill_switch"} == {await reason_of(world, token) for _ in range(8)}
            status, document = await world.ask(scope="tickets:read")
            assert (400, "kill_switch") == (status, document["reason"])
            assert 200 == (await world.get(None))[0]
            assert not own.reader.at_eof()
        said = await told(world, "kill-switch", "status")
        assert said.startswith("kill-switch: on since 2")
        assert said.endswith("UTC, by robin: an incident\n")
        async with world.http.get(f"{world.gateway.admin_url}/readyz") as ready:
            assert (200, "on") == (ready.status, (await ready.json())["kill_switch"])
        await told(world, "kill-switch", "off", "--as", "robin")
        assert "kill-switch: off" in await told(world, "kill-switch", "status")
        await until_reason(world, token, 200)
        assert {200} == {await reason_of(world, token) for _ in range(8)}
        code, said = await locum(world, "kill-switch", "off")
        assert (1, True) == (code, "is off already" in said)
        records = world.records(kind="kill_switch")
        assert [("on", "robin", "an incident"), ("off", "robin", None)] == [
            (record["reason"], record["by"], record.get("stated_reason")) for record in records
        ]


async def test_a_suspended_account_has_nobody_in_it_until_it_is_resumed(tmp_path, script):
    """What is open in it is cut, whatever its administrators chose; their choice counts again when it is resumed."""
    async with open_process_world(tmp_path, script=script) as world, world.running():
        await world.choose("day")
        token = await world.token()
        async with watching(world, token) as stream:
            assert "acme: suspended\n" == await told(world, "account", "suspend", "acme", "--as", "robin")
            assert b"" == await stream.rest()
        assert "account_suspended" == await reason_of(world, token)
        assert 200 == await reason_of(world, None)
        code, said = await locum(world, "account", "suspend", "acme")
        assert (1, True) == (code, "is suspended already" in said)
        assert "acme: resumed\n" == await told(world, "account", "resume", "acme", "--as", "robin")
        await until_reason(world, token, 200)
        code, said = await locum(world, "account", "resume", "acme")
        assert (1, True) == (code, "is not suspended" in said)
        assert 1 == (await locum(world, "account", "suspend", "nobody"))[0]
        records = world.records(kind="grant", granted_by="robin")
        assert [("suspended", "acme"), ("resumed", "acme")] == [(r["reason"], r["account"]) for r in records]


async def test_power_is_taken_away_without_a_journal_and_not_given_back(tmp_path, script):
    """The journal cannot be written: `on` is done all the same, and says what is missing; `off` is not done."""
    async with open_process_world(tmp_path, script=script) as world:
        world.configure()
        await told(world, "kill-switch", "status")
        (tmp_path / "data" / "journal").write_text("in the way")
        turning_on = asyncio.ensure_future(locum(world, "kill-switch", "on", "--reason", "why"))
        async with elsewhere(tmp_path) as store:
            while not (await store.find_kill_switch()).on:  # noqa: ASYNC110 - done in another loop
                await asyncio.sleep(0.01)
            code, said = await world.told("--config", "config.toml", "kill-switch", "off")
            assert (1, True) == (code, "kill-switch: off" not in said)
            assert (await store.find_kill_switch()).on
        code, said = await turning_on
        assert (1, True) == (code, "but not on the record" in said), said


async def test_an_account_is_suspended_without_a_journal_and_not_resumed(tmp_path, script):
    """Likewise: it is suspended and the command says what is missing; until there is a journal it stays so."""
    async with open_process_world(tmp_path, script=script) as world:
        world.configure()
        await told(world, "account", "add", "initech")
        (tmp_path / "data" / "journal").rename(tmp_path / "data" / "journal.away")
        (tmp_path / "data" / "journal").write_text("in the way")
        code, said = await locum(world, "account", "suspend", "initech", "--as", "robin")
        assert (1, True) == (code, "this is done (grant: suspended), but not on the record" in said), said
        assert (1, True) == ((again := await locum(world, "account", "suspend", "initech"))[0], "already" in again[1])
        assert 1 == (await locum(world, "account", "resume", "initech"))[0]
        async with elsewhere(tmp_path) as store:
            assert (await store.find_account(AccountId("initech"))).account.suspended
        (tmp_path / "data" / "journal").unlink()
        (tmp_path / "data" / "journal.away").rename(tmp_path / "data" / "journal")
        assert "initech: resumed\n" == await told(world, "account", "resume", "initech", "--as", "robin")
        assert ["resumed"] == [record["reason"] for record in world.records(kind="grant", granted_by="robin")]


async def test_a_kill_switch_that_could_not_be_turned_off_is_not_on_record_as_off(tmp_path, script):
    """The store refuses the change behind its record: the last word of the record is that it failed."""
    async with open_process_world(tmp_path, script=script) as world:
        world.configure()
        await told(world, "kill-switch", "on", "--reason", "why")
        with contextlib.closing(sqlite3.connect(tmp_path / "data" / "locum.sqlite3")) as other:
            other.execute("CREATE TRIGGER no BEFORE UPDATE ON kill_switch BEGIN SELECT RAISE (ABORT, 'no'); END")
        code, said = await locum(world, "kill-switch", "off")
        assert (1, True) == (code, "the database cannot be used" in said), said
        assert (await told(world, "kill-switch", "status")).startswith("kill-switch: on since")
        assert ["on", "off", "off_failed"] == [record["reason"] for record in world.records(kind="kill_switch")]


async def test_what_was_done_is_said_whatever_keeps_it_off_the_record(tmp_path, script, monkeypatch):
    """The keys cannot be read, and so no journal opened: the switch is on, and the command says what is missing."""
    async with open_process_world(tmp_path, script=script) as world:
        world.configure()
        monkeypatch.setenv("LOCUM__TOKENS__SIGNING_KEY", "no key")
        code, said = await locum(world, "kill-switch", "on", "--reason", "why", "--as", "robin")
        assert (1, True) == (code, "this is done (kill_switch: on), but not on the record" in said), said
        assert (await told(world, "kill-switch", "status")).startswith("kill-switch: on since")


@contextlib.asynccontextmanager
async def elsewhere(directory):
    store = await open_sqlite(directory / "data" / "locum.sqlite3")
    try:
        yield store
    finally:
        await store.close()


async def test_one_assumption_and_one_person_are_ended_in_every_worker(tmp_path, script):
    """Every stream of it, then of them, is cut in both workers; nobody else's is."""
    async with open_process_world(tmp_path, script=script) as world, world.running(workers=2):
        await world.choose("day")
        one, two, erins = (
            await world.token(),
            await world.token(),
            await world.token(actor_token=world.actor_token("erin")),
        )
        [sid, *_] = [record["assumption"] for record in world.records(kind="token", decision="allow")]
        async with AsyncExitStack() as stack:
            of_one, of_two = [
                [await stack.enter_async_context(watching(world, token)) for _ in range(4)] for token in (one, two)
            ]
            of_erin = await stack.enter_async_context(watching(world, erins))
            await told(world, "assumption", "end", sid, "--as", "robin")
            assert {b""} == {await stream.rest() for stream in of_one}
            assert {"assumption_ended"} == {await reason_of(world, one) for _ in range(4)}
            assert {200} == {await reason_of(world, two) for _ in range(4)}
            await told(world, "staff", "lock", "dana", "--as", "robin")
            assert {b""} == {await stream.rest() for stream in of_two}
            assert {"staff_disabled"} == {await reason_of(world, two) for _ in range(4)}
            assert (200, False) == (await reason_of(world, erins), of_erin.reader.at_eof())
        await told(world, "staff", "unlock", "dana", "--as", "robin")
        await until_reason(world, two, 200)
        assert [("assumption", "ended"), ("staff", "locked"), ("staff", "unlocked")] == [
            (record["kind"], record["reason"]) for record in world.records(by="robin")
        ]


async def until_reason(world, token, wanted):
    async with asyncio.timeout(PATIENCE_SECONDS):
        while wanted != await reason_of(world, token):
            pass


async def test_a_database_put_back_is_not_believed_until_the_operator_has_recovered_it(tmp_path, script):
    """The customer's `off` is not in the copy, which counts more changes than were seen, made since.

    Staff stay out, over a restart too; `recover` ends all that was given.
    """
    async with open_process_world(tmp_path, script=script) as world:
        database, backup = tmp_path / "data" / "locum.sqlite3", tmp_path / "backup.sqlite3"
        async with world.running() as running:
            await world.choose("day")
            token = await world.token()
            async with watching(world, token) as stream:
                copy(database, backup)
                await world.choose("off")
                assert b"" == await stream.rest()
            with contextlib.closing(sqlite3.connect(database)) as live:
                [made] = live.execute("SELECT max(position) FROM changes").fetchone()
            # Who has not seen a change cannot miss it.
            await until(lambda: read_highest(tmp_path / "data") >= made)
            with contextlib.closing(sqlite3.connect(backup, isolation_level=None)) as aside:
                aside.execute("INSERT INTO changes (account) VALUES ('a'), ('b'), ('c'), ('d'), ('e'), ('f')")
            copy(backup, database)
            await running.says("the store is an older copy of itself")
            assert "store_stale" == await reason_of(world, token)
            assert (503, "stale") == await readiness(world)
        async with world.running() as running:
            assert "store_stale" == await reason_of(world, token)
            status, document = await world.ask(scope="tickets:read")
            assert (503, "store_stale") == (status, document["reason"])
            assert 200 == (await world.get(None))[0]
            said = await told(world, "recover", "--as", "robin")
            assert "1 assumptions ended, 1 grants turned off" in said
            await running.says("it is believed again")
            assert (200, "ok") == await readiness(world)
            await until_reason(world, token, "token_invalid")
            await world.choose("day")
            assert "token_invalid" == await reason_of(world, token)
            assert 200 == await reason_of(world, await world.token())
        history = await told(world, "grant", "show", "acme", "--history")
        assert ["enabled", "turned_off", "enabled"] == [line.split()[3] for line in history.splitlines()[1:]]
        done = [(r["kind"], r["reason"]) for r in world.records(by="robin") if r["kind"] != "grant"]
        assert [("assumption", "ended"), ("key", "ended"), ("key", "made"), ("store", "recovered")] == done
        assert ["turned_off"] == [r["reason"] for r in world.records(kind="grant", granted_by="robin")]


def copy(source, target):
    """Copy a database into another, as it stands."""
    with contextlib.closing(sqlite3.connect(source)) as one, contextlib.closing(sqlite3.connect(target)) as other:
        one.backup(other)


async def readiness(world):
    async with world.http.get(f"{world.gateway.admin_url}/readyz") as ready:
        return ready.status, (await ready.json())["parts"]["store"]


async def test_a_worker_that_was_stopped_uses_nothing_stale(tmp_path, script):
    """Stopped for longer than facts are good. What waited for it is answered by what is true then; streams are cut."""
    more = "[grants]\nfact_ttl_seconds = 0.5\nabsent_ttl_seconds = 0.5"
    async with open_process_world(tmp_path, script=script) as world, world.running(more=more) as running:
        await world.choose("day")
        token = await world.token()
        async with watching(world, token) as stream, world.connection() as line:
            assert 200 == (await line.get(token))[0]
            os.kill(running.pid, signal.SIGSTOP)
            try:
                store = await open_sqlite(tmp_path / "data" / "locum.sqlite3")
                # No channel is left that it could be told by.
                shutil.rmtree(tmp_path / "data" / "locum.sqlite3.push")
                dana = ActorId(issuer=world.issuer.issuer, subject="dana")
                assert await store.disable_staff(dana, disabled=True)
                await store.close()
                line.send(token)
                await asyncio.sleep(0.6)  # so long is it stopped
            finally:
                os.kill(running.pid, signal.SIGCONT)
            assert 403 == (await line.head())[0]
            assert b"" == await stream.rest()
        await until(lambda: world.records(kind="decision", decision="deny", reason="staff_disabled"))
        await until(lambda: world.records(kind="completion", ended="cut", reason="staff_disabled"))


async def test_the_mark_is_written_while_it_runs(tmp_path, script):
    """Whoever is killed has left it, a second old at the most."""
    async with open_process_world(tmp_path, script=script) as world, world.running() as running:
        await world.choose("day")
        mark = tmp_path / "data" / "position-gateway"
        await until(lambda: mark.exists() and read_highest(mark.parent) >= 2)
        running.process.kill()
        await running.ends()
    assert read_highest(mark.parent) >= 2
