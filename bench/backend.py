"""The app behind every contender: fixed answers, nothing to compute. `python -m bench.backend PORT`."""

import asyncio
import sys
from typing import cast

import uvloop

PAGE = "/tickets/1"
ATTACHMENT = "/attachments/1"
DOWNLOAD = "/attachments/2"
SIZES = {PAGE: 1_000, ATTACHMENT: 100_000, DOWNLOAD: 10_000_000}
_END = b"\r\n\r\n"


def response(size: int) -> bytes:
    """Return a whole answer with a body of `size` bytes."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\nContent-Length: {size}\r\n\r\n"
    return head.encode("ascii") + b"x" * size


class Backend(asyncio.Protocol):
    """Answers GET requests in the order they come; whoever sends a body is not from this benchmark."""

    def __init__(self, answers: dict[bytes, bytes], other: bytes) -> None:
        self._answers = answers
        self._other = other
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Answer each request whose head is complete."""
        heads = (self._read + data).split(_END)
        self._read = heads.pop()
        for head in heads:
            target = head.split(b" ", 2)[1]
            self._transport.write(self._answers.get(target, self._other))


async def serve(port: int) -> None:
    """Serve until cancelled."""
    answers = {path.encode("ascii"): response(size) for path, size in SIZES.items()}
    server = await asyncio.get_running_loop().create_server(
        lambda: Backend(answers, response(2)), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
