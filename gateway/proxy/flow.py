"""The two directions of a client's connection, each with its backpressure: what came and waits, what goes out."""

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.proxy.wire import Headers

_LITTLE_BYTES = 512
"""What waits in pieces smaller than that would take much more room than its bytes, so it waits in one."""


class Inbox:
    """Bytes that came and wait to be read, by one reader."""

    __slots__ = (
        "_chunks",
        "_error",
        "_loop",
        "_on_change",
        "_waiter",
        "asked",
        "buffered",
        "ended",
        "received",
        "trailers",
        "waited",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, on_change: Callable[[], None]) -> None:
        """Call `on_change` when the reader has made room, or begins or ends to wait."""
        self.buffered = 0
        """Bytes that wait."""
        self.received = 0
        """Bytes, all that came."""
        self.waited = 0.0
        """Seconds that the reader has waited, all together, without the wait that is going on."""
        self.asked = False
        """Whether the reader has begun."""
        self.ended = False
        """Whether nothing more comes."""
        self.trailers: Headers = ()
        """Of a chunked body, valid once it has ended."""
        self._chunks: deque[bytes] = deque()
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._loop = loop
        self._on_change = on_change

    @property
    def is_awaited(self) -> bool:
        """Whether the reader waits for bytes."""
        return self._waiter is not None

    def put(self, chunk: bytes) -> None:
        """Add bytes, at least one."""
        if self._chunks and len(self._chunks[-1]) < _LITTLE_BYTES:
            self._chunks[-1] += chunk
        else:
            self._chunks.append(chunk)
        self.buffered += len(chunk)
        self.received += len(chunk)
        self._wake()

    def end(self) -> None:
        """Nothing more comes."""
        self.ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """Nothing more comes, and the reader learns why it is not all."""
        self._error = error
        self._wake()

    def close(self) -> None:
        """The client has gone: nothing waits here any more, nobody is called, and a reader learns why.

        To be called again once there is no reader, because an error that was raised holds the frames that it went
        through, and those hold whatever they worked with.
        """
        self._chunks.clear()
        self.buffered = 0
        self._on_change = _nobody
        self.fail(ConnectionResetError("the client has gone"))

    async def take(self) -> bytes:
        """Wait for the next bytes, empty at the end; raises what `fail` was given."""
        self.asked = True
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.ended:
                return b""
            await self._wait()
        chunk = self._chunks.popleft()
        self.buffered -= len(chunk)
        self._on_change()
        return chunk

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        since = self._loop.time()
        self._on_change()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self.waited += self._loop.time() - since

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Outbox:
    """Bytes on their way to the client."""

    __slots__ = ("_held", "_loop", "_transport", "_writable", "paused")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self.paused = False
        """Whether the client takes so little that the writer must wait."""
        self._held = b""
        self._writable = asyncio.Event()
        self._loop = loop
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send; raises ConnectionResetError if the client has gone. Await `drain` before much more is written."""
        if self._transport.is_closing():
            raise ConnectionResetError("the client has gone")
        if self._held:
            data = self._held + data
            self._held = b""
        self._transport.write(data)

    def hold(self, data: bytes) -> None:
        """Send with what is written next, or alone if that is not written in this very step of the loop.

        So a head and a body that is here already leave in one segment, and a head whose body is late does not wait.
        """
        self._held += data
        self._loop.call_soon(self.release)

    def release(self) -> None:
        """Send what is held."""
        if self._held and not self._transport.is_closing():
            self._transport.write(self._held)
        self._held = b""

    async def drain(self) -> None:
        """Wait until the client has taken enough."""
        if self.paused:
            await self._writable.wait()

    def pause(self) -> None:
        """The transport holds more than it should."""
        self.paused = True
        self._writable.clear()

    def resume(self) -> None:
        """The transport has room again."""
        self.paused = False
        self._writable.set()


def _nobody() -> None:
    """Nobody wants to know any more."""
