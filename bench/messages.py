"""Messages over WebSockets, which `wrk` cannot send: on each connection the next when the one before is back.

`python -m bench.messages HOST PORT CONNECTIONS SECONDS FILE`; the first request of the file opens each connection.
"""

import asyncio
import base64
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

from bench.backend import accept_of, frame
from bench.client import Tally, print_figures

_KEY = base64.b64encode(b"locum's own load")
HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {_KEY.decode('ascii')}",
)
"""What a request says on top to open a WebSocket (RFC 6455 section 4.1)."""
_END = b"\r\n\r\n"
_BINARY = 2
_PAYLOAD = bytes(range(250)) * 4
# The mask is there, as RFC 6455 section 5.1 wants it, and is all zeroes: only an app would ever look at it.
MESSAGE = bytes((0x80 | _BINARY, 0x80 | 126)) + len(_PAYLOAD).to_bytes(2) + bytes(4) + _PAYLOAD
"""A client's message of 1 kB."""
ECHO = frame(_BINARY, _PAYLOAD)
"""What comes back for it."""
_OPEN_SECONDS = 10.0


class Refused(Exception):
    """The WebSocket was not opened, or what came back is not what was sent; the message says why."""


def check_opened(head: bytes) -> None:
    """Check the answer to the handshake (RFC 6455 section 4.1); raises Refused."""
    first, *lines = head.split(b"\r\n")
    status = first.split(b" ")[1:2]
    if status != [b"101"]:
        raise Refused(f"`{first.decode('latin-1')}` instead of status 101")
    said = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if said.get(b"sec-websocket-accept") != accept_of(_KEY):
        raise Refused("the handshake's key was not accepted")


async def converse(host: str, port: int, handshake: bytes) -> None:
    """Open a WebSocket and have one message echoed; raises Refused, or OSError or EOFError if the connection breaks."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(handshake)
        check_opened(await reader.readuntil(_END))
        writer.write(MESSAGE)
        if await reader.readexactly(len(ECHO)) != ECHO:
            raise Refused("the echo is not what was sent")
    finally:
        writer.close()
        await writer.wait_closed()


class Talker(asyncio.Protocol):
    """One connection: the handshake, then from `begin` on a message, its echo, the next message."""

    def __init__(self, handshake: bytes, tally: Tally) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Is done when messages may be sent; its exception is Refused if they never may."""
        self._handshake = handshake
        self._tally = tally
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is none by inheritance
        self._transport.write(self._handshake)

    def begin(self) -> None:
        """Send a message."""
        self._asked = time.perf_counter()
        self._transport.write(MESSAGE)

    def data_received(self, data: bytes) -> None:
        """Read on: an echo, once it is whole, or before that the answer to the handshake."""
        self._read += data
        if not self.opened.done():
            self._open()
            return
        if len(self._read) < len(ECHO):
            return
        if self._read != ECHO:
            self._transport.abort()
            return
        self._tally.latencies.append(time.perf_counter() - self._asked)
        self._read = b""
        if not self._tally.over:
            self.begin()

    def connection_lost(self, _error: Exception | None) -> None:
        """A connection that ends before the time is up is an error, and so is one that we end for a wrong echo."""
        if self.opened.done():
            self._tally.errors += not self._tally.over
        else:
            self.opened.set_exception(Refused("the connection was closed"))

    def _open(self) -> None:
        head, end, rest = self._read.partition(_END)
        if end:
            self._read = rest
            try:
                check_opened(head)
            except Refused as exc:
                self.opened.set_exception(exc)
            else:
                self.opened.set_result(None)


async def main(host: str, port: int, connections: int, seconds: float, handshake: bytes) -> None:
    """Open the connections, send for `seconds`, then print the figures; raises Refused if one is not opened."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_OPEN_SECONDS):
        pairs = [await loop.create_connection(lambda: Talker(handshake, tally), host, port) for _ in range(connections)]
        await asyncio.gather(*(talker.opened for _, talker in pairs))
    started = time.perf_counter()
    for _, talker in pairs:
        talker.begin()
    await asyncio.sleep(seconds)
    tally.over = True
    elapsed = time.perf_counter() - started
    for transport, _ in pairs:
        transport.abort()
    print_figures(tally, elapsed)


if __name__ == "__main__":
    host, *numbers, file = sys.argv[1:]
    port, connections, seconds = (int(number) for number in numbers)
    uvloop.run(main(host, port, connections, seconds, Path(file).read_bytes().partition(b"\0")[0]))
