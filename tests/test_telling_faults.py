"""Notices through faults: nothing is lost, nobody waits, and who cannot be told is on the record."""

import asyncio
import contextlib
import json
import socket
import sqlite3
import threading
from datetime import timedelta

import pytest
from msgspec.structs import replace

from gateway.clock import utc_now
from gateway.stores.outbox import Notice, Target
from gateway.stores.sqlite import open_sqlite
from tests.certificates import Authority
from tests.memory_store import MemoryStore
from tests.patience import PATIENCE_SECONDS
from tests.sink_world import Receiver
from tests.telling_world import (
    ANN,
    MASTER,
    Hands,
    Log,
    Relay,
    Time,
    hook_of,
    notices,
    payloads,
    recorded,
    recorded_later,
    rests,
    sending,
    telling,
    until_waiting,
)
from tests.test_metrics import scrape_until
from tests.upstream_client import eventually

HOUR = timedelta(hours=1)


def many(count, addresses, *, at):
    return [
        Notice(
            id=f"n{index:03}",
            about=f"r{index}",
            event="begun",
            account="acme",
            target=Target("mail", f"{index % addresses}@acme.example"),
            facts="{}",
            happened_at=at,
        )
        for index in range(count)
    ]


async def test_two_that_send_side_by_side_tell_everybody_once(tmp_path):
    """As two nodes on one store do, each with its own connection: all is sent, and nothing twice."""
    one, two = await open_sqlite(tmp_path / "s.sqlite3"), await open_sqlite(tmp_path / "s.sqlite3")
    courier, logs = Hands(), [Log(), Log()]
    try:
        await one.add_notices(many(60, 12, at=utc_now()), now=utc_now())
        async with sending(one, courier, journal=logs[0]), sending(two, courier, journal=logs[1]):
            await eventually(lambda: sum(len(log.records) for log in logs) >= 60)
            await until_waiting(one, lambda count: count == 0)
    finally:
        await one.close()
        await two.close()
    assert sorted(notice.id for notice in many(60, 12, at=utc_now())) == sorted(name for _, name in courier.brought)
    assert 60 == sum(len(log.records) for log in logs)


async def test_what_a_holder_had_that_died_is_sent_by_another():
    """Once its time is over, and not before."""
    store, clock, courier = MemoryStore(), Time(), Hands(most=50)
    await store.add_notices(many(3, 1, at=clock.now), now=clock.now)
    await store.claim_notices("dead", now=clock.now, until=clock.now + timedelta(minutes=3), most=50)
    async with sending(store, courier, clock=clock):
        assert False is await store.is_due(now=clock.now + timedelta(minutes=2))
        clock.now += timedelta(minutes=4)
        await eventually(lambda: len(courier.brought) == 3)


async def test_a_journal_that_is_full_has_nobody_told_twice():
    """What was sent is kept in the store first; only its record is tried again."""
    store, clock, courier, log = MemoryStore(), Time(), Hands(most=50), Log(full=2)
    await store.add_notices(many(2, 1, at=clock.now), now=clock.now)
    async with sending(store, courier, journal=log, clock=clock):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(log.records) < 2:
                if await rests(store, clock.now):
                    clock.now += timedelta(seconds=90)
                await asyncio.sleep(0.002)
    assert 2 == len(courier.brought)
    assert {"sent"} == {record.reason for record in log.records}


async def test_what_is_too_old_is_given_up_and_said():
    """It is not brought, and the record says that nobody was told."""
    store, clock, courier, log = MemoryStore(), Time(), Hands(fails=10_000), Log()
    await store.add_notices(many(1, 1, at=clock.now), now=clock.now)
    async with sending(store, courier, journal=log, clock=clock, give_up=HOUR):

        def holds():
            clock.now += timedelta(minutes=1)
            return log.records

        await eventually(holds)
    assert ["failed_too_old"] == [record.reason for record in log.records]
    assert [] == courier.brought


async def test_a_channel_that_is_not_configured_is_said():
    """A contact by mail where there is no relay is not told, and that is on the record."""
    store, log = MemoryStore(), Log()
    hook = [
        Notice(**{**vars_of(each), "target": Target("webhook", "https://a.example/")})
        for each in many(1, 1, at=utc_now())
    ]
    await store.add_notices(hook, now=utc_now())
    async with sending(store, Hands(), journal=log):
        await eventually(lambda: log.records)
    assert ["failed_no_channel"] == [record.reason for record in log.records]


def vars_of(notice):
    return {name: getattr(notice, name) for name in notice.__slots__}


async def test_a_store_that_fails_for_a_while_loses_nothing(tmp_path, caplog):
    """The reader goes back to its place, the sender tries again; whoever asks for anything else is answered."""
    with Relay() as relay:
        async with telling(tmp_path, notices(relay), mail=[ANN]) as world:
            assert 200 == (await world.choose())[0]
            await recorded(world, event="setting")
            await until_waiting(world.gateway.store, lambda count: count == 0)
            # From now on nobody can write notices; then they can again.
            path = tmp_path / "locum.sqlite3"
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("ALTER TABLE notices RENAME TO away")
                await world.token()
                assert 200 == (await world.get())[0]
                await eventually(lambda: "the sink notices does not get through" in caplog.text)
                other.execute("ALTER TABLE away RENAME TO notices")
            await recorded(world, event="begun", reason="sent")
    assert 2 == len(relay.mails)


async def test_an_answer_that_is_lost_is_a_mail_that_can_be_known_again(tmp_path):
    """It is sent once more, with the same Message-ID."""
    with Relay(["taken and reset"]) as relay:
        async with telling(tmp_path, notices(relay), mail=[ANN]) as world:
            assert 200 == (await world.choose())[0]
            await recorded_later(world, event="setting", reason="sent")
    first, second = relay.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Message-ID"].endswith("@vendor.example>")


async def test_who_is_away_holds_up_nobody_else(tmp_path):
    """A receiver that takes a connection and says nothing: the change is made, and others are told meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as stuck, Relay() as relay:
        url = f"http://127.0.0.1:{stuck.getsockname()[1]}/"
        async with telling(tmp_path, notices(relay), mail=[ANN], webhooks=[url]) as world:
            assert 200 == (await world.choose())[0]
            stuck.settimeout(PATIENCE_SECONDS)
            connection, _ = await asyncio.to_thread(stuck.accept)
            await world.token()
            await recorded(world, event="begun", channel="mail", reason="sent")
            assert [] == world.records(kind="notice", channel="webhook")
            connection.close()


async def test_many_starts_in_a_minute_are_two_mails(tmp_path):
    """The first at once, and one more for all that came until the pause was over."""
    with Relay() as relay:
        async with telling(tmp_path, notices(relay, digest_seconds=60), mail=[ANN]) as world:
            assert 200 == (await world.choose())[0]
            store = world.gateway.store
            await recorded(world, event="setting")
            await until_waiting(store, lambda count: count == 0)
            for _ in range(4):
                await world.token()
            await until_waiting(store, lambda count: count == 4)
            assert 1 == len(relay.mails)
            world.clock.forward(seconds=61)
            await recorded(world, 4, event="begun", reason="sent")
    assert 2 == len(relay.mails)
    assert str(relay.mails[1]["Subject"]).endswith("(and 3 more)")
    told = relay.mails[1].get_content()
    assert 1 == told.count("Staff member: dana")
    assert "And 3 more by the same staff member, the last: 20" in told
    assert "Those for: maria" in told


async def test_a_recipient_that_the_relay_refuses_for_good_is_not_tried_again(tmp_path):
    """And the record says so; one that it refuses for now is."""
    with Relay() as relay:
        relay.refused = {ANN: "550 no such user", "bob@acme.example": "450 later"}
        async with telling(tmp_path, notices(relay), mail=[ANN, "bob@acme.example"]) as world:
            assert 200 == (await world.choose())[0]
            [record] = await recorded(world, event="setting")
            assert ("failed_refused", ANN) == (record["reason"], record["recipient"])
            relay.refused = {}
            await recorded_later(world, reason="sent", recipient="bob@acme.example")
    assert ["bob@acme.example"] == relay.recipients


@pytest.mark.parametrize("step", [302, 500, 404, "reset"])
async def test_a_webhook_that_fails_is_sent_again_and_follows_nobody(tmp_path, step):
    """With the same id; a redirect leads nowhere."""
    with Receiver([step]) as receiver:
        async with telling(tmp_path, notices(), webhooks=[hook_of(receiver)]) as world:
            assert 200 == (await world.choose())[0]
            await recorded_later(world, event="setting", reason="sent")
    ids = [head.split("webhook-id: ")[1].split("\r\n")[0] for head in receiver.heads]
    assert 2 == receiver.asked
    assert 1 == len(set(ids))
    assert [ids[0]] == [payload["data"]["id"] for payload in payloads(receiver)]


async def test_a_webhook_that_is_gone_is_not_tried_again(tmp_path):
    """410 says that for good."""
    with Receiver([410]) as receiver:
        async with telling(tmp_path, notices(), webhooks=[hook_of(receiver)]) as world:
            assert 200 == (await world.choose())[0]
            [record] = await recorded(world, event="setting")
    assert "failed_refused" == record["reason"]
    assert 1 == receiver.asked


async def test_an_accounts_webhook_reaches_no_inner_address(tmp_path):
    """Nothing is even connected to, unless the operator has named the network."""
    with Receiver() as inner, Relay() as relay:
        section = notices(relay, webhooks={"secret": "s" * 32})
        async with telling(tmp_path, section, mail=[ANN], webhooks=[hook_of(inner)]) as world:
            assert 200 == (await world.choose())[0]
            await recorded(world, channel="mail", reason="sent")
            await scrape_until(world, lambda scraped: scraped.value("locum_notice_failures_total"))
        assert 0 == inner.connections


async def test_history_is_nobodys_news(tmp_path):
    """Where notices are switched on for the first time, nothing of before is told; what comes is."""
    async with telling(tmp_path, notices(), mail=[]) as world:
        assert 200 == (await world.choose())[0]
        await recorded(world, event="setting")
        lines = (tmp_path / "notices" / "since").read_text()
        assert abs(float(lines) - world.clock.start.timestamp()) < 1
    # The place is kept behind what was told, and at the latest at the end.
    assert json.loads((tmp_path / "notices" / "cursor.json").read_text())["origins"]


@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_webhook_is_told_over_tls_that_is_verified(tmp_path, is_ours):
    """Of an authority that we trust; somebody in between gets nothing."""
    ours, other = Authority(tmp_path), Authority(tmp_path, "another authority")
    with Receiver(tls=(ours if is_ours else other).issue("localhost").as_server()) as receiver:
        url = f"https://localhost:{receiver.port}/in"
        section = notices(webhooks={"secret": MASTER, "private_networks": ["127.0.0.0/8"], "ca": str(ours.file)})
        async with telling(tmp_path, section, webhooks=[url]) as world:
            assert 200 == (await world.choose())[0]
            if is_ours:
                await recorded(world, event="setting", reason="sent")
            else:
                await scrape_until(world, lambda scraped: scraped.value("locum_notice_failures_total"))
    assert int(is_ours) == len(receiver.bodies)


async def test_a_reload_goes_on_where_it_was(tmp_path):
    """With other texts, and nothing told twice."""
    with Relay() as relay:
        async with telling(tmp_path, notices(relay), mail=[ANN]) as world:
            assert 200 == (await world.choose())[0]
            await recorded(world, event="setting", reason="sent")
            texts = tmp_path / "texts"
            texts.mkdir()
            (texts / "begun.txt").write_text("{{ fact.staff }} ist da\n\nmit {{ fact.ticket }}\n")
            config = world.gateway.config
            await world.gateway.renew(replace(config, notices=replace(config.notices, templates=str(texts))))
            await world.token()
            await recorded(world, event="begun", reason="sent")
    assert ["Account assumption of acme is on", "dana ist da"] == [str(mail["Subject"]) for mail in relay.mails]


async def test_what_is_retried_while_it_is_being_sent_is_tried_again_at_once():
    """Its attempt fails and would put it off; time stands still here, so nothing but the retry makes it due."""
    store, begun, go_on = MemoryStore(), threading.Event(), threading.Event()

    class Slow(Hands):
        tries = 0

        def bring(self, parcel):
            self.tries += 1
            if self.tries == 1:
                begun.set()
                assert go_on.wait(PATIENCE_SECONDS)
            super().bring(parcel)

    clock, hands = Time(), Slow(most=9, fails=1)
    await store.add_notices(many(1, 1, at=clock.now), now=clock.now)
    async with sending(store, hands, clock=clock):
        assert await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        assert 1 == await store.retry_notices(["n000"], now=clock.now)
        go_on.set()
        await eventually(lambda: hands.brought)
    assert (2, ["n000"]) == (hands.tries, [name for _, name in hands.brought])
