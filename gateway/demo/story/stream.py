"""A client of an event stream that notes to the moment when bytes came and when it was cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import yarl

_PATIENCE_SECONDS = 10.0
_EVENTS_AT_FIRST = 3


class Stream(asyncio.Protocol):
    """The receiving end; all moments are those of `time.perf_counter`."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.running: asyncio.Future[None] = loop.create_future()
        """Done when events are coming; OSError if the connection ended before."""
        self.ended: asyncio.Future[float] = loop.create_future()
        """When the connection ended."""
        self._received: list[tuple[float, int]] = []

    def bytes_after(self, moment: float) -> int:
        """Return how many bytes came after a moment."""
        return sum(size for at, size in self._received if at > moment)

    def data_received(self, data: bytes) -> None:
        """Note it; asyncio calls this."""
        if not self._received and b" 200 " not in data.partition(b"\r\n")[0]:
            self.running.set_exception(OSError("the stream was refused"))
        self._received.append((perf_counter(), len(data)))
        if len(self._received) >= _EVENTS_AT_FIRST and not self.running.done():
            self.running.set_result(None)

    def connection_lost(self, _error: Exception | None) -> None:
        """Note it; asyncio calls this, after a cut as after an ordinary end."""
        self.ended.set_result(perf_counter())
        if not self.running.done():
            self.running.set_exception(OSError("the stream ended before it began"))


@asynccontextmanager
async def open_stream(url: str, *, host: str, token: str) -> AsyncIterator[Stream]:
    """Keep `GET /events` open while the block lasts, from when events are coming; raises OSError, TimeoutError."""
    address = yarl.URL(url)
    loop = asyncio.get_running_loop()
    transport, stream = await loop.create_connection(Stream, address.host or "", address.port or 80)
    try:
        head = f"GET /events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
        transport.write(head.encode("ascii"))
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await stream.running
        yield stream
    finally:
        transport.abort()
