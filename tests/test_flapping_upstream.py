"""An app that comes and goes: whoever asks meanwhile is told soon, gets nobody else's answer, and all is well afterwards."""

import asyncio
import contextlib
import re
import socket
import struct
from collections import Counter

import pytest

from tests.gateway_world import HOST, open_world, parse
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port

CLIENTS = 8
PERIOD_SECONDS = 0.1
FLAPPING_SECONDS = 2.0
SOON_SECONDS = 4.5
"""Within which everybody hears something, whatever the app does: less than any time limit there is."""
BODY = b"{}"
TARGET = re.compile(rb"(GET|POST) /tickets\?n=([0-9]+) ")


def answer_to(number):
    """What nobody but the one who asked for it gets."""
    return b"number " + number.rjust(2000, b"0")


class Flapping:
    """An app on one port, up or down; while it is up it answers each request with that request's number."""

    def __init__(self, manner):
        self.manner = manner
        self.heard = Counter()
        """How often each number has come, by method."""
        self._server = None
        self._writers = set()
        self.port = free_port()

    async def __aenter__(self):
        await self.up()
        return self

    async def __aexit__(self, *_):
        await self.down()

    async def up(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)

    async def down(self):
        """Reset everybody, also in the middle of an answer, and take no more."""
        self._server.close()
        for writer in list(self._writers):
            _reset(writer)
        await self._server.wait_closed()

    async def flap(self):
        """Come and go until cancelled; up at the end."""
        try:
            while True:
                await asyncio.sleep(PERIOD_SECONDS)
                await self.down()
                await asyncio.sleep(PERIOD_SECONDS)
                await self.up()
        finally:
            if not self._server.is_serving():
                await self.up()

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, number = TARGET.match(head).groups()
                if method == b"POST":
                    await reader.readexactly(len(BODY))
                self.heard[method, number] += 1
                if self.manner == "resets at once" and sum(self.heard.values()) % 2:
                    break
                answer = answer_to(number)
                raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer)
                if self.manner == "resets in the middle" and not sum(self.heard.values()) % 3:
                    writer.write(raw[: len(raw) // 2])
                    await asyncio.sleep(0.01)  # so that half of it gets there
                    break
                writer.write(raw)
                await writer.drain()
        _reset(writer)
        self._writers.discard(writer)


def _reset(writer):
    raw = writer.get_extra_info("socket")
    if raw is not None and not writer.transport.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


class Client:
    """Asks one numbered thing after another, and keeps what came of each."""

    def __init__(self, port, numbers):
        self.port = port
        self.seen = Counter()
        self.longest = 0.0
        self._numbers = numbers

    async def run(self):
        while True:
            await self.ask()
            await asyncio.sleep(0.002)

    async def ask(self):
        number = next(self._numbers)
        method = b"POST" if number % 2 else b"GET"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            lines = [b"%b /tickets?n=%d HTTP/1.1" % (method, number), b"Host: " + HOST.encode(), b"Connection: close"]
            lines += [b"Content-Length: %d" % len(BODY), b"", BODY] if method == b"POST" else [b"", b""]
            writer.write(b"\r\n".join(lines))
            raw = b""
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    raw += data
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        self.longest = max(self.longest, loop.time() - begun)
        self._note(raw, number)

    def _note(self, raw, number):
        status, headers, body = parse(raw)
        if status != 200:
            self.seen[status] += 1
            return
        own = answer_to(b"%d" % number)
        whole = len(body) == int(headers["content-length"])
        assert own.startswith(body) if not whole else own == body, "another request's answer"
        self.seen[200 if whole else "broken off"] += 1


@pytest.mark.parametrize("manner", ["comes and goes", "resets at once", "resets in the middle"])
async def test_an_app_that_flaps_hurts_only_itself(tmp_path, manner):
    """Each is told within a second, 200 or 502; answers are whole or visibly broken; nothing with a body is sent twice."""

    def change(document):
        document["upstream"]["url"] = f"http://127.0.0.1:{app.port}"

    numbers = iter(range(1, 1_000_000))
    async with Flapping(manner) as app, open_world(tmp_path, change=change) as world:
        clients = [Client(world.port, numbers) for _ in range(CLIENTS)]
        running = [asyncio.ensure_future(client.run()) for client in clients]
        flapping = asyncio.ensure_future(app.flap())
        done, _ = await asyncio.wait([*running, flapping], timeout=FLAPPING_SECONDS, return_when="FIRST_EXCEPTION")
        for one in [*running, flapping]:
            one.cancel()
        await asyncio.gather(*running, flapping, return_exceptions=True)
        for one in done:
            one.result()
        seen = sum((client.seen for client in clients), Counter())
        assert set(seen) <= {200, 502, "broken off"}, seen
        assert min(seen[200], seen[502]) > 0, seen
        assert (manner == "resets in the middle") <= (seen["broken off"] > 0), seen
        assert max(client.longest for client in clients) < SOON_SECONDS
        assert {1} >= {times for (method, _), times in app.heard.items() if method == b"POST"}

        # By itself, and for everybody.
        app.manner = "answers"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await world.get(target="/tickets?n=7"))[0] != 200:  # noqa: ASYNC110 - the gateway's own pause
                await asyncio.sleep(0.02)
        last = Client(world.port, numbers)
        for _ in range(20):
            await last.ask()
        assert {200: 20} == last.seen
