"""Bodies that trickle, either way: whoever sends or takes them holds nothing for long that others need."""

import asyncio
import contextlib
import socket

from tests.attack_world import open_attack, request
from tests.listener_world import GET, SOON, head, listening
from tests.patience import PATIENCE_SECONDS, unless_it_stalls
from tests.upstream_client import eventually

UPLOAD = b"POST /tickets HTTP/1.1\r\nHost: acme.helpdesk.example\r\nContent-Length: 100000\r\n\r\n"
CONNECTIONS = 4


@unless_it_stalls
async def test_uploads_that_trickle_do_not_stop_others(tmp_path):
    """A byte now and then earns less time than it takes, so the connections to the app are free again soon."""

    def change(document):
        document["upstream"] |= {"max_connections": CONNECTIONS, "queue_timeout_seconds": 20}
        document["limits"] = {"body_idle_timeout_seconds": 0.3, "min_bytes_per_second": 1000}
        document["limits"]["in_flight_per_peer"] = CONNECTIONS  # here they all come from one

    async def trickle(world):
        """Send faster than any pause between two pieces is cut, and return what is answered at the end."""
        await world.note_sent(UPLOAD)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        answer = asyncio.ensure_future(reader.read())
        try:
            writer.write(UPLOAD)
            while not answer.done():
                writer.write(b"x")
                await asyncio.wait([answer], timeout=0.05)
            return answer.result()
        finally:
            answer.cancel()
            writer.transport.abort()

    async with open_attack(tmp_path, change=change, token=False) as attacker, asyncio.timeout(PATIENCE_SECONDS):
        world = attacker.world
        strangers = [asyncio.ensure_future(trickle(world)) for _ in range(CONNECTIONS)]
        await world.upstream.until(lambda: len(world.upstream.requests) == CONNECTIONS)
        answer = await world.raw(request())
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        for told in await asyncio.gather(*strangers):
            assert told.startswith(b"HTTP/1.1 408 "), told


@unless_it_stalls
async def test_a_slow_upload_that_earns_its_time_is_let_through():
    """Whoever sends steadily may take many times the pause that is allowed between two pieces."""
    rounds = 40

    async def handler(inbound):
        size = sum([len(chunk) async for chunk in inbound.body()])
        await inbound.respond(head(200), b"%d" % size)

    limits = {"body_idle_timeout_seconds": 0.2, "min_bytes_per_second": 1000}
    async with listening(handler, **limits) as server, server.connect() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (rounds * 100))
        for _ in range(rounds):
            writer.write(b"x" * 100)
            await asyncio.sleep(0.02)  # the pace of the upload
        answer = await reader.readuntil(b"0\r\n\r\n")
    assert b"\r\n4000\r\n" in answer


@unless_it_stalls
async def test_a_client_that_takes_nothing_is_reset():
    """What it has not taken when its time is up is dropped, not kept by the kernel and delivered later."""

    async def bulk():
        while True:
            yield b"x" * 65536

    async def handler(inbound):
        await inbound.respond(head(200), bulk())

    async with listening(handler, write_stall_timeout_seconds=SOON) as server:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(raw, ("127.0.0.1", server.port))
            await loop.sock_sendall(raw, GET)
            await eventually(lambda: server.listener.open_count)
            await server.until_empty()
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while data := await loop.sock_recv(raw, 1024 * 1024):
                    received += data
                raise AssertionError("an orderly end")
        finally:
            raw.close()
        assert len(received) < 65536


@unless_it_stalls
async def test_a_client_that_reads_steadily_is_served_however_slowly():
    """The kernel takes off our hands in lumps what it delivers steadily: that is no pause, over many of its limits."""
    size = 1_500_000

    async def handler(inbound):
        await inbound.respond(head(200, (b"Content-Length", b"%d" % size)), pieces())

    async def pieces():
        for _ in range(size // 10_000):
            yield b"x" * 10_000

    async with listening(handler, write_stall_timeout_seconds=0.15) as server:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        loop, received = asyncio.get_running_loop(), 0
        try:
            await loop.sock_connect(raw, ("127.0.0.1", server.port))
            await loop.sock_sendall(raw, GET)
            while received < size:
                data = await loop.sock_recv(raw, 16_384)
                assert data, f"cut after {received} bytes"
                received += len(data)
                await asyncio.sleep(0.005)  # the pace of the reader
        finally:
            raw.close()
