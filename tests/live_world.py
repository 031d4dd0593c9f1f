"""What is half way through the gateway: an app that has sent a first piece and holds the rest."""

import asyncio
import contextlib

from tests.gateway_world import HOST, open_world
from tests.patience import PATIENCE_SECONDS, within
from tests.rawwire import response
from tests.upstream_client import eventually

AT_ONCE = 1.0
"""Seconds within which what is open is cut: the promise is one."""
FIRST = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
LAST = b"4\r\nlast\r\n0\r\n\r\n"


class Open:
    """One request that is half way: the app has sent a first piece and holds the rest."""

    def __init__(self, reader, writer, app):
        self.reader = reader
        self.writer = writer
        self.app = app
        """The connection at the app."""

    async def is_cut(self):
        """Wait for the end on both sides; return what the client still got, which must be nothing."""
        async with within(AT_ONCE):
            rest = b""
            with contextlib.suppress(ConnectionError):
                rest = await self.reader.read()
            await self.app.ended.wait()
        return rest

    async def finishes(self, world):
        """Let the app go on; return the rest of what the client gets."""
        world.gate.set()
        async with within(AT_ONCE):
            return await self.reader.readuntil(b"0\r\n\r\n")


async def caught_up(world):
    """Wait until the gateway has heard of everything that was changed so far, and will forget no fact for it."""
    newest = (await world.gateway.store.read_changes(0)).position
    await eventually(lambda: world.gateway.follower.position >= newest)


@contextlib.asynccontextmanager
async def download(world, token, target="/tickets/1", *, method="GET", body=None):
    """Open one; `body` is the announced length and the part of it that is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += [f"Content-Length: {body[0]}"] if body else []
    heard = len(world.upstream.requests)
    try:
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (body[1] if body else b""))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await reader.readuntil(b"first\r\n")
        yield Open(reader, writer, world.upstream.connections[world.upstream.requests[heard].connection_id])
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def holding_world(directory, **options):
    """A world whose app sends a first piece and then waits for `world.gate`."""
    gate = asyncio.Event()

    async def answer(connection):
        await connection.send(FIRST)
        await gate.wait()
        await connection.send(LAST)

    def script(request):
        return response() if request.target == b"/whoami" else answer

    async with open_world(directory, script=script, **options) as world:
        world.gate = gate
        # An upload is answered before it has all come.
        world.upstream._answer_at_head = True
        yield world
