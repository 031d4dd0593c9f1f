"""One request of a client while it is answered: its body as it is read, its response as it is written."""

from collections.abc import Callable
from typing import Protocol

from gateway.proxy.flow import Inbox, Outbox
from gateway.proxy.head import Framing
from gateway.proxy.lines import encode_end, join_lines
from gateway.proxy.wire import Body, ByteStream, Headers, RequestHead, ResponseHead, Trailers

_BODILESS = frozenset({204, 304})
_EMPTY: Headers = ((b"Content-Length", b"0"),)
_CHUNKED: Headers = ((b"Transfer-Encoding", b"chunked"),)
_CLOSE: Headers = ((b"Connection", b"close"),)
_KEEP_ALIVE: Headers = ((b"Connection", b"keep-alive"),)


class Line(Protocol):
    """What a request needs of the connection that it came on."""

    @property
    def outbox(self) -> Outbox:
        """The way to the client."""

    @property
    def peer(self) -> str:
        """The client's address, empty for a Unix socket."""

    @property
    def stopping(self) -> bool:
        """Whether no further request will be read."""

    @property
    def has_more(self) -> bool:
        """Whether bytes wait, of a body or behind the request."""

    def abort(self, *, by_handler: bool = False) -> None:
        """Cut the connection now; a handler that did not ask for it ends with it."""

    def close(self) -> None:
        """Send what was written, then close."""

    async def delivered(self) -> None:
        """Wait until the client's side has all that was written, or the connection is gone."""

    @property
    def on_switch(self) -> Callable[[], None]:
        """To be called before a switch of protocols; it may raise ClientFault."""

    def unsent(self) -> int:
        """How many of the written bytes can still be taken back, as far as the system tells."""

    def open_stream(self) -> Inbox:
        """Stop reading requests; what came behind the last one, and all that comes, goes here."""


class ClientRequest:
    """One request; implements Inbound, and is the iterator over its own body."""

    __slots__ = (
        "_expects",
        "_framing",
        "_inbox",
        "_line",
        "has_body",
        "head",
        "peer",
        "reusable",
        "sent",
        "settled",
        "started",
        "status",
    )

    def __init__(self, line: Line, head: RequestHead, framing: Framing, inbox: Inbox | None) -> None:
        """Take the body from `inbox`; None means that there is none."""
        self.head = head
        self.peer = line.peer
        self.has_body = inbox is not None
        self.started = False
        """Whether a response has begun."""
        self.reusable = False
        """Whether another request may follow; valid once the response has ended."""
        self.settled = False
        """Set when the handler has returned: from then on the connection is another request's."""
        self.sent = 0
        """See Inbound."""
        self.status: int | None = None
        """See Inbound."""
        self._line = line
        self._framing = framing
        self._inbox = inbox
        self._expects = framing.expects_continue

    @property
    def is_alone(self) -> bool:
        """See Inbound."""
        return not self.has_body and not self._line.has_more

    @property
    def is_stopping(self) -> bool:
        """See Inbound."""
        return self._line.stopping

    @property
    def received(self) -> int:
        """See Inbound."""
        return self._inbox.received if self._inbox is not None else 0

    def body(self) -> Body:
        """See Inbound; the same iterator every time. It raises ClientFault for a body that breaks off."""
        return self

    def trailers(self) -> Headers:
        """See Inbound."""
        return self._inbox.trailers if self._inbox is not None and self._inbox.ended else ()

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        if self._inbox is None:
            raise StopAsyncIteration
        if self._expects:
            self._expects = False
            if not self.started and not self._inbox.ended:
                self._line.outbox.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunk = await self._inbox.take()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def respond(
        self, head: ResponseHead, body: Body | bytes | None, *, close: bool = False, trailers: Trailers | None = None
    ) -> None:
        """See Inbound; raises ValueError if the head, or a body of another length, would spoil what follows it."""
        if head.status < 200:
            raise ValueError(f"a response with status {head.status} is not final")
        bodiless = self.head.method == b"HEAD" or head.status in _BODILESS
        length = _content_length(head.headers)
        if head.status == 204 and length is not None:
            head = _without_length(head)
        lines: Headers = ()
        if body is None and not bodiless:
            if length:
                raise ValueError("a response announces a body and has none")
            lines, length, body = _EMPTY if length is None else (), 0, b""
        elif length is None and not bodiless and self.head.version == (1, 1):
            lines = _CHUNKED
        chunked = lines is _CHUNKED
        keep = not close and (bodiless or length is not None or chunked) and self._may_keep()
        raw = _encode(
            head, lines if keep and self.head.version == (1, 1) else lines + (_KEEP_ALIVE if keep else _CLOSE)
        )
        outbox = self._begin(head.status)
        if bodiless or body is None:
            outbox.write(raw)
        elif isinstance(body, bytes):
            outbox.write(raw + _whole(body, length, chunked=chunked))
            self.sent = len(body)
        else:
            outbox.hold(raw)
            await self._send(outbox, body, length, trailers, chunked=chunked)
        if outbox.paused:
            await outbox.drain()
        self.reusable = keep

    def _may_keep(self) -> bool:
        # A body that is not all here might come and be read as the next request; one that was not asked for might not
        # come, and the next request be read as it.
        read = self._inbox is None or (self._inbox.ended and not self._expects)
        return read and self._framing.persistent and not self._line.stopping

    def inform(self, head: ResponseHead) -> None:
        """Send an interim response, such as 103, ahead of the final one; HTTP/1.0 has none, so it hears nothing.

        Raises ValueError for another status or behind the final one, ConnectionResetError if the client has gone.
        """
        if not 100 <= head.status < 200 or head.status == 101 or self.started:
            raise ValueError(f"a response with status {head.status} cannot be sent here as an interim one")
        if self.head.version == (1, 1):
            self._expects = self._expects and head.status != 100
            self._line.outbox.write(_encode(head, ()))

    async def switch(self, head: ResponseHead) -> ByteStream:
        """Send a 101 head as it is, and give over the connection with the bytes that came behind the request.

        For a request without a body; the connection ends with the stream. Raises ValueError for anything else, and
        ClientFault for one more than the peer may have.
        """
        if head.status != 101 or self.has_body or self.head.version == (1, 0):
            raise ValueError("only 101 switches protocols, in HTTP/1.1 and without a body")
        self._line.on_switch()
        raw = _encode(head, ())
        outbox = self._begin(head.status)
        outbox.write(raw)
        await outbox.drain()
        self._inbox = self._line.open_stream()
        return ClientStream(self._line, self._inbox, self)

    async def delivered(self) -> None:
        """See Inbound."""
        await self._line.delivered()

    def abort(self) -> None:
        """See Inbound; does nothing once the request is settled."""
        if not self.settled:
            self.sent = max(0, self.sent - self._line.unsent())
            self._line.abort()

    def _begin(self, status: int) -> Outbox:
        if self.started or self.settled:
            raise RuntimeError("a request is answered exactly once, by its handler and before that returns")
        self.started = True
        self.status = status
        return self._line.outbox

    async def _send(
        self, outbox: Outbox, body: Body, length: int | None, trailers: Trailers | None, *, chunked: bool
    ) -> None:
        async for chunk in body:
            if not chunk:
                continue  # as a chunk of its own it would end the message
            if length is not None and self.sent + len(chunk) > length:
                raise ValueError("a response body is longer than its Content-Length")
            outbox.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            self.sent += len(chunk)
            if outbox.paused:
                await outbox.drain()
        if length is not None and self.sent < length:
            raise ValueError("a response body is shorter than its Content-Length")
        if chunked:
            outbox.write(encode_end(trailers() if trailers is not None else ()))


class ClientStream:
    """A client's raw connection; implements ByteStream."""

    __slots__ = ("_inbox", "_line", "_request")

    def __init__(self, line: Line, inbox: Inbox, request: ClientRequest) -> None:
        """Count what is sent as the `request`'s."""
        self._line = line
        self._inbox = inbox
        self._request = request

    async def read(self) -> bytes:
        """See ByteStream; raises ConnectionResetError if the connection broke."""
        return await self._inbox.take()

    async def write(self, data: bytes) -> None:
        """See ByteStream; raises ConnectionResetError if the client has gone."""
        self._line.outbox.write(data)
        self._request.sent += len(data)
        await self._line.outbox.drain()

    def say_last(self, data: bytes) -> bool:
        """See ByteStream."""
        if self._line.unsent():
            return False
        try:
            self._line.outbox.write(data)
        except ConnectionResetError:
            return False
        return True

    def abort(self) -> None:
        """See ByteStream."""
        self._request.sent = max(0, self._request.sent - self._line.unsent())
        self._line.abort(by_handler=True)

    async def close(self) -> None:
        """See ByteStream; does not wait for the client."""
        self._line.close()


def _encode(head: ResponseHead, framing: Headers) -> bytes:
    """Write a head, byte for byte."""
    first = b"HTTP/1.1 %d %b" % (head.status, head.reason)
    return join_lines((first, *map(b": ".join, head.headers), *map(b": ".join, framing)), "a response head")


def _whole(content: bytes, length: int | None, *, chunked: bool) -> bytes:
    if length is not None and length != len(content):
        raise ValueError("a response body has another length than its Content-Length")
    if not chunked:
        return content
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if content else b"0\r\n\r\n"


def _without_length(head: ResponseHead) -> ResponseHead:
    """RFC 9110 section 8.6: a 204 has no Content-Length; some clients would wait for what it announces."""
    kept = tuple(line for line in head.headers if line[0].lower() != b"content-length")
    return ResponseHead(status=head.status, reason=head.reason, headers=kept)


def _content_length(headers: Headers) -> int | None:
    # The length is compared first because it is cheap and this is every header of every response.
    found = [value for name, value in headers if len(name) == 14 and name.lower() == b"content-length"]
    if not found:
        return None
    if len(found) > 1 or not found[0].isdigit():
        raise ValueError("a response has an ambiguous Content-Length")
    return int(found[0])
