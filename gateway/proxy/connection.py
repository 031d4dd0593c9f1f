"""One connection to the upstream, which carries one exchange at a time and is closed at the first anomaly."""

import asyncio
import select
from collections.abc import Callable, Coroutine
from typing import Any, cast

from gateway.proxy.deadline import Deadline
from gateway.proxy.handshake import expected_accept
from gateway.proxy.limits import ConnectionLimits
from gateway.proxy.lines import encode_end
from gateway.proxy.request import encode_request
from gateway.proxy.response import ResponseAnomaly, ResponseParser
from gateway.proxy.sockets import discard, unsent
from gateway.proxy.wire import Body, RequestHead, ResponseHead, Trailers, UpstreamFault, UpstreamTimeout

HIGH_WATER_BYTES = 256 * 1024
"""More of a response body than this waiting stops the reading from the socket; a quarter of it starts it again."""


class ConnectionDied(UpstreamFault):
    """The connection ended before a byte of the response, which a reused one may do at any time."""


class Connection(asyncio.Protocol):
    """HTTP/1.1 as a client, strictly.

    Start with `exchange`, read the body with `read`, end with `finish`. Bytes that nobody asked for close the
    connection, also between two exchanges. After a 101 it is a raw connection, with `write` and `close` as well.
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

        `on_released` is called when an exchange has ended: see `is_idle` then. `on_lost` when the socket is closed.
        """
        self._upstream = upstream
        self._limits = limits
        self._on_released = on_released
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._made_at = self._loop.time()
        self._transport: asyncio.Transport
        self._unread = select.poll()
        self._parser: ResponseParser | None = None
        self._fault: UpstreamFault | None = None
        self._event: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._request_sent = False
        self._answered = False
        self._reading_paused = False
        self._reusable = True
        self._deadline: Deadline
        self._between_pieces = (
            limits.idle_timeout_seconds,
            "paused in its response for longer than `idle_timeout_seconds`",
        )
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when the socket is closed."""
        self.switched = False
        """Whether it was given over to another protocol; it stays so."""

    @property
    def age(self) -> float:
        """How many seconds ago it was made."""
        return self._loop.time() - self._made_at

    @property
    def is_idle(self) -> bool:
        """Whether an exchange may start."""
        return self._parser is None and not self._transport.is_closing()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come on this idle connection, bytes or an end, that the event loop would tell later.

        What has come before a request is sent answers no request; and a connection that is known to have ended before
        may be left for another one whatever the request is, since nothing of it was sent.
        """
        return not self._unread.poll(0)

    async def exchange(
        self,
        head: RequestHead,
        body: Body | None,
        *,
        upgrade: bool = False,
        inform: Callable[[ResponseHead], None] | None = None,
        trailers: Trailers | None = None,
    ) -> tuple[ResponseHead, ResponseParser]:
        """Send one request and wait for the final response head; the rest of the response is read with `read`.

        See `Upstream.send` for the arguments. Raises UpstreamFault (ConnectionDied among them), ValueError for a head
        that does not fit its body, and what iterating the body or `inform` raises. Whatever is raised, also
        CancelledError, has closed the connection.
        """
        if self._transport.is_closing():
            raise ConnectionDied(self._says("closed the connection at once: see its log"))
        try:
            request, length, signs_in = encode_request(head, has_body=body is not None)
            accept = expected_accept(head) if upgrade and body is None else None
            self._parser = parser = ResponseParser(
                to_head=head.method == b"HEAD", accept=accept, max_bytes=self._limits.header_bytes
            )
            self._answered = False
            self._request_sent = body is None
            # Whatever the answer to an upgrade: what came behind the request may have been sent on. And whoever signs
            # a connection in has it alone.
            self._reusable = not (upgrade or signs_in)
            self._transport.write(request)
            self._watch()
            if body is not None:
                await self._pump_until_answered(parser, self._pump(body, length, trailers), inform)
            while parser.head is None or self._fault is not None:
                await self._next_event()
                parser.tell(inform)
            if parser.head.status == 101:
                self._switch()
        except BaseException:
            self.abort()
            self._let_go()
            raise
        return parser.head, parser

    async def read(self, parser: ResponseParser) -> bytes:
        """The next chunk of the exchange that `parser` belongs to, empty at its end; raises UpstreamFault."""
        while not parser.chunks:
            if parser.complete:
                return b""
            if parser is not self._parser:
                raise UpstreamFault("the response was closed before its body had ended")
            await self._next_event()
        return self.take(parser)

    def take(self, parser: ResponseParser) -> bytes:
        """The next of the chunks that are here already."""
        chunk = parser.chunks.popleft()
        parser.buffered -= len(chunk)
        if self._reading_paused and parser.buffered <= HIGH_WATER_BYTES // 4:
            self._resume_reading()
        return chunk

    async def write(self, data: bytes) -> None:
        """Send bytes after a switch of protocols, and wait until there is room for more; raises UpstreamFault."""
        if self._transport.is_closing():
            raise self._fault or UpstreamFault(self._says("has closed the connection"))
        self._transport.write(data)
        self._watch()
        if self._writable is None:
            return
        _, waiting = await asyncio.wait([self._writable], timeout=self._limits.request_stall_timeout_seconds)
        if waiting:
            self._fail(UpstreamTimeout(self._says("took nothing for `request_stall_timeout_seconds`")))
        if self._fault is not None:
            raise self._fault
        if self._transport.is_closing():
            raise UpstreamFault(self._says("has closed the connection"))

    def say_last(self, data: bytes) -> bool:
        """Send bytes after a switch of protocols if all that was written before has left; tell whether it has."""
        if self._transport.is_closing() or unsent(self._transport):
            return False
        self._transport.write(data)
        return True

    async def close(self, parser: ResponseParser) -> None:
        """Wait, within a limit, until what was written after a switch of protocols is sent; reading is at its end.

        Nothing can be sent any more, and `finish` closes the socket if this was not enough.
        """
        parser.complete = True
        parser.chunks.clear()
        self._wake()
        self._transport.close()
        await asyncio.wait([self.lost], timeout=self._limits.request_stall_timeout_seconds)

    def finish(self) -> None:
        """End the exchange: idle if everything of it was sent, received and clean, or closed.

        After a switch of protocols it is safe to call twice.
        """
        parser = self._parser
        clean = (
            parser is not None
            and parser.complete
            and parser.reusable
            and self._reusable
            and self._request_sent
            and not self._transport.is_closing()
            and not self._transport.get_write_buffer_size()
        )
        if not clean:
            self.abort()
        self._let_go()
        if clean and self._reading_paused:
            self._resume_reading()
        elif clean:
            self._watch()
        self._wake()
        self._on_released(self)

    def abort(self) -> None:
        """Close the socket now, and drop what is unsent of an exchange; safe to call twice."""
        if self._parser is not None and not (self._parser.complete and self._request_sent):
            discard(self._transport)
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio; the idle time starts."""
        self._transport = cast("asyncio.Transport", transport)
        # Not before: what never connects is never told that it is lost, and must not refer to itself.
        self._deadline = Deadline(self._on_deadline)
        self._unread.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
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
        if parser.complete:
            self._deadline.clear()
        elif parser.head is not None:
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
        self._deadline.close()
        self._wake()
        self._let_write()
        self.lost.set_result(None)
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Called by asyncio; the pump waits."""
        self._writable = self._loop.create_future()
        self._watch()

    def resume_writing(self) -> None:
        """Called by asyncio; the pump goes on."""
        self._let_write()
        self._watch()

    async def _pump_until_answered(
        self,
        parser: ResponseParser,
        pumping: Coroutine[Any, Any, None],
        inform: Callable[[ResponseHead], None] | None,
    ) -> None:
        """Send the body while the head is awaited; a final head stops the sending, whatever is left."""
        pump = self._loop.create_task(pumping, name="upstream request body")
        pump.add_done_callback(self._wake)
        try:
            while parser.head is None and not pump.done():
                await self._next_event()
                parser.tell(inform)
        finally:
            pump.cancel()
            [outcome] = await asyncio.gather(pump, return_exceptions=True)
        parser.tell(inform)
        if parser.head is None and isinstance(outcome, Exception):
            try:
                # On a lost connection the writing fails as well; that is not the error to tell of.
                raise self._fault or outcome
            finally:
                del outcome, pump  # the error, which holds this frame, and who else has it

    async def _pump(self, body: Body, length: int | None, trailers: Trailers | None) -> None:
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
            self._transport.write(encode_end(trailers() if trailers is not None else ()))
        self._end_request()

    def _end_request(self) -> None:
        self._request_sent = True
        self._watch()

    def _switch(self) -> None:
        self.switched = True
        silence = self._limits.websocket_idle_timeout_seconds
        self._between_pieces = (silence, "was silent for `websocket_idle_timeout_seconds`")
        self._watch()

    def _next_event(self) -> asyncio.Future[None]:
        if self._fault is not None:
            raise self._fault
        self._event = self._loop.create_future()
        return self._event

    def _let_write(self) -> None:
        # Whoever waited may have been cancelled, and the waiting with it.
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _wake(self, _: object = None) -> None:
        if self._event is not None and not self._event.done():
            self._event.set_result(None)

    def _fail(self, fault: UpstreamFault, cause: BaseException | None = None) -> None:
        fault.__cause__ = cause
        self._fault = fault
        self.abort()
        self._wake()

    def _let_go(self) -> None:
        # A fault that was raised holds the frames that it went through, and those hold this connection.
        self._parser = self._fault = None

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
            return self._between_pieces
        if self._request_sent:
            return limits.response_timeout_seconds, "did not answer within `response_timeout_seconds`"
        if self._writable is not None:
            return limits.request_stall_timeout_seconds, "left the request body for `request_stall_timeout_seconds`"
        return None

    def _watch(self) -> None:
        """Start the clock of the phase that has just begun."""
        phase = self._phase()
        if phase is None:
            self._deadline.clear()
        else:
            self._deadline.set(phase[0])

    def _on_deadline(self) -> None:
        phase = self._phase()
        if self._parser is None or phase is None:
            self.abort()
            return
        self._fail(UpstreamTimeout(self._says(f"{phase[1]} = {phase[0]:g}: see whether it is stuck or needs more")))
