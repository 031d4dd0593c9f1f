"""What is cut so fine that it takes long to read, or much room to keep, takes neither from others."""

import asyncio
import tracemalloc

import pytest

from gateway.proxy.content import FRAMING_BYTES
from gateway.proxy.flow import Inbox
from gateway.proxy.tunnel import Tunnel
from tests.listener_world import listening, reply
from tests.patience import PATIENCE_SECONDS
from tests.test_handshakes import serving
from tests.test_slow_tails import Client, authority  # noqa: F401 - a fixture

CHUNK = b"1\r\nx\r\n"
"""A byte of content in six."""
MANY = 200_000
MOST_RECORDS = 16 * 1024
"""More than are in what is read of ciphertext at a time."""
FRAME = b"\x82\x80mask"
"""Of a WebSocket, with nothing in it."""


class Turns:
    """Counts how often somebody else gets their turn, as long as it is entered."""

    def __init__(self):
        self.count = 0

    async def __aenter__(self):
        self._counting = asyncio.ensure_future(self._go_on())
        return self

    async def __aexit__(self, *_):
        self._counting.cancel()
        await asyncio.wait([self._counting])

    async def _go_on(self):
        while True:
            await asyncio.sleep(0)
            self.count += 1


async def test_chunks_of_a_byte_each_leave_others_their_turn():
    """A body of them takes seconds to read; between two of the pieces that are read of it everybody gets their turn."""
    turns = Turns()

    async def handler(inbound):
        async with turns:
            size = sum([len(chunk) async for chunk in inbound.body()])
        await reply(inbound, b"%d" % size)

    async with listening(handler) as server, server.connect() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK * MANY + b"0\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n%d" % MANY)).startswith(b"HTTP/1.1 200 ")
    assert turns.count > MANY * len(CHUNK) // (2 * FRAMING_BYTES)


async def test_records_of_a_byte_each_leave_others_their_turn(authority):  # noqa: F811 - as above
    """Of TLS, each of which is deciphered by itself; the handler takes what it has before more of them are."""
    turns = Turns()

    async def handler(inbound):
        async with turns:
            size = sum([len(chunk) async for chunk in inbound.body()])
        await reply(inbound, b"%d" % size)

    trusting = authority.trusting()
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        serving(authority, authority.issue("127.0.0.1"), handler=handler) as public,
        Client(public.server.port, trusting) as client,
    ):
        await client.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % MANY)
        await client.say(b"x" * MANY, record_bytes=1)
        answer = b""
        while not answer.endswith(b"\r\n\r\n%d" % MANY):
            answer += await client.read()
    assert turns.count > MANY // MOST_RECORDS


class Source:
    """One side of a WebSocket, which sends what it is given, and keeps what it gets."""

    def __init__(self, *pieces):
        self._pieces = iter(pieces)
        self.received = b""
        self.on_write = lambda: None

    async def read(self):
        if (piece := next(self._pieces, None)) is not None:
            return piece
        await asyncio.Event().wait()
        return b""

    async def write(self, data):
        self.received += data
        self.on_write()

    def say_last(self, _data):
        return True

    def abort(self):
        pass

    async def close(self):
        pass


@pytest.mark.parametrize("way", ["up", "down"])
async def test_empty_frames_leave_others_their_turn_and_do_not_put_a_cut_off(way):
    """Staff cannot hold up their own end with frames that take long to follow: nothing is sent behind a cut."""
    raw = FRAME * MANY
    talker, silent = Source(raw), Source()
    tunnel = Tunnel(*((talker, silent) if way == "up" else (silent, talker)), follows=True)

    async def cut_soon():
        for _ in range(5):
            await asyncio.sleep(0)
        tunnel.cut()

    async with asyncio.timeout(PATIENCE_SECONDS):
        cutting = asyncio.ensure_future(cut_soon())
        assert await tunnel.carry() is None
        await cutting
    assert len(silent.received) < len(raw) // 4


async def test_frames_arrive_as_they_were_however_many():
    """What is followed in pieces is sent on whole, and in its order."""
    raw = b"".join(b"\x82\x04%04d" % number for number in range(9999))
    talker, silent = Source(raw), Source()
    arrived = asyncio.Event()
    silent.on_write = lambda: len(silent.received) == len(raw) and arrived.set()
    tunnel = Tunnel(talker, silent, follows=True)
    carrying = asyncio.ensure_future(tunnel.carry())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await arrived.wait()
        tunnel.cut()
        await carrying
    assert raw == silent.received


async def test_what_waits_takes_no_more_room_than_its_bytes():
    """In however small pieces it came: or a bound in bytes would be one of many times as much memory."""
    inbox = Inbox(asyncio.get_running_loop(), lambda: None)
    raw = bytes(range(256)) * 256
    tracemalloc.start()
    try:
        for at in range(0, len(raw), 2):
            inbox.put(raw[at : at + 2])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    inbox.end()
    received = b""
    while piece := await inbox.take():
        received += piece
    assert raw == received
    assert held < 2 * len(raw)
