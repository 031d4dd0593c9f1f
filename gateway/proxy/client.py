"""One connection of a client, which carries one request after another and is closed at the first fault."""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final, cast

from gateway.proxy import replies
from gateway.proxy.deadline import Deadline
from gateway.proxy.flow import Inbox, Outbox
from gateway.proxy.head import ClientFault, Framing
from gateway.proxy.inbound import ClientRequest
from gateway.proxy.intake import Intake
from gateway.proxy.limits import ClientLimits
from gateway.proxy.phase import Phase
from gateway.proxy.sockets import discard, undelivered, unsent
from gateway.proxy.taking import Taking
from gateway.proxy.wire import Handler, RequestHead

log = logging.getLogger(__name__)

HIGH_WATER_BYTES = 64 * 1024
"""More than this of a body that is being read stops the reading from the socket; a quarter of it starts it again."""
FIRST_BYTES = 8 * 1024
"""So much is read at a time of what nobody asks for yet, and half of it waiting stops that: to hold as much as of what
goes through would be far too much, of the body of each request that waits for its turn, and of what is behind one."""
MAX_LINGER_BYTES = 1024 * 1024
"""More than this thrown away behind the last response, and the client is not waited for."""

_NOBODY: Final = asyncio.BufferedProtocol()
_LOOK_SECONDS = 0.005
_LONGEST_LOOK_SECONDS = 0.25

# To look a member up costs as much as to parse a short head.
_IDLE: Final = Phase.IDLE
_HEAD: Final = Phase.HEAD
_ACTIVE: Final = Phase.ACTIVE
_STREAM: Final = Phase.STREAM
_CLOSING: Final = Phase.CLOSING


class ClientConnection(asyncio.BufferedProtocol):
    """HTTP/1.1 as a server, strictly.

    One task per connection answers its requests in order. While a request is being answered, an end of what the client
    sends is taken for its going away: the task is cancelled.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        limits: ClientLimits,
        space: memoryview,
        on_made: Callable[["ClientConnection"], None],
        on_lost: Callable[["ClientConnection"], None],
        on_switch: Callable[[], None],
    ) -> None:
        """Call `on_made` when the peer is known, `on_lost` when the socket is closed and no handler runs any more.

        `on_switch` is called before a switch of protocols, and may raise ClientFault. The `space` is what is read into,
        for no longer than a call, so that all connections of a loop share one; its length is the most that is read.
        """
        self.peer = ""
        self.on_switch = on_switch
        self.outbox: Outbox
        self.stopping = False
        """Set by `stop`."""
        self._handler = handler
        self._limits = limits
        self._space = space
        self._on_made = on_made
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._deadline: Deadline
        self._transport: asyncio.Transport
        self._phase: Phase = _IDLE
        self._intake: Intake
        self._stream: Inbox | None = None
        self._request: ClientRequest | None = None
        self._turn: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        """Whether the client has ended its direction."""
        self._ends_itself = False
        """Whether the handler has ended the connection, and may go on to its own end."""
        self._lost = False
        self._reading_paused = False
        self._lingered = 0
        self._taking = Taking(self._loop, limits)

    @property
    def has_more(self) -> bool:
        """See `inbound.Line`."""
        return self._intake.buffered > 0

    @property
    def idle_since(self) -> float:
        """Since when it waits for a request, by the loop's clock; infinite if it does not."""
        return self._deadline.at - self._limits.idle_timeout_seconds if self._phase is _IDLE else math.inf

    def stop(self) -> None:
        """Close at once if no request is being answered, else behind its response."""
        self.stopping = True
        if self._phase in (_IDLE, _HEAD):
            self._phase = _CLOSING
            self._transport.close()
            self._watch()

    def refuse(self, fault: ClientFault, *, kind: str = "malformed") -> None:
        """Answer what cannot be read, or is too much, and close; `kind` ends the stable problem type."""
        log.info("a connection from %s ends with %d: %s", self.peer, fault.status, fault.title)
        self._end_with(fault.status, fault.title, kind)

    def abort(self, *, by_handler: bool = False) -> None:
        """Reset the connection now, and end the handler, unless it is the handler that asks for it."""
        if by_handler or asyncio.current_task(self._loop) is self._task:
            self._ends_itself = True
        if not self._lost:
            discard(self._transport)
        self._transport.abort()

    def close(self) -> None:
        """Send what was written, then close, with a little time for the client to read it; safe to call twice.

        Without that time, what still comes in would make the kernel reset the connection and take the answer along.
        """
        self._ends_itself = True
        if self._phase is _CLOSING:
            return
        self._phase = _CLOSING
        self._intake.take_rest()
        if self._ended or not self._transport.can_write_eof():
            self._transport.close()
        elif not self._transport.is_closing():
            self._transport.write_eof()
            self._read(on=True)
        self._watch()

    def open_stream(self) -> Inbox:
        """See `inbound.Line`."""
        self._phase = _STREAM
        self._stream = Inbox(self._loop, self._attend)
        if early := self._intake.take_rest():
            self._stream.put(early)
        self._attend()
        return self._stream

    def unsent(self) -> int:
        """See `inbound.Line`."""
        return 0 if self._lost else unsent(self._transport)

    async def delivered(self) -> None:
        """See `inbound.Line`."""
        await asyncio.sleep(0)
        pause, taking = _LOOK_SECONDS, Taking(self._loop, self._limits)
        while not self._lost and (left := undelivered(self._transport)):
            if not taking.goes_on(left):
                self.abort()
            await asyncio.sleep(pause)  # nobody tells of it
            pause = min(2 * pause, _LONGEST_LOOK_SECONDS)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio; the idle time starts."""
        self._transport = cast("asyncio.Transport", transport)
        self.outbox = Outbox(self._loop, self._transport)
        # Not before: of what fails at its TLS handshake nobody says that it is lost, and it must not refer to itself.
        self._deadline = Deadline(self._expire)
        limits = self._limits
        self._intake = Intake(
            lambda: Inbox(self._loop, self._attend), max_bytes=limits.header_bytes, max_lines=limits.header_lines
        )
        self._room = HIGH_WATER_BYTES if self._transport.can_write_eof() else 1  # a TLS record may be a byte
        name = transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else ""
        self._watch()
        self._on_made(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Called by asyncio; no more is read at a time than may wait, except for a reader who does."""
        inbox = self._asked_for()
        if inbox is None:
            return self._space[:FIRST_BYTES]
        most = self._intake.at_once
        return self._space[: most if inbox.is_awaited else min(most, HIGH_WATER_BYTES)]

    def buffer_updated(self, nbytes: int) -> None:
        """Called by asyncio."""
        self.data_received(bytes(self._space[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Read on, or refuse at the first fault; `data` is not empty."""
        phase = self._phase
        if phase is _IDLE or phase is _HEAD:
            self._intake.feed(data)
            self._advance()
            if len(data) >= FIRST_BYTES and self._phase is _ACTIVE:
                self._attend()
        elif phase is _ACTIVE:
            self._intake.feed(data)
            self._attend()
        elif phase is _STREAM and self._stream is not None:
            self._stream.put(data)
            self._attend()
        else:
            self._lingered += len(data)
            if self._lingered > MAX_LINGER_BYTES:
                self._transport.abort()

    def eof_received(self) -> bool:
        """Called by asyncio; closes, but leaves the other direction of a stream open."""
        self._ended = True
        if self._phase is _STREAM and self._stream is not None:
            self._stream.end()
            return self._transport.can_write_eof()  # TLS ends both directions at once
        if self._phase is _ACTIVE:
            self._transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Called by asyncio; whatever is still under way ends."""
        self._lost = True
        self._phase = _CLOSING
        self._deadline.close()
        self.outbox.resume()
        self._intake.close()
        if self._stream is not None:
            self._stream.close()
        if self._task is None:
            self._end()
        elif self._request is None or not self._ends_itself:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Called by asyncio; the writer waits."""
        self.outbox.pause()
        self._watch()

    def resume_writing(self) -> None:
        """Called by asyncio; the writer goes on."""
        self.outbox.resume()
        self._watch()

    def _advance(self) -> None:
        """Begin the next request if its head is here; otherwise wait for the rest of it."""
        try:
            cut = self._intake.cut_head()
        except ClientFault as fault:
            self.refuse(fault)
            return
        if cut is not None:
            self._begin(*cut)
        elif self._phase is _IDLE and self._intake.has_begun:
            # The time of a head counts from its first byte, so the bytes behind that do not start it again.
            self._phase = _HEAD
            self._watch()

    def _begin(self, head: RequestHead, framing: Framing) -> None:
        self._phase = _ACTIVE
        self._deadline.clear()
        self._request = ClientRequest(self, head, framing, self._intake.inbox)
        if self._task is None:
            self._task = self._loop.create_task(self._serve(), name="client connection")
            self._task.add_done_callback(self._served)
        elif self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    async def _serve(self) -> None:
        while (request := self._request) is not None:
            await self._answer(request)
            request.settled = True
            if not request.started and self._phase is _ACTIVE and not self._transport.is_closing():
                log.error("a handler has returned without an answer")
                self._end_with(500, "the gateway could not answer", "failed")
            if self._phase is not _ACTIVE or not request.reusable or self.stopping:
                return
            self._request = None
            self._phase = _IDLE
            self._taking.forget()
            self._deadline.set(self._limits.idle_timeout_seconds)
            if self._intake.buffered:
                self._advance()
                self._attend()
            if self._request is None:
                self._turn = self._loop.create_future()
                await self._turn

    async def _answer(self, request: ClientRequest) -> None:
        try:
            await self._handler(request)
        except ClientFault as fault:
            if request.started:
                self.abort()
            else:
                self.refuse(fault)
        except ConnectionError:
            self.abort()
        except Exception:
            # Whatever it was, nothing more of this request may go anywhere, nor anything behind it.
            log.exception("a request failed inside the gateway")
            if request.started:
                self.abort()
            else:
                self._end_with(500, "the gateway could not answer", "failed")

    def _served(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            self._transport.abort()
        elif (error := task.exception()) is not None:
            log.error("a connection failed inside the gateway", exc_info=error)
            self._transport.abort()
        else:
            self.close()
        if self._lost:
            self._end()

    def _end(self) -> None:
        """Refer to nothing that refers back, so that no memory waits for the cycle collector: it may take long."""
        for inbox in (self._intake.inbox, self._stream):
            if inbox is not None:
                inbox.close()
        self._request = None
        # What speaks TLS remembers whom it has read for.
        self._transport.set_protocol(_NOBODY)
        self._on_lost(self)

    def _end_with(self, status: int, title: str, kind: str) -> None:
        """Say why it ends, and close; nothing of a request is ever repeated in the answer."""
        if not self._transport.is_closing():
            self._transport.write(replies.last(status, title, kind=kind))
        self.close()

    def _attend(self) -> None:
        """Read on while there is room, for one piece of what takes long to read; watch the time of who waits for it."""
        waiting = self._intake.buffered if self._stream is None else self._stream.buffered
        room = self._room if self._intake.at_once >= HIGH_WATER_BYTES else 1
        if self._asked_for() is None:
            room = FIRST_BYTES // 2
        if self._phase is _HEAD or waiting <= room // 4:
            self._read(on=True)
        elif waiting >= room:
            self._read(on=False)
        self._watch()

    def _asked_for(self) -> Inbox | None:
        inbox = self._intake.inbox if self._stream is None else self._stream
        return None if inbox is None or inbox.ended or not inbox.asked else inbox

    def _read(self, *, on: bool) -> None:
        if on is not self._reading_paused or self._transport.is_closing():
            return
        self._reading_paused = not on
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _watch(self) -> None:
        """Start the time of what is being waited for from now on."""
        self._taking.forget()
        if self.outbox.paused and (unsent := undelivered(self._transport)):
            self._taking.goes_on(unsent)
        self._deadline.set(self._patience())

    def _patience(self) -> float:
        limits = self._limits
        if self._phase is _IDLE:
            return limits.idle_timeout_seconds
        if self._phase is _HEAD:
            return limits.header_timeout_seconds
        if self._phase is _CLOSING:
            return limits.linger_timeout_seconds
        if self.outbox.paused:
            return limits.write_stall_timeout_seconds
        inbox = self._intake.inbox
        if self._phase is _ACTIVE and inbox is not None and inbox.is_awaited:
            earned = inbox.received / limits.min_bytes_per_second
            return max(0, limits.body_idle_timeout_seconds + min(0, earned - inbox.waited))
        return math.inf

    def _expire(self) -> None:
        """End what has taken too long; but a client that still takes what was written is only slow."""
        unsent = undelivered(self._transport)
        if self._phase is _HEAD:
            self.refuse(ClientFault(status=408, title="send the head of a request at once"))
        elif self._phase is _ACTIVE and not self.outbox.paused:
            self._intake.fail(ClientFault(status=408, title="send the body of a request without long pauses"))
        elif unsent and self._taking.goes_on(unsent):
            self._deadline.set(self._patience())
        elif unsent:
            self.abort()
        else:
            self._transport.abort()
