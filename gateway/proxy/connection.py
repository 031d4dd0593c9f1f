"""One connection to the upstream, which carries one exchange at a time and is closed at the first anomaly."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from gateway.proxy.request import encode_request
from gateway.proxy.response import ResponseAnomaly, ResponseParser
from gateway.proxy.wire import Body, RequestHead, ResponseHead, UpstreamFault, UpstreamTimeout

HIGH_WATER_BYTES = 256 * 1024
"""More of a response body than this waiting stops the reading from the socket; a quarter of it starts it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How long each phase of a connection may take."""

    request_stall_timeout_seconds: float = 60
    """While the upstream takes nothing of the request body that waits for it."""
    first_byte_timeout_seconds: float = 60
    """From the last byte of the request to the last byte of the response head."""
    idle_timeout_seconds: float = 60
    """Between two pieces of a response body, while there is room for them."""
    max_idle_age_seconds: float = 30
    """Between two exchanges. Below the keep-alive time of the app, or it closes under our hands."""


class ConnectionDied(UpstreamFault):
    """The connection ended before a byte of the response, which a reused one may do at any time."""


class Connection(asyncio.Protocol):
    """HTTP/1.1 as a client, strictly.

    Start with `exchange`; it gives a `Response`, whose `close` ends the exchange. Bytes that nobody asked for close
    the connection, also between two exchanges.
    """

    def __init__(
        self,
        upstream: str,
        *,
        limits: ConnectionLimits,
        on_released: Callable[["Connection"], None],
        on_lost: Callable[["Connection"], None],
    ) -> None:
        """Know the `upstream` by the name for messages, and whom to tell.

        `on_released` is called when a response is closed: see `is_idle` then. `on_lost` when the socket is closed.
        """
        self._upstream = upstream
        self._limits = limits
        self._on_released = on_released
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser: ResponseParser | None = None
        self._fault: UpstreamFault | None = None
        self._event: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._request_sent = False
        self._answered = False
        self._reading_paused = False
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when the socket is closed."""

    @property
    def is_idle(self) -> bool:
        """Whether an exchange may start."""
        return self._parser is None and not self._transport.is_closing()

    async def exchange(self, head: RequestHead, body: Body | None) -> "Response":
        """Send one request and wait for the final response head.

        Raises UpstreamFault (ConnectionDied among them), ValueError for a head that does not fit its body, and what
        iterating the body raises. Whatever is raised, also CancelledError, has closed the connection.
        """
        if self._transport.is_closing():
            raise ConnectionDied(self._says("closed the connection at once: see its log"))
        try:
            request, length = encode_request(head, has_body=body is not None)
            self._parser = parser = ResponseParser(to_head=head.method == b"HEAD")
            self._answered = False
            self._request_sent = body is None
            self._transport.write(request)
            self._watch()
            if body is not None:
                await self._pump_until_answered(parser, body, length)
            while parser.head is None or self._fault is not None:
                await self._next_event()
        except BaseException:
            self.abort()
            raise
        return Response(self, parser, parser.head)

    async def read(self, parser: ResponseParser) -> bytes:
        """The next chunk of the exchange that `parser` belongs to, empty at its end; raises UpstreamFault."""
        while not parser.chunks:
            if parser.complete:
                return b""
            if parser is not self._parser:
                raise UpstreamFault("the response was closed before its body had ended")
            await self._next_event()
        chunk = parser.chunks.popleft()
        parser.buffered -= len(chunk)
        if self._reading_paused and parser.buffered <= HIGH_WATER_BYTES // 4:
            self._resume_reading()
        return chunk

    def finish(self) -> None:
        """End the exchange: idle if everything of it was sent, received and clean, or closed."""
        parser, self._parser = self._parser, None
        clean = (
            parser is not None
            and parser.complete
            and parser.reusable
            and self._request_sent
            and not self._transport.is_closing()
            and not self._transport.get_write_buffer_size()
        )
        if not clean:
            self.abort()
        elif self._reading_paused:
            self._resume_reading()
        else:
            self._watch()
        self._wake()
        self._on_released(self)

    def abort(self) -> None:
        """Close the socket now; safe to call twice."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio; the idle time starts."""
        self._transport = cast("asyncio.Transport", transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio; reads on, or closes at the first anomaly."""
        parser = self._parser
        if parser is None:
            self.abort()
            return
        if self._fault is not None:
            return
        self._answered = True
        try:
            parser.feed(data)
        except ResponseAnomaly as exc:
            self._fail(UpstreamFault(self._says(f"{exc}: the app, or what is in front of it, breaks HTTP")), exc)
            return
        if parser.buffered > HIGH_WATER_BYTES and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()
        if parser.head is not None:
            self._watch()
        self._wake()

    def eof_received(self) -> None:
        """Called by asyncio; some bodies end so, everything else breaks off. The socket is closed after it."""
        if self._parser is None:
            return
        if not self._answered:
            self._fail(ConnectionDied(self._says("closed the connection without an answer: see its log")))
            return
        try:
            self._parser.feed_eof()
        except ResponseAnomaly as exc:
            self._fail(UpstreamFault(self._says(f"{exc}: see its log")), exc)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio; whatever was still awaited has failed."""
        if self._parser is not None and not self._parser.complete and self._fault is None:
            kind = UpstreamFault if self._answered else ConnectionDied
            self._fail(kind(self._says("broke the connection: see its log")), exc)
        if self._timer is not None:
            self._timer.cancel()
        self._deadline = math.inf
        self._wake()
        self.lost.set_result(None)
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Called by asyncio; the pump waits."""
        self._writable = self._loop.create_future()
        self._watch()

    def resume_writing(self) -> None:
        """Called by asyncio; the pump goes on."""
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None
        self._watch()

    async def _pump_until_answered(self, parser: ResponseParser, body: Body, length: int | None) -> None:
        """Send the body while the head is awaited; a final head stops the sending, whatever is left."""
        pump = self._loop.create_task(self._pump(body, length), name="upstream request body")
        pump.add_done_callback(self._wake)
        try:
            while parser.head is None and not pump.done():
                await self._next_event()
        finally:
            pump.cancel()
            [outcome] = await asyncio.gather(pump, return_exceptions=True)
        if parser.head is None and isinstance(outcome, Exception):
            # On a lost connection the writing fails as well; that is not the error to tell of.
            raise self._fault or outcome

    async def _pump(self, body: Body, length: int | None) -> None:
        remaining = length
        async for chunk in body:
            if not chunk:
                continue  # as a chunk of its own it would end the message
            if remaining is None:
                self._transport.writelines((b"%x\r\n" % len(chunk), chunk, b"\r\n"))
            else:
                remaining -= len(chunk)
                if remaining < 0:
                    raise ValueError("the request body is longer than its Content-Length")
                self._transport.write(chunk)
            if remaining == 0:
                self._end_request()
            if self._writable is not None:
                await self._writable
        if remaining:
            raise ValueError("the request body is shorter than its Content-Length")
        if remaining is None:
            self._transport.write(b"0\r\n\r\n")
        self._end_request()

    def _end_request(self) -> None:
        self._request_sent = True
        self._watch()

    async def _next_event(self) -> None:
        if self._fault is not None:
            raise self._fault
        self._event = self._loop.create_future()
        try:
            await self._event
        finally:
            self._event = None

    def _wake(self, _: object = None) -> None:
        if self._event is not None and not self._event.done():
            self._event.set_result(None)

    def _fail(self, fault: UpstreamFault, cause: BaseException | None = None) -> None:
        fault.__cause__ = cause
        self._fault = fault
        self.abort()
        self._wake()

    def _says(self, what: str) -> str:
        return f"upstream `{self._upstream}` {what}"

    def _resume_reading(self) -> None:
        self._reading_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._watch()

    def _phase(self) -> tuple[float, str] | None:
        """What is being waited for: for how long at most, and what to say when it was too long."""
        parser, limits = self._parser, self._limits
        if parser is None:
            return limits.max_idle_age_seconds, ""
        if parser.complete or self._reading_paused:
            return None
        if parser.head is not None:
            return limits.idle_timeout_seconds, "paused in its response for longer than `idle_timeout_seconds`"
        if self._request_sent:
            return limits.first_byte_timeout_seconds, "did not answer within `first_byte_timeout_seconds`"
        if self._writable is not None:
            return limits.request_stall_timeout_seconds, "left the request body for `request_stall_timeout_seconds`"
        return None

    def _watch(self) -> None:
        """Start the clock of the phase that has just begun.

        A timer that fires too early looks again; so only a deadline nearer than the timer's costs a new one, and
        a connection in steady use makes none per request.
        """
        phase = self._phase()
        if phase is None:
            self._deadline = math.inf
            return
        self._deadline = self._loop.time() + phase[0]
        if self._deadline < self._timer_at:
            self._set_timer(self._deadline)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._on_timer)
        self._timer_at = at

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if self._deadline == math.inf:
            return
        if self._loop.time() < self._deadline:
            self._set_timer(self._deadline)
            return
        phase = self._phase()
        if self._parser is None or phase is None:
            self.abort()
            return
        self._fail(UpstreamTimeout(self._says(f"{phase[1]} = {phase[0]:g}: see whether it is stuck or needs more")))


class Response:
    """An `UpstreamResponse` that holds its connection until it is closed; also the iterator over its own body."""

    __slots__ = ("_closed", "_connection", "_parser", "head")

    def __init__(self, connection: Connection, parser: ResponseParser, head: ResponseHead) -> None:
        self.head = head
        self._connection = connection
        self._parser = parser
        self._closed = False

    @property
    def body(self) -> Body:
        """See `UpstreamResponse.body`; the same iterator every time."""
        return self

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._connection.read(self._parser)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def close(self) -> None:
        """See `UpstreamResponse.close`."""
        if not self._closed:
            self._closed = True
            self._connection.finish()
