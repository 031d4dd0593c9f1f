"""Notices when the gateway is killed: what is on the record is told by whoever comes next."""

import asyncio
import signal
from datetime import timedelta

from gateway.stores.sqlite import open_sqlite
from tests.process_world import open_process_world
from tests.telling_world import ANN, Hands, Log, Relay, Time, put_contacts, sending
from tests.upstream_client import eventually


async def test_a_kill_loses_no_notice(tmp_path):
    """The gateway dies while a relay has its mail and has not answered: another sends it, the same mail."""
    async with open_process_world(tmp_path) as world:
        with Relay(["silent"]) as relay:
            more = f"""
[notices]
digest_seconds = 0
[notices.mail]
host = "127.0.0.1"
port = {relay.port}
security = "none"
sender = "locum@vendor.example"
"""
            store = await open_sqlite(tmp_path / "data" / "locum.sqlite3")
            await put_contacts(store, mail=[ANN])
            async with world.running(more=more) as running:
                assert 200 == (await world.choose())[0]
                await asyncio.to_thread(relay.until, lambda: relay.asked)
                running.send(signal.SIGKILL)
                await running.ends()
            assert [] == world.records(kind="notice")
            clock, courier, log = Time(), Hands(most=50), Log()
            assert False is await store.is_due(now=clock.now)
            clock.now += timedelta(minutes=4)
            async with sending(store, courier, journal=log, clock=clock):
                await eventually(lambda: log.records)
            await store.close()
    [(address, _)] = courier.brought
    assert (ANN, "sent", "setting") == (address, log.records[0].reason, log.records[0].event)


async def test_what_happened_while_nobody_told_is_told_later(tmp_path):
    """The journal is what is told from: a process that was killed before it had read is made up for by the next."""
    async with open_process_world(tmp_path) as world:
        with Relay() as relay:
            store = await open_sqlite(tmp_path / "data" / "locum.sqlite3")
            await put_contacts(store, mail=[ANN])
            await store.close()
            (tmp_path / "data" / "notices").mkdir(mode=0o700)
            # As if notices had been on before, and then nobody read.
            (tmp_path / "data" / "notices" / "since").write_text("1.0\n")
            async with world.running() as running:
                assert 200 == (await world.choose())[0]
                running.send(signal.SIGKILL)
                await running.ends()
            assert [] == relay.mails
            more = f"""
[notices.mail]
host = "127.0.0.1"
port = {relay.port}
security = "none"
sender = "locum@vendor.example"
"""
            async with world.running(more=more):
                await asyncio.to_thread(relay.until, lambda: relay.mails)
                await eventually(lambda: world.records(kind="notice", reason="sent", event="setting"))
    assert ["Account assumption of acme is on"] == [str(mail["Subject"]) for mail in relay.mails]
