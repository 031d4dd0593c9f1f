"""A listener with a handler of the test's choosing, on a real socket, and what the test needs to look at it."""

import asyncio
import contextlib
import logging
from contextlib import asynccontextmanager

from gateway.binding import listen
from gateway.proxy.limits import ListenerLimits
from gateway.proxy.listener import Listener, make_listener
from gateway.proxy.wire import ResponseHead
from tests.oracle import parse_responses
from tests.patience import PATIENCE_SECONDS
from tests.tally import TALLY
from tests.upstream_client import eventually

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSING_GET = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

SOON = 0.05
"""Seconds: a limit that is meant to be reached."""
BULK = 32 * 1024 * 1024
IN_FLIGHT = 12 * 1024 * 1024
"""What the kernel may hold on both sides of a loopback connection, and our own bounded rest."""


async def chunks(*pieces):
    for piece in pieces:
        yield piece


def head(status=200, *headers, reason=b"OK"):
    return ResponseHead(status=status, reason=reason, headers=headers)


async def reply(inbound, content=b"ok", status=200, **options):
    """Answer with a body of known length."""
    await inbound.respond(head(status, (b"Content-Length", b"%d" % len(content))), chunks(content), **options)


def post(body, *lines, length=None):
    framing = b"Content-Length: %d" % (len(body) if length is None else length)
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", framing, *lines]) + b"\r\n\r\n" + body


async def statuses(raw):
    return [response.status for response in await parse_responses(raw)]


class Echo:
    """Answers with the body that came, and remembers what it was asked."""

    def __init__(self):
        self.heads = []
        self.bodies = []

    async def __call__(self, inbound):
        self.heads.append(inbound.head)
        body = b"".join([chunk async for chunk in inbound.body()])
        self.bodies.append(body)
        await reply(inbound, b"echo:" + body)


class Stuck:
    """Begins each request and waits, until it is let go or cancelled."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, inbound):
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        await reply(inbound)


class Server:
    """One listener that accepts."""

    def __init__(self, listener: Listener, port: int) -> None:
        self.listener = listener
        self.port = port

    @asynccontextmanager
    async def connect(self, **options):
        """Open a connection and close it whatever happened; nothing in it may take for ever."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **options)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                yield reader, writer
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def send(self, raw, *, pieces=None) -> bytes:
        """Send on a connection of its own and return what came until its end."""
        TALLY.messages += 1
        async with self.connect() as (reader, writer):
            with contextlib.suppress(ConnectionError):  # it may have hung up by then
                for piece in pieces or [raw]:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
            return await until_closed(reader)

    async def until_empty(self):
        """Wait until no connection is left and no handler runs."""
        await eventually(lambda: not self.listener.open_count)


async def until_closed(reader) -> bytes:
    """Read to the end, however it ends."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            received += data
    return received


async def until_still(measure):
    """Wait until a measure has stopped changing: the claim is that nothing happens, so time is what must pass."""
    before = None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while before != (before := measure()):  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.05)


class Errors(logging.Handler):
    """Keeps what is logged as our own fault."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@asynccontextmanager
async def listening(handler, *, factory=lambda listener: listener, sockets=None, our_faults=False, **limits):
    """Listen with `handler`; at the end all must be closed, every handler over, and no fault ours unless it is meant."""
    listener = make_listener(handler, ListenerLimits(**limits))
    [bound] = sockets or listen("127.0.0.1", 0, shared=False, backlog=1024)
    server = await asyncio.get_running_loop().create_server(factory(listener), sock=bound, backlog=1024)
    errors = Errors()
    logging.getLogger().addHandler(errors)
    try:
        yield Server(listener, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await listener.shutdown(0.1)
            await server.wait_closed()
        logging.getLogger().removeHandler(errors)
    assert (0, 0) == (listener.open_count, listener.in_flight)
    assert our_faults == bool(errors.messages), errors.messages
