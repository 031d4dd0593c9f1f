"""As many connections as there may be: who only waits makes room, who is served stays, and nobody is kept out by idlers."""

import asyncio
import contextlib
import math

import pytest

from gateway.proxy.limits import ListenerLimits
from gateway.proxy.listener import make_listener
from gateway.proxy.room import Room
from tests.listener_world import CLOSING_GET, GET, Stuck, listening, reply, until_closed
from tests.test_handshakes import OTHER, authority, pair, serving  # noqa: F401 - fixtures
from tests.upstream_client import eventually

MOST = 3


class Standing:
    """A connection in one state, which counts how often it is looked at."""

    looks = 0

    def __init__(self, since=math.inf):
        self.since = since
        self.stopped = False

    @property
    def idle_since(self):
        Standing.looks += 1
        return self.since

    def stop(self):
        self.stopped = True


async def served(reader, writer):
    """One request, answered on a connection that stays."""
    writer.write(GET)
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
    loop = asyncio.get_running_loop()
    began = loop.time()
    # Its clock goes by milliseconds, and who is idle from the same one on is idle as long.
    await eventually(lambda: loop.time() > began)


async def test_who_has_been_idle_longest_makes_room_for_a_newcomer():
    """Three addresses could else fill all places with connections that do nothing, for as long as they like."""
    async with listening(reply, max_connections=MOST) as server, contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(server.connect()) for _ in range(MOST)]
        for line in lines:
            await served(*line)
        await served(*lines[0])  # the second is the longest idle now
        newcomer = await stack.enter_async_context(server.connect(local_addr=(OTHER, 0)))
        await served(*newcomer)
        assert b"" == await until_closed(lines[1][0])
        for line in (lines[0], lines[2], newcomer):
            await served(*line)
        assert 1 == server.listener.turned_away["max_connections"]


async def test_who_has_sent_nothing_yet_makes_room_as_well():
    """A connection is idle from its beginning."""
    async with listening(reply, max_connections=1) as server, server.connect() as (reader, _):
        assert (await server.send(CLOSING_GET)).endswith(b"ok")
        assert b"" == await until_closed(reader)


@pytest.mark.parametrize("begun", [GET, GET[:5]], ids=["a request under way", "a part of a head"])
async def test_who_is_at_something_stays_and_the_newcomer_is_closed(begun):
    """Without a word: it would have to stay until that is read."""
    stuck = Stuck()
    async with listening(stuck, max_connections=1) as server, server.connect() as (reader, writer):
        writer.write(begun)
        if begun == GET:
            await stuck.begun.wait()
        while await server.send(CLOSING_GET):  # until the part of a head has come
            writer.write(b"")
        writer.write(GET[len(begun) :])
        stuck.go.set()
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")


async def test_idlers_behind_tls_make_room(authority, pair):  # noqa: F811 - fixtures
    """Before the newcomer's handshake, whatever time the farewell of the other takes."""
    async with serving(authority, pair, max_connections=1) as public:
        reader, writer = await asyncio.open_connection("127.0.0.1", public.server.port, ssl=public.trusting)
        await served(reader, writer)
        assert (await public.ask(at=OTHER)).endswith(b"ok")
        assert b"" == await until_closed(reader)
        writer.transport.abort()


async def test_a_flood_of_newcomers_looks_at_nobody_again_and_again():
    """Where nobody is idle; or each would cost the loop a look at thousands."""
    listener = make_listener(reply, ListenerLimits(max_connections=1000))
    for _ in range(1000):
        listener.add(Standing())
    Standing.looks = 0
    assert ["max_connections"] * 500 == [listener.admit(None) for _ in range(500)]
    assert Standing.looks <= 2 * 1000


async def test_only_so_many_are_going_at_a_time():
    """A twentieth: with TLS each holds its socket until its farewell is over."""
    room, idlers = Room(), [Standing(since) for since in range(1000)]
    while room.make(idlers):
        assert room.leaving <= 1000 // 20 + 1
        left = [each for each in idlers if not each.stopped]
        assert all(each.stopped for each in idlers[: 1000 - len(left)])
        for each in idlers:
            each.since = math.inf if each.stopped else each.since
    assert sum(each.stopped for each in idlers) == room.leaving > 1000 // 25
    for each in idlers:
        room.gone(each)
    assert 0 == room.leaving
    assert room.make(idlers)
