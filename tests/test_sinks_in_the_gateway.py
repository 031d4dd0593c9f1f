"""Sinks in a running gateway: nobody waits for them, everybody sees how they fare, and a kill loses nothing."""

import asyncio
import json
import signal
import subprocess
import sys

import pytest
from msgspec.structs import replace

from gateway.audit.search import read
from gateway.config.load import build
from gateway.config.model import ConfigError
from gateway.config.sinks import Sink, SinkTls
from tests import started
from tests.gateway_world import open_world
from tests.patience import PATIENCE_SECONDS, within
from tests.sink_world import CANARY, Receiver, firsts, in_order, listening, write_records
from tests.test_cli import Shell
from tests.test_config import document
from tests.test_metrics import scrape, scrape_until


def _sink(**more):
    return {"name": "siem", "kind": "http", "shape": "ndjson", **more}


async def _begin(world):
    """Have the gateway record something of staff."""
    assert 200 == (await world.choose())[0]
    await world.get(await world.token())


def _counts_as_sent(scraped):
    """A batch counts once its answer has been read, which is behind the moment when the receiver has it."""
    return 0 < scraped.value("locum_sink_sent_records_total", sink="siem")


async def _until(receiver, holds):
    await asyncio.to_thread(receiver.until, holds)


async def test_what_the_gateway_records_arrives(tmp_path):
    """With its state in health and metrics, in which no credential stands, nor in the log."""
    with Receiver() as receiver, listening() as lines:
        url = f"http://localhost:{receiver.port}/in"

        def change(wanted):
            wanted["audit"] = {"sinks": [_sink(url=url, credential=CANARY, format="ocsf")]}

        async with open_world(tmp_path, change=change) as world:
            await _begin(world)
            await _until(receiver, receiver.bodies.__len__)
            health = await _health_until(world, "ok")
            scraped = await scrape_until(world, _counts_as_sent)
        bodies = b"".join(receiver.bodies)
    assert {"siem": "ok"} == health["sinks"]
    assert 300207 in [json.loads(line)["type_uid"] for line in bodies.splitlines()]
    assert 0 == scraped.value("locum_sink_failures_total", sink="siem")
    assert 0 <= scraped.value("locum_sink_lag_seconds", sink="siem")
    written = [json.dumps(entry) for entry in read(tmp_path / "journal")]
    for text in (*lines, *written, scraped.text, json.dumps(health), bodies.decode()):
        assert CANARY not in text
        assert url not in text
    assert CANARY in receiver.heads[0]


async def _health(world):
    async with world.http.get(f"{world.gateway.admin_url}/readyz") as answer:
        assert 200 == answer.status
        return await answer.json()


async def _health_until(world, state):
    """Ask until the sink is said to be in a state, which is set behind what a receiver sees of it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while state != (health := await _health(world))["sinks"]["siem"]:  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.01)
    return health


async def test_a_receiver_that_is_away_keeps_nobody_out(tmp_path):
    """The gateway is ready, staff begin and work, and the sink's state says that it fails."""
    with Receiver() as receiver:
        receiver.otherwise = 500
        url = f"http://localhost:{receiver.port}/in"
        async with open_world(
            tmp_path, change=lambda wanted: wanted.update(audit={"sinks": [_sink(url=url)]})
        ) as world:
            await _begin(world)
            await _until(receiver, lambda: receiver.asked >= 1)
            await _health_until(world, "failing")
            world.clock.forward(seconds=5)
            scraped = await scrape(world)
        assert 0 < scraped.value("locum_sink_failures_total", sink="siem")
        assert 5 <= scraped.value("locum_sink_lag_seconds", sink="siem")
        assert 0 < scraped.value("locum_sink_lag_bytes", sink="siem")


async def test_a_reload_puts_other_sinks_in_force(tmp_path):
    """Behind the place of the old one of that name; what cannot be opened changes nothing."""
    with Receiver() as receiver:

        def change(wanted):
            wanted["audit"] = {"sinks": [{"name": "siem", "kind": "file", "path": "out.jsonl"}]}

        async with open_world(tmp_path, change=change) as world:
            await _begin(world)
            await _until(
                receiver, lambda: (tmp_path / "sinks" / "siem.json").exists() or (tmp_path / "out.jsonl").exists()
            )
            url = f"http://localhost:{receiver.port}/in"
            config = world.gateway.config
            sinks = build(document("audit", {"sinks": [_sink(url=url)]}), {}, base=tmp_path).audit.sinks
            wrong = Sink(name="siem", kind="syslog", address="localhost:1", tls=SinkTls(ca=str(tmp_path / "none.pem")))
            with pytest.raises(ConfigError, match=r"audit\.sinks\[0\]\.tls\.ca"):
                await world.gateway.renew(replace(config, audit=replace(config.audit, sinks=(wrong,))))
            await world.gateway.renew(replace(config, audit=replace(config.audit, sinks=sinks)))
            await _begin(world)
            await _until(receiver, receiver.bodies.__len__)
        sent = [
            (entry["origin"], entry["seq"])
            for entry in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
        ]
        assert not set(sent) & set(receiver.got())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_kill_loses_nothing(tmp_path, workers):
    """Killed while batches are under way, and started again: every record comes, in order, some of them twice."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    write_records(data / "journal", 600, origin="old")
    shell = Shell(tmp_path)
    held = []
    with Receiver() as receiver:

        def otherwise(_body):
            held.append(True)
            if len(held) == 3:
                process.send_signal(signal.SIGKILL)
                process.wait()
            return 200, b""

        receiver.otherwise = otherwise
        text = (tmp_path / "config.toml").read_text()
        text = text.replace("[accounts]", f"workers = {workers}\n[accounts]", 1)
        shell.config(
            f'{text}\n[[audit.sinks]]\nname = "siem"\nkind = "http"\nshape = "ndjson"\nbatch_records = 50\n'
            f'url = "http://localhost:{receiver.port}/in"\n'
        )
        for _ in range(2):
            command = [sys.executable, "-m", "gateway", "--config", "config.toml", "run"]
            with (tmp_path / "log").open("ab") as log:
                process = subprocess.Popen(command, cwd=tmp_path, env=started.environment(), stdout=log, stderr=log)
            try:
                receiver.until(lambda: process.poll() is not None or ("old", 599) in receiver.got())  # noqa: B023 - here
            finally:
                if process.poll() is None:
                    process.terminate()
                process.wait(timeout=PATIENCE_SECONDS)
    assert list(range(600)) == firsts(receiver.got(), "old"), (tmp_path / "log").read_text()
    assert in_order(receiver.got(), "old")


async def test_several_workers_write_to_the_standard_output_of_the_first(tmp_path):
    """Not to the way by which they answer their supervisor; one of them does, and each line is whole."""
    (tmp_path / "data").mkdir(mode=0o700)
    write_records(tmp_path / "data" / "journal", 300, origin="old", user_agent="x" * 200)
    shell = Shell(tmp_path)
    text = (tmp_path / "config.toml").read_text().replace("[accounts]", 'workers = 2\nnode = "eu-1"\n[accounts]', 1)
    shell.config(f'{text}\n[[audit.sinks]]\nname = "out"\nkind = "stdout"\n')
    process = await shell.start("--config", "config.toml", "run")
    try:
        seqs = []
        async with within(PATIENCE_SECONDS):
            while len(seqs) < 300:
                line = await process.stdout.readline()
                assert line, await process.stderr.read()
                if line.startswith(b"{"):
                    seqs.append(json.loads(line)["seq"])
        assert list(range(300)) == seqs
    finally:
        process.terminate()
        await process.communicate()
    assert (tmp_path / "data" / "journal" / "eu-1-0.lock").exists()
