"""The public listener under those who go away, are slow, or are many: what a client may take, and how it all ends."""

import asyncio
import contextlib
import resource
import socket
import struct

import pytest

from gateway.proxy.client import HIGH_WATER_BYTES
from tests.listener_world import (
    BULK,
    CLOSING_GET,
    GET,
    IN_FLIGHT,
    SOON,
    Echo,
    Stuck,
    chunks,
    head,
    listening,
    post,
    reply,
    statuses,
    until_closed,
    until_still,
)
from tests.patience import PATIENCE_SECONDS, unless_it_stalls, within
from tests.upstream_client import eventually

BOTH_LOOPS = True


# --- going away ---


@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_a_client_that_goes_away_ends_its_handler(how):
    """Before, while and after the response begins; nobody works for nobody."""
    stuck = Stuck()
    async with listening(stuck) as server, server.connect() as (_, writer):
        writer.write(GET)
        await stuck.begun.wait()
        _go_away(writer, how)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await stuck.cancelled.wait()
        await server.until_empty()


def _go_away(writer, how):
    if how == "half":
        writer.write_eof()
        return
    if how == "reset":
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("raw", [b"", b"GET / HT", GET, GET + b"GET"])
async def test_a_client_may_go_away_between_requests(how, raw):
    """Nothing is left of it."""
    async with listening(reply) as server, server.connect() as (reader, writer):
        writer.write(raw)
        if GET in raw:
            await reader.readuntil(b"ok")
        _go_away(writer, how)
        await server.until_empty()


@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_a_client_that_goes_away_in_its_body_ends_its_handler(how):
    """Half a body is never taken for a whole one."""
    bodies, began = [], asyncio.Event()

    async def handler(inbound):
        async for chunk in inbound.body():
            bodies.append(chunk)
            began.set()
        bodies.append("end")

    async with listening(handler) as server, server.connect() as (_, writer):
        writer.write(post(b"half", length=8))
        await began.wait()
        _go_away(writer, how)
        await server.until_empty()
    assert [b"half"] == bodies


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_goes_away_in_its_response_ends_its_handler(how):
    """Also one that waits for room to write."""
    ended = asyncio.Event()

    async def endless():
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.set()

    async def handler(inbound):
        body = endless()
        try:
            await inbound.respond(head(), body)
        finally:
            await body.aclose()

    async with listening(handler) as server, server.connect(limit=1024) as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        _go_away(writer, how)
        await server.until_empty()
        assert ended.is_set()


async def test_a_cut_from_outside_drops_what_was_not_taken_and_ends_the_handler():
    """Whoever takes a request back by `abort` from elsewhere stops both the bytes and the work."""
    inbounds, cancelled = [], asyncio.Event()

    async def endless():
        while True:
            yield b"x" * 65536

    async def handler(inbound):
        inbounds.append(inbound)
        try:
            await inbound.respond(head(), endless())
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with listening(handler) as server, server.connect(limit=1024) as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        inbounds[0].abort()
        with pytest.raises(ConnectionResetError):
            while await reader.read(65536):
                pass
        async with asyncio.timeout(PATIENCE_SECONDS):
            await cancelled.wait()


async def test_a_handler_that_cuts_by_itself_goes_on_to_its_end():
    """What it has yet to put on record is not interrupted by the end that it made."""
    over = asyncio.Event()

    async def handler(inbound):
        inbound.abort()
        await asyncio.sleep(0.01)  # as a record of the end would take
        over.set()

    async with listening(handler) as server:
        assert b"" == await server.send(GET)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await over.wait()


# --- time ---


@unless_it_stalls
async def test_a_head_that_trickles_in_is_ended():
    """The time counts from its first byte, however many follow."""
    async with listening(reply, header_timeout_seconds=4 * SOON) as server, server.connect() as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"ok")
        answer = asyncio.ensure_future(until_closed(reader))
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        while not answer.done():
            writer.write(b"y")
            await asyncio.sleep(SOON / 2)
        assert [408] == await statuses(await answer)


@pytest.mark.parametrize("raw", [b"", GET, b"\r\n"])
@unless_it_stalls
async def test_a_connection_that_stays_idle_is_closed(raw):
    """Without a word, since nothing was asked; an empty line is nothing."""
    async with listening(reply, idle_timeout_seconds=SOON) as server, server.connect() as (reader, writer):
        writer.write(raw)
        answer = await until_closed(reader)
    assert [200] * (raw == GET) == await statuses(answer)


@unless_it_stalls
async def test_an_idle_time_starts_anew_with_each_request():
    """A connection in steady use is never idle for long."""
    async with listening(reply, idle_timeout_seconds=4 * SOON) as server, server.connect() as (reader, writer):
        for _ in range(8):
            writer.write(GET)
            await reader.readuntil(b"ok")
            await asyncio.sleep(SOON)  # two idle times in all
        writer.write(CLOSING_GET)
        assert [200] == await statuses(await until_closed(reader))


@unless_it_stalls
async def test_a_body_that_pauses_is_ended():
    """Whoever waits for the rest learns that it will not come, and so does the client."""
    limits = {"body_idle_timeout_seconds": SOON}
    async with listening(Echo(), **limits) as server, server.connect() as (reader, writer):
        writer.write(post(b"hell", length=5))
        assert [408] == await statuses(await until_closed(reader))


@unless_it_stalls
async def test_the_time_of_a_decision_is_not_the_clients():
    """Nothing runs out while a handler works: no pause of a body that nobody waits for, no idle time, no head's."""
    begun, decided = asyncio.Event(), asyncio.Event()

    async def handler(inbound):
        begun.set()
        await decided.wait()
        await Echo()(inbound)

    names = ("body_idle_timeout_seconds", "idle_timeout_seconds", "header_timeout_seconds")
    async with listening(handler, **dict.fromkeys(names, 4 * SOON)) as server, server.connect() as (reader, writer):
        writer.write(post(b"he", length=5))
        await begun.wait()
        writer.write(b"ll")
        await asyncio.sleep(8 * SOON)
        decided.set()
        writer.write(b"o")
        await reader.readuntil(b"echo:hello")
        begun.clear()
        decided.clear()
        writer.write(GET)
        await begun.wait()
        await asyncio.sleep(8 * SOON)
        decided.set()
        await reader.readuntil(b"echo:")
        writer.write(CLOSING_GET)
        assert [200] == await statuses(await until_closed(reader))


@unless_it_stalls
async def test_a_client_that_takes_nothing_is_cut():
    """A response that stalls holds neither its connection nor its handler for ever."""
    ended = asyncio.Event()

    async def handler(inbound):
        try:
            await inbound.respond(head(), chunks(b"x" * BULK))
        finally:
            ended.set()

    limits = {"write_stall_timeout_seconds": 2 * SOON}
    async with listening(handler, **limits) as server, server.connect(limit=1024) as (_, writer):
        writer.write(GET)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ended.wait()
        await server.until_empty()


@unless_it_stalls
async def test_a_client_that_takes_little_is_not_cut():
    """It is slow, not stalled: each look finds that it has taken some, so it may take many times the limit."""
    async with (
        listening(lambda inbound: reply(inbound, b"x" * BULK), write_stall_timeout_seconds=4 * SOON) as server,
        server.connect() as (reader, writer),
    ):
        loop = asyncio.get_running_loop()
        begun, received = loop.time(), 0
        writer.write(CLOSING_GET)
        while data := await reader.read(1024 * 1024):
            received += len(data)
            if loop.time() - begun < 20 * SOON:
                await asyncio.sleep(0.01)
        assert received > BULK


async def test_slow_heads_and_idle_connections_do_not_slow_others():
    """Two thousand that do nothing, or next to nothing, beside one that works."""
    async with contextlib.AsyncExitStack() as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        server = await stack.enter_async_context(listening(reply))
        loop = asyncio.get_running_loop()
        for index in range(2000):
            raw = stack.enter_context(socket.socket())
            raw.setblocking(False)
            await loop.sock_connect(raw, ("127.0.0.1", server.port))
            await loop.sock_sendall(raw, b"GET / HT" if index % 2 else b"\r\n")
        async with server.connect() as (reader, writer):
            async with within(2):
                for _ in range(200):
                    writer.write(GET)
                    await reader.readuntil(b"ok")
            assert 2001 == server.listener.open_count


# --- size ---


async def test_a_reader_that_does_not_read_holds_the_handler_back():
    """What it has not taken waits where it comes from, not in memory."""
    given = 0

    async def bulk():
        nonlocal given
        for _ in range(BULK // 65536):
            given += 65536
            yield b"x" * 65536

    async def handler(inbound):
        await inbound.respond(head(200, (b"Content-Length", b"%d" % BULK)), bulk())

    async with listening(handler) as server, server.connect() as (reader, writer):
        writer.write(CLOSING_GET)
        await reader.readuntil(b"\r\n\r\n")
        await until_still(lambda: given)
        assert given < IN_FLIGHT
        assert BULK == len(await until_closed(reader))


@pytest.mark.parametrize("framing", ["counted", "chunked"])
async def test_a_handler_that_does_not_read_holds_the_client_back(framing):
    """An upload waits at the client; it arrives whole when it is read."""
    begin, taken = asyncio.Event(), 0

    async def handler(inbound):
        nonlocal taken
        await begin.wait()
        async for chunk in inbound.body():
            taken += len(chunk)
        await reply(inbound)

    raw = post(b"", length=BULK) + b"x" * BULK
    if framing == "chunked":
        raw = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        raw += (b"10000\r\n" + b"x" * 65536 + b"\r\n") * (BULK // 65536) + b"0\r\n\r\n"
    async with listening(handler) as server, server.connect() as (reader, writer):
        writer.write(raw + CLOSING_GET)
        await until_still(writer.transport.get_write_buffer_size)
        assert writer.transport.get_write_buffer_size() > BULK - IN_FLIGHT
        [connection] = server.listener._open
        assert connection._intake.buffered < 3 * HIGH_WATER_BYTES
        begin.set()
        assert [200, 200] == await statuses(await until_closed(reader))
    assert BULK == taken


# --- how many ---


async def test_too_many_connections_from_one_address_are_turned_away():
    """With a word, and those that are in stay; when one leaves, another may come."""
    async with listening(reply, connections_per_peer=2) as server, server.connect() as (reader, writer):
        async with server.connect():
            writer.write(GET)
            await reader.readuntil(b"ok")
            assert [503] == await statuses(await server.send(b""))
            writer.write(GET)
            await reader.readuntil(b"ok")
        await eventually(lambda: server.listener.open_count == 1)
        assert [200] == await statuses(await server.send(CLOSING_GET))


async def test_too_many_requests_at_a_time_are_turned_away():
    """With a word, at once."""
    stuck = Stuck()
    async with listening(stuck, max_in_flight=1) as server, server.connect() as (reader, writer):
        writer.write(CLOSING_GET)
        await stuck.begun.wait()
        assert [503] == await statuses(await server.send(GET))
        stuck.go.set()
        assert [200] == await statuses(await until_closed(reader))


# --- the end ---


async def test_a_shutdown_ends_idle_connections_at_once_and_lets_the_others_finish():
    """A request that is being answered gets its answer, which says that it was the last."""
    stuck = Stuck()
    async with listening(stuck) as server, server.connect() as (reader, writer), server.connect() as (idle, begun):
        begun.write(b"GET / HT")
        writer.write(GET + GET)
        await stuck.begun.wait()
        stopping = asyncio.ensure_future(server.listener.shutdown(5))
        assert b"" == await until_closed(idle)
        assert not stopping.done()
        stuck.go.set()
        assert b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok" == await until_closed(reader)
        writer.close()
        await stopping


@unless_it_stalls
async def test_a_shutdown_does_not_wait_longer_than_it_says():
    """What is not done by then is cut, its handler cancelled and over before `shutdown` returns."""
    stuck = Stuck()
    async with listening(stuck) as server, server.connect() as (reader, writer):
        writer.write(GET)
        await stuck.begun.wait()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await server.listener.shutdown(SOON)
        assert (0, 0, True) == (server.listener.open_count, server.listener.in_flight, stuck.cancelled.is_set())
        assert b"" == await until_closed(reader)


@unless_it_stalls
async def test_who_comes_during_a_shutdown_is_turned_away():
    """The socket may still be open for a moment."""
    async with listening(reply) as server:
        await server.listener.shutdown(SOON)
        assert b"" == await server.send(GET)
