"""A client's connection without a socket, so that each of thousands of messages can be cut between any two bytes."""

import asyncio
import re
from collections.abc import Iterable

from gateway.proxy.client import ClientConnection
from gateway.proxy.limits import ClientLimits
from gateway.proxy.wire import ResponseHead
from tests.rawwire import each_byte

_LONG_WORD = re.compile(rb"([A-Za-z0-9_-]{64,})")
_STATUS = re.compile(rb"^HTTP/1\.1 ([0-9]{3}) ", re.MULTILINE)
_MOST_TURNS = 64
_LIMITS = ClientLimits()


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = b""
        self._closing = False

    def write(self, data):
        self.written += data

    def can_write_eof(self):
        return False

    def is_closing(self):
        return self._closing

    def close(self):
        self._closing = True

    abort = close

    def get_write_buffer_size(self):
        return 0

    def set_protocol(self, protocol):
        """Whoever had it is done."""

    def pause_reading(self):
        """There is no room; a test sends little."""

    def resume_reading(self):
        """There is room again."""


async def read(pieces: Iterable[bytes]) -> tuple[list, bytes]:
    """Return the requests that a connection reads in these pieces, each to its end, and what it says by itself."""
    heard: list = []

    async def note(inbound):
        head = inbound.head
        body = b"".join([chunk async for chunk in inbound.body()])
        heard.append((head.method, head.target, head.headers, head.version, body, inbound.trailers()))
        await inbound.respond(ResponseHead(status=200, reason=b"OK", headers=()), None)

    wire = Wire()
    connection = ClientConnection(
        note,
        limits=_LIMITS,
        space=memoryview(b""),
        on_made=lambda _: None,
        on_lost=lambda _: None,
        on_switch=lambda: None,
    )
    connection.connection_made(wire)
    for piece in pieces:
        if not wire.is_closing():
            connection.data_received(piece)
    said, turns = None, 0
    while said != (wire.written, len(heard)) and turns < _MOST_TURNS:
        said, turns = (wire.written, len(heard)), turns + 1
        for _ in range(3):
            await asyncio.sleep(0)
    connection.connection_lost(None)
    return heard, wire.written


async def check_every_cut(raw: bytes) -> None:
    """Fail unless `raw` is read alike in one piece and byte by byte, and so at whichever byte it is cut.

    What it has read of a message is all that a connection knows of the pieces in which that came. The inside of a
    token, which is the same in thousands of cases, comes in one piece.
    """
    pieces = [
        piece for part in _LONG_WORD.split(raw) for piece in ([part] if _LONG_WORD.fullmatch(part) else each_byte(part))
    ]
    whole, cut = await read([raw]), await read(pieces)
    # Why it is refused may be said earlier, and in other words.
    assert (whole[0], _STATUS.findall(whole[1])) == (cut[0], _STATUS.findall(cut[1])), raw
