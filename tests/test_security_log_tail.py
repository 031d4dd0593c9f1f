"""The log as it comes: within seconds, within bounds, and not for a moment longer than somebody may see it."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from aiohttp import ClientSession, ClientTimeout

from gateway.console.security.tail import TailTerms
from gateway.stores.store import StoreError
from policy.model import ClientId
from tests.patience import PATIENCE_SECONDS
from tests.security_log_world import open_security_log
from tests.upstream_client import eventually

TAIL = "/console/log/tail"
QUICK = TailTerms(look_seconds=0.02, stream_seconds=60.0, rows=5, most=3, most_of_one=2)


@pytest.fixture
async def world(tmp_path):
    async with open_security_log(tmp_path, tail=QUICK) as world:
        yield world


def _entry(world, number, **more):
    at = world.clock() - timedelta(seconds=30) + timedelta(milliseconds=number)
    return {
        "kind": "decision", "decision": "allow", "account": "acme", "origin": "node", "seq": 1000 + number,
        "method": "GET", "path": f"/live/{number}", "at": at.isoformat(timespec="microseconds"), **more,
    }  # fmt: skip


@asynccontextmanager
async def follow(world, *, visitor="all", **params):
    """Yield the stream's answer."""
    params.setdefault("after", str(round((world.clock() - timedelta(minutes=1)).timestamp() * 1e6) << 12))
    address = f"{world.origin}{TAIL}/events?{urlencode(params)}"
    timeout = ClientTimeout(total=PATIENCE_SECONDS)
    async with (
        ClientSession(timeout=timeout) as http,
        http.get(address, headers=world.headers(visitor, **{"Sec-Fetch-Site": "same-origin"})) as got,
    ):
        yield got


async def next_event(stream, *, skip=()):
    """Return the name and the data of the next event."""
    name, data = "", ""
    while line := (await stream.content.readline()).decode():
        if line == "\n" and name and name not in skip:
            return name, json.loads(data)
        if line == "\n":
            name, data = "", ""
        elif line.startswith("event: "):
            name = line[7:-1]
        elif line.startswith("data: "):
            data = line[6:-1]
    return "end", None


async def test_what_comes_is_sent(world):
    """As rows that are ready to be shown, with where to go on, and nothing that the search does not find."""
    async with follow(world, q="account:acme") as stream:
        assert "text/event-stream" == stream.headers["Content-Type"]
        world.add(_entry(world, 1), _entry(world, 2, account="globex"), _entry(world, 3))
        name, told = await next_event(stream)
        assert "rows" == name
        assert told["rows"].index("/live/3") < told["rows"].index("/live/1")
        assert "/live/2" not in told["rows"]
        assert not told["skipped"]
        world.add(_entry(world, 4))
        _, more = await next_event(stream)
        assert "/live/4" in more["rows"]
        assert "/live/3" not in more["rows"]
    async with follow(world, q="account:acme", after=told["cursor"]) as stream:
        assert more == (await next_event(stream))[1]


async def test_the_page_goes_on_where_it_ends(world):
    """Its rows are those before the stream's beginning; without a script a link shows what has come since."""
    world.add(_entry(world, 1))
    status, page = await world.get(TAIL, q="account:acme")
    assert 200 == status
    assert "/live/1" in page
    cursor = page.partition('data-after="')[2].partition('"')[0]
    assert int(cursor) == (round((world.clock() - timedelta(seconds=5)).timestamp() * 1e6) << 12) - 1
    _, later = await world.get(TAIL, q="account:acme", after=cursor)
    assert "Nothing has come since" in later
    world.clock.now += timedelta(minutes=1)
    world.add(_entry(world, 2))
    _, later = await world.get(TAIL, q="account:acme", after=cursor)
    assert "/live/2" in later
    assert "/live/1" not in later
    assert "followed" in {entry["reason"] for entry in world.recorded()}


async def test_more_than_can_be_shown_is_left_out_and_said(world):
    """So that nobody's page or gateway is busy with nothing else."""
    async with follow(world) as stream:
        world.add(*(_entry(world, number) for number in range(40)))
        _, told = await next_event(stream)
        assert told["skipped"]
        assert 5 == told["rows"].count("<tr>")
        assert "/live/39" in told["rows"]


async def test_an_account_follows_its_own_only(world):
    """Whatever is asked, and from wherever."""
    async with follow(world, visitor="acme", q="-account:nobody", after="1") as stream:
        world.add(_entry(world, 1, account="globex"), _entry(world, 2, account="ACME"), _entry(world, 3))
        seen = ""
        while "/live/3" not in seen:
            seen += (await next_event(stream))[1]["rows"]
        assert "/live/1" not in seen
        assert "/live/2" not in seen
        assert "globex" not in seen


@pytest.mark.parametrize("how", ["signed out", "role lost", "limited", "secret changed", "idle", "store down"])
async def test_a_stream_ends_with_the_session(world, how):
    """Whatever ends it, the next look is the last, and nothing is sent behind."""
    async with follow(world) as stream:
        world.add(_entry(world, 1))
        assert "rows" == (await next_event(stream))[0]
        client = await world.store.find_client(ClientId("all"))
        match how:
            case "signed out":
                await world.people.end(world.cookies["all"])
            case "role lost":
                await _replace(world.store, client, roles=frozenset({"grants"}))
            case "limited":
                await _replace(world.store, client, account="acme")
            case "secret changed":
                await _replace(world.store, client, secret_digest=bytes(32))
            case "idle":
                world.clock.now += timedelta(minutes=31)
            case _:
                world.store.fail_with = StoreError("away")
        assert "over" == (await next_event(stream))[0]
        assert "end" == (await next_event(stream))[0]


async def _replace(store, client, **changes):
    await store.remove_client(client.id)
    await store.add_client(replace(client, **changes))


async def test_too_many_do_not_follow(world):
    """No more than some of one session, and no more than some of all; a place that is left can be taken."""
    async with follow(world), follow(world) as second:
        async with follow(world) as third:
            assert 503 == third.status
        async with follow(world, visitor="other") as other:
            assert 200 == other.status
            async with follow(world, visitor="acme") as fourth:
                assert 503 == fourth.status
        second.close()
        await eventually(lambda: world.tail.streams.places.count < 2)
        async with follow(world) as third:
            assert 200 == third.status


async def test_a_stream_does_not_keep_a_session_alive(world):
    """To look at a page is no use of it: who has gone away is signed out in time."""
    async with follow(world) as stream:
        world.clock.now += timedelta(minutes=29)
        world.add(_entry(world, 1))
        assert "rows" == (await next_event(stream))[0]
        world.clock.now += timedelta(minutes=2)
        assert "over" == (await next_event(stream))[0]


async def test_a_stream_is_on_the_record_or_is_not(world):
    """Without the journal nobody follows."""
    async with follow(world, q="account:acme") as stream:
        assert 200 == stream.status
        await eventually(lambda: world.recorded("followed"))
    await world.own.close()
    async with follow(world, q="account:globex") as stream:
        assert 503 == stream.status


async def test_a_stream_is_renewed_by_its_page(tmp_path):
    """It ends by itself, says so, and no gateway waits long for it when it stops."""
    terms = TailTerms(look_seconds=0.02, stream_seconds=0.05)
    async with open_security_log(tmp_path, tail=terms) as world, follow(world, q="nothing") as stream:
        assert "next" == (await next_event(stream))[0]
        assert "end" == (await next_event(stream))[0]


async def test_a_page_of_elsewhere_follows_nothing(world):
    """Nor does a search that cannot be read."""
    address = f"{TAIL}/events"
    for site in ("cross-site", "same-site", "none"):
        assert 403 == (await world.get(address, headers={"Sec-Fetch-Site": site}))[0]
    assert 400 == (await world.get(address, q="colour:red"))[0]
    assert 400 == (await world.get(TAIL, q="colour:red"))[0]


async def test_who_does_not_read_is_cut(tmp_path):
    """Nothing is kept for them, and their place is free again."""
    terms = TailTerms(look_seconds=0.02, rows=500, write_seconds=0.2)
    long = dict.fromkeys(("subject", "account", "reason", "path"), "é" * 100)
    async with open_security_log(tmp_path, tail=terms, entries=[]) as world:
        after = round((world.clock() - timedelta(minutes=1)).timestamp() * 1e6) << 12
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port, limit=1024)
        lines = [f"GET {TAIL}/events?after={after} HTTP/1.1", f"Host: 127.0.0.1:{world.port}"]
        lines += [f"{name}: {value}" for name, value in world.headers("all").items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        await eventually(lambda: world.tail.streams.places.count)
        number = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while world.tail.streams.places.count:
                world.add(*(_entry(world, number + more, **long) for more in range(500)))
                number += 500
                await asyncio.sleep(0.1)
        writer.close()
        del reader
