"""A cut takes back what is on its way: what the kernel holds for a slow reader, on either side, is not delivered."""

import asyncio
import contextlib
import socket

import pytest

from tests.attack_world import request
from tests.gateway_world import open_world
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import response
from tests.test_websockets import AGREED, LISTED, App, connected, handshake, open_app
from tests.upstream_client import eventually

MUCH = 2_500_000
"""More than is held back for one read, and as much as the kernel takes off our hands at once."""


async def read_all(raw):
    """Read to the end, however it comes; return how much came."""
    loop, received = asyncio.get_running_loop(), 0
    with contextlib.suppress(ConnectionError):
        while data := await loop.sock_recv(raw, 65536):
            received += len(data)
    return received


@pytest.mark.parametrize("size", [200_000, MUCH])
async def test_a_response_that_the_app_has_ended_is_still_cut(tmp_path, size):
    """The app is done, the gateway has written everything, staff read slowly: a revoke ends it with what they have."""
    async with open_world(tmp_path, script=lambda _request: response(b"x" * size)) as world:
        await world.choose("day")
        raw = request(await world.token())
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await loop.sock_connect(client, ("127.0.0.1", world.port))
                await world.note_sent(raw)
                await loop.sock_sendall(client, raw)
                assert b"HTTP/1.1 200 OK" == await loop.sock_recv(client, 15)
                [connection] = await until_one(world.upstream.connections)
                await eventually(lambda: connection.id == 0 and len(world.upstream.requests) == 1)
                assert 1 == len(world.gateway.live)
                await world.choose("off")
                assert await read_all(client) < size
        finally:
            client.close()
        await eventually(lambda: not len(world.gateway.live))
        # What had left this machine counts, also what the client's side never handed on; what was dropped does not.
        await eventually(lambda: world.records(kind="completion"))
        [cut] = world.records(kind="completion", ended="cut")
        assert (True, 0) == (0 < cut["bytes_sent"] < size, cut["bytes_received"])


async def until_one(found):
    await eventually(lambda: found)
    return found


async def test_what_staff_have_read_whole_is_over_and_not_cut(tmp_path):
    """Nothing stays open for a client that has everything, and its connection serves the next request."""
    async with open_world(tmp_path, script=lambda _request: response(b"x" * MUCH)) as world:
        await world.choose("day")
        raw = request(await world.token())
        answer = await world.raw(raw + raw, responses=2)
        assert (2, 2 * MUCH) == (answer.count(b"HTTP/1.1 200 OK"), answer.count(b"x" * MUCH) * MUCH)
        await eventually(lambda: not len(world.gateway.live))
        assert ["allow", "allow"] == [record["decision"] for record in world.records(kind="decision")]


class SlowApp(App):
    """An app that agrees to a WebSocket and reads nothing until it is told to."""

    def __init__(self):
        super().__init__(AGREED)
        self.read_on = asyncio.Event()

    async def serve(self, reader, writer):
        self.writers.append(writer)
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.opening)
        writer.transport.pause_reading()
        await self.read_on.wait()
        writer.transport.resume_reading()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                self.received += data
        writer.close()
        self.ended.set()


async def test_what_staff_have_sent_and_the_app_has_not_read_does_not_arrive(tmp_path):
    """Eight megabytes on a WebSocket to an app that is slow: after the revoke it hears no more than it had taken."""
    app = SlowApp()
    async with open_app(tmp_path, app, profile=LISTED, receive_buffer_bytes=65536) as (world, _):
        await world.choose("day")
        async with connected(world, handshake(await world.token())) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"y" * 8_000_000)
            await eventually(lambda: len(world.gateway.live) == 1)
            await asyncio.sleep(0.2)  # for the kernels to fill
            await world.choose("off")
            with contextlib.suppress(ConnectionError):
                # To staff nothing is under way, so they may be told; to the app that would come behind megabytes.
                assert await reader.read() in (b"", b"\x88\x18\x03\xf0not permitted any more")
        app.read_on.set()
        await app.ended.wait()
    # What its own side had taken in already is the app's; what was on its way is not.
    assert len(app.received) < 1_000_000


class EndingApp(App):
    """An app that opens a WebSocket, says much on it, and ends it."""

    async def serve(self, reader, writer):
        self.writers.append(writer)
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.opening + (b"\x82\x7e\x03\xe8" + b"x" * 1000) * (MUCH // 1000))
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()


async def test_a_websocket_that_the_app_has_ended_is_still_cut(tmp_path):
    """What it said last is on its way to a slow reader: after the revoke that is dropped, and not waited for."""
    async with open_app(tmp_path, EndingApp(), profile=LISTED) as (world, _):
        await world.choose("day")
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await loop.sock_connect(client, ("127.0.0.1", world.port))
                await loop.sock_sendall(client, handshake(await world.token()))
                assert b"HTTP/1.1 101 Sw" == await loop.sock_recv(client, 15)
                await asyncio.sleep(0.1)  # for the end to come behind all of it
                await world.choose("off")
                assert await read_all(client) < MUCH // 2
        finally:
            client.close()
        await eventually(lambda: not len(world.gateway.live))
