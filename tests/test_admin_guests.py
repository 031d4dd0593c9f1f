"""A stranger who reaches the admin listener takes neither its places nor the process's files for long."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import make_mocked_request

from gateway.admin_guests import AdminGuests
from gateway.proxy.limits import ClientLimits
from tests.gateway_world import open_world
from tests.patience import PATIENCE_SECONDS
from tests.security_world import security
from tests.upstream_client import eventually
from tests.virtual_loop import VirtualLoop

HALF_HEAD = b"GET /console HT"
HALF_BODY = b"POST /eat HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\na"
ASK_BIG = b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
BIG = bytes(16 * 1024 * 1024)
"""More than sockets hold that nobody reads from."""
LONG = ClientLimits(
    header_timeout_seconds=600, idle_timeout_seconds=600, body_idle_timeout_seconds=600, write_stall_timeout_seconds=600
)


async def connect(port, raw=b"", *, host="127.0.0.1"):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0))
    writer.write(raw)
    await writer.drain()
    return reader, writer


async def end_of(reader):
    """Return what came until the connection was ended."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def serving(limits=LONG, **most):
    """Run the listener's connections around a small app; yields (port, guests, connect)."""

    async def quick(_request):
        return web.Response(text="well")

    async def eat(request):
        return web.Response(text=str(len(await request.read())))

    async def flood(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(64 * 1024))

    async def big(_request):
        return web.Response(body=BIG)

    guests = AdminGuests(lambda: limits, **most)
    app = web.Application(middlewares=[guests.watch])
    app.add_routes([web.get("/healthz", quick), web.post("/eat", eat), web.get("/flood", flood), web.get("/big", big)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    server = await asyncio.get_running_loop().create_server(guests.serving(runner.server), "127.0.0.1", 0)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        stack.callback(server.close)

        async def connected(raw=b"", host="127.0.0.1"):
            reader, writer = await connect(server.sockets[0].getsockname()[1], raw, host=host)
            stack.callback(writer.close)
            return reader, writer

        yield guests, connected


async def healthy(connected, host="127.0.0.1"):
    reader, writer = await connected(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", host)
    found = await end_of(reader)
    writer.close()
    return found.startswith(b"HTTP/1.1 200")


async def counted(guests, count):
    await eventually(lambda: guests.open_count == count)


@pytest.mark.parametrize("raw", [b"", HALF_HEAD, HALF_BODY, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HALF_HEAD])
async def test_who_says_nothing_more_is_cut(raw):
    """Before a request, within its head, within its body, and within the next one: each has its time, and no more."""
    short = ClientLimits(header_timeout_seconds=0.1, idle_timeout_seconds=0.2, body_idle_timeout_seconds=0.1)
    async with serving(short) as (guests, connected):
        reader, _ = await connected(raw)
        await end_of(reader)
        await counted(guests, 0)


async def test_who_takes_nothing_of_the_answer_is_cut():
    """An answer that nobody reads holds its connection for no longer than the limit says."""
    async with serving(ClientLimits(write_stall_timeout_seconds=0.1)) as (guests, connected):
        await connected(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        await counted(guests, 1)
        await counted(guests, 0)


async def test_a_request_may_take_longer_to_answer_than_to_come():
    """The times are for those who keep us waiting: while we answer, none of them runs."""
    short = ClientLimits(header_timeout_seconds=0.05, idle_timeout_seconds=0.05, body_idle_timeout_seconds=0.05)
    guests = AdminGuests(lambda: short)
    go_on = asyncio.Event()

    async def slow(request):
        await request.read()
        await go_on.wait()
        return web.Response(text="done")

    app = web.Application(middlewares=[guests.watch])
    app.router.add_post("/eat", slow)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    server = await asyncio.get_running_loop().create_server(guests.serving(runner.server), "127.0.0.1", 0)
    raw = b"POST /eat HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\na"
    reader, writer = await connect(server.sockets[0].getsockname()[1], raw)
    asyncio.get_running_loop().call_later(0.2, go_on.set)
    assert (await end_of(reader)).endswith(b"done")
    writer.close()
    server.close()
    await runner.cleanup()


async def test_one_address_takes_no_more_than_its_share():
    """Who has as many as one may have is turned away, and everybody else is not."""
    async with serving(most_of_peer=3) as (guests, connected):
        held = [await connected(HALF_BODY) for _ in range(3)]
        await counted(guests, 3)
        assert not await healthy(connected)
        assert await healthy(connected, "127.0.0.2")
        held[0][1].close()
        await counted(guests, 2)
        assert await healthy(connected)


async def test_from_many_addresses_the_places_are_those_of_who_waits_the_least():
    """When all are taken, whoever has kept us waiting longest is cut for whoever comes: health is always answered."""
    async with serving(most=3) as (guests, connected):
        held = [await connected(HALF_BODY, f"127.0.0.{number}") for number in (2, 3, 4)]
        await counted(guests, 3)
        for _ in range(5):
            assert await healthy(connected)
        assert b"" == await end_of(held[0][0])
        assert guests.open_count <= 3


async def test_who_reads_a_big_answer_slowly_gives_up_their_place_to_nobody():
    """They keep us waiting for nothing: whoever comes takes the place of somebody who does, and the answer is whole."""
    async with serving(most=3) as (guests, connected):
        reader, _ = await connected(ASK_BIG, "127.0.0.2")
        assert b"HTTP/1.1 200 OK\r\n" == await reader.readline()
        held = [await connected(HALF_BODY, f"127.0.0.{number}") for number in (3, 4)]
        await counted(guests, 3)
        for _ in range(5):
            assert await healthy(connected)
        assert b"" == await end_of(held[0][0])
        assert (await end_of(reader)).endswith(BIG)


async def test_the_time_between_requests_begins_once_the_answer_is_taken():
    """Somebody who came later and said nothing is cut, and whoever still reads their answer is not."""
    async with serving(ClientLimits(idle_timeout_seconds=0.1)) as (_, connected):
        reader, _ = await connected(ASK_BIG)
        assert b"HTTP/1.1 200 OK\r\n" == await reader.readline()
        for _ in range(2):
            assert b"" == await end_of((await connected())[0])
        assert (await end_of(reader)).endswith(BIG)


WRITTEN = 1_000_000


class Reading(asyncio.Transport):
    """The other end takes so many bytes a second of what was written."""

    def __init__(self, loop, speed):
        super().__init__()
        self._loop, self._speed, self._since = loop, speed, loop.time()
        self.cut_at = None

    def get_write_buffer_size(self):
        return max(0, WRITTEN - int(self._speed * (self._loop.time() - self._since)))

    def abort(self):
        self.cut_at = self._loop.time() - self._since


@pytest.mark.parametrize(("speed", "cut_at"), [(0, 60), (99, 60), (101, None), (50_000, None)])
def test_who_takes_some_of_an_answer_all_the_time_is_not_cut(speed, cut_at):
    """However long it is, at a hundred bytes a second; who takes less within a minute holds no place."""

    async def work():
        loop = asyncio.get_running_loop()
        transport = Reading(loop, speed)
        guest = AdminGuests(ClientLimits).serving(asyncio.Protocol)()
        guest.connection_made(transport)
        guest.data_received(b"GET")
        guest.begin(make_mocked_request("GET", "/"))
        guest._heard()
        guest.pause_writing()
        if speed:
            loop.call_later(WRITTEN / speed, guest.resume_writing)
        await asyncio.sleep(2 * WRITTEN / 100)
        guest.connection_lost(None)
        assert cut_at == (None if transport.cut_at is None else round(transport.cut_at))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work())


@pytest.mark.parametrize("path", ["/console/end", "/console/log/export", "/console/log/export/0/delete"])
async def test_nobodys_form_is_answered_before_it_is_there(tmp_path, path):
    """Who is not signed in is told so by the head alone: nothing of a stranger's form is waited for."""
    async with open_world(tmp_path, change=security) as world:
        port = int(world.gateway.admin_url.rpartition(":")[2])
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
        said = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\na"
        reader, writer = await connect(port, f"{head}{said}".encode())
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert b"HTTP/1.1 403 Forbidden\r\n" == await reader.readline()
        writer.close()


async def test_the_admin_listener_goes_by_the_limits_of_the_configuration(tmp_path):
    """A half head there is cut after `limits.header_timeout_seconds`, and the listener answers others."""

    def change(document):
        document.setdefault("limits", {})["header_timeout_seconds"] = 0.1

    async with open_world(tmp_path, change=change) as world, ClientSession() as http:
        reader, writer = await connect(int(world.gateway.admin_url.rpartition(":")[2]), HALF_HEAD)
        assert b"" == await end_of(reader)
        writer.close()
        async with http.get(f"{world.gateway.admin_url}/healthz") as answer:
            assert 200 == answer.status
