"""The app behind every contender: fixed answers and an echo, nothing to compute. `python -m bench.backend PORT`."""

import asyncio
import base64
import hashlib
import re
import sys
from typing import cast

import uvloop

PAGE = "/tickets/1"
ATTACHMENT = "/attachments/1"
DOWNLOAD = "/attachments/2"
UPLOAD = "/upload"
SOCKET = "/live"
"""Where a WebSocket can be opened."""
SIZES = {PAGE: 1_000, ATTACHMENT: 100_000, DOWNLOAD: 10_000_000, UPLOAD: 2}
_END = b"\r\n\r\n"
_UPGRADE = re.compile(rb"\r\nUpgrade:[ \t]*websocket[ \t]*(\r|$)", re.IGNORECASE)
_KEY = re.compile(rb"\r\nSec-WebSocket-Key:[ \t]*([A-Za-z0-9+/=]+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\nContent-Length:[ \t]*([0-9]+)", re.IGNORECASE)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_CLOSE = 8
_SOCKET = SOCKET.encode("ascii")


def response(size: int) -> bytes:
    """Return a whole answer with a body of `size` bytes."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\nContent-Length: {size}\r\n\r\n"
    return head.encode("ascii") + b"x" * size


def accept_of(key: bytes) -> bytes:
    """Return the `Sec-WebSocket-Accept` for a client's key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a server's frame, whole and without a mask, of less than 64 kB (RFC 6455 section 5.2)."""
    size = len(payload)
    length = bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2)
    return bytes((0x80 | opcode,)) + length + payload


def payload_of(data: bytes, at: int) -> tuple[int, int]:
    """Return where the payload of a client's frame at `at`, of less than 64 kB, begins and ends.

    If the frame has not come whole, the end is somewhere behind `data`.
    """
    if at + 1 >= len(data):
        return at, len(data) + 1
    size, begin = data[at + 1] & 0x7F, at + 2
    if size == 126:
        begin += 2
        size = int.from_bytes(data[at + 2 : begin])
    # In front of it is the mask.
    return begin + 4, begin + 4 + size


class Echo(asyncio.Protocol):
    """Sends each frame back by its length alone.

    The mask is passed over, so it has to be all zeroes; then nobody who runs on the load's core spends time on it, and
    a proxy that only carries the bytes sees no difference.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._read = b""

    def data_received(self, data: bytes) -> None:
        """Echo each frame that is complete."""
        data = self._read + data
        at, back = 0, []
        begin, end = payload_of(data, at)
        while end <= len(data):
            opcode = data[at] & 0x0F
            back.append(frame(opcode, data[begin:end]))
            at = end
            begin, end = payload_of(data, at)
            if opcode == _CLOSE:
                self._transport.write(b"".join(back))
                self._transport.close()
                return
        self._read = data[at:]
        if back:
            self._transport.write(b"".join(back))


class Backend(asyncio.Protocol):
    """Answers GET requests in the order they come, and a POST of a known length once its body is here."""

    def __init__(self, answers: dict[bytes, bytes], other: bytes) -> None:
        self._answers = answers
        self._other = other
        self._read = b""
        self._left = 0
        """Bytes of a body that are still to come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        if self._left:
            self._take(data)
            return
        data = self._read + data
        if data.startswith(b"POST "):
            self._read = data
            head, end, body = data.partition(_END)
            if end:
                length = _LENGTH.search(head)
                self._read, self._left = b"", int(length[1]) if length else 0
                self._take(body)
            return
        heads = data.split(_END)
        self._read = heads.pop()
        for head in heads:
            target = head.split(b" ", 2)[1]
            answer = self._answers.get(target)
            if answer is not None:
                self._transport.write(answer)
            elif target == _SOCKET and _UPGRADE.search(head) and (key := _KEY.search(head)):
                self._switch(key[1])
                return
            else:
                self._transport.write(self._other)

    def _take(self, body: bytes) -> None:
        """Pass over a piece of a body, behind which nothing comes before it is answered."""
        self._left -= len(body)
        if self._left <= 0:
            self._left = 0
            self._transport.write(self._other)

    def _switch(self, key: bytes) -> None:
        """Begin to echo. Nothing can be here yet, because a client waits for the answer."""
        lines = (
            *(b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket"),
            b"Sec-WebSocket-Accept: " + accept_of(key),
        )
        self._transport.set_protocol(Echo(self._transport))
        self._transport.write(b"\r\n".join(lines) + _END)


async def serve(port: int) -> None:
    """Serve until cancelled."""
    answers = {path.encode("ascii"): response(size) for path, size in SIZES.items()}
    server = await asyncio.get_running_loop().create_server(
        lambda: Backend(answers, response(2)), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
