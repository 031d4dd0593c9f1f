"""The boundary between the front, the handler and the upstream: heads as bytes, bodies as streams.

Nothing here knows aiohttp or httptools, so that either side can be replaced without the other noticing.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import msgspec

Headers = tuple[tuple[bytes, bytes], ...]
"""Header lines as received: order, case and repetition kept; values without surrounding SP and HTAB."""

Body = AsyncIterator[bytes]
"""Chunks of a message body with the framing taken off; never an empty chunk; ends by exhaustion."""

Trailers = Callable[[], Headers]
"""Returns the trailer lines of a chunked body once that is exhausted, and none before or without any."""


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """One request line with its headers."""

    method: bytes
    target: bytes
    """The request target exactly as sent (RFC 9112 section 3.2)."""
    headers: Headers
    version: tuple[int, int] = (1, 1)
    kept: dict[object, Any] = msgspec.field(default_factory=dict)
    """What readers have worked out from `headers`, `version` and the peer alone, each under a key of its own.

    A connection that repeats its header lines hands on the same one, so that it is not worked out again.
    """


class ResponseHead(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One status line with its headers, hop-by-hop lines included."""

    status: int
    reason: bytes
    headers: Headers
    version: tuple[int, int] = (1, 1)


class UpstreamResponse(Protocol):
    """A final response whose head is here and whose body may still be on its way."""

    @property
    def head(self) -> ResponseHead:
        """The status line and headers as received."""

    @property
    def body(self) -> Body:
        """The body without its framing; raises UpstreamFault when the upstream breaks off.

        Reading slowly slows the upstream down: no more than a bounded amount is held in memory.
        """

    def at_hand(self) -> bytes | None:
        """Take the whole body if all of it is here already, and it is small; else None, and nothing is taken."""

    def trailers(self) -> Headers:
        """See `Trailers`. Those that must not stand there (RFC 9110 section 6.5.1) are left out."""

    @property
    def stream(self) -> "ByteStream | None":
        """The raw connection after a 101, with the bytes that came behind its head; None for any other status."""

    async def close(self) -> None:
        """Give the connection back if the message ended cleanly, or close it. Safe to call twice."""


class Upstream(Protocol):
    """The app behind Locum."""

    async def send(
        self,
        head: RequestHead,
        body: Body | None,
        *,
        upgrade: bool = False,
        inform: Callable[[ResponseHead], None] | None = None,
        trailers: Trailers | None = None,
    ) -> UpstreamResponse:
        """Send one request and return once the final response head is here.

        `body` None means no body at all; otherwise the framing follows the head: a `Content-Length` line
        sends that many bytes, anything else is sent chunked, with `trailers` behind it. Interim responses are passed
        over, or given to `inform`, at most 16 and never 100 or 101; they describe the upstream connection, too, in
        their headers.
        With `upgrade` the head may be a WebSocket handshake (RFC 6455 section 4.1), and only to such a one is
        101 with the right `Sec-WebSocket-Accept` an answer: see `UpstreamResponse.stream`.
        Raises UpstreamFault, and what `body` or `inform` raises; nothing of a request is ever sent twice unless it
        was idempotent, had no body, and the reused connection died before a byte of the response.
        """

    def where(self, head: RequestHead) -> str:
        """Return the address, as it is configured, to which `send` sends that."""

    async def close(self) -> None:
        """Close every connection."""


class UpstreamFault(Exception):
    """The upstream's fault: it cannot be reached, is too slow, or does not speak HTTP."""

    status = 502


class UpstreamTimeout(UpstreamFault):
    """The upstream took longer than its limit."""

    status = 504


class Inbound(Protocol):
    """One request of a client, and the way to answer it."""

    @property
    def head(self) -> RequestHead:
        """The request line and headers as received."""

    @property
    def peer(self) -> str:
        """The address of whoever is connected, without port; empty for a Unix socket."""

    @property
    def has_body(self) -> bool:
        """Whether a body is announced."""

    @property
    def is_alone(self) -> bool:
        """Whether no body is announced, and nothing has come behind the request yet."""

    def body(self) -> Body:
        """The body; reading it answers `Expect: 100-continue` (RFC 9110 section 10.1.1), so decide first."""

    def trailers(self) -> Headers:
        """See `Trailers`; as the client sent them."""

    async def respond(
        self, head: ResponseHead, body: Body | bytes | None, *, close: bool = False, trailers: Trailers | None = None
    ) -> None:
        """Send the one response: end-to-end headers only, the framing is added here.

        With a `Content-Length` line the body must have that length; without one it is chunked, with `trailers` behind
        it, or ended by closing for HTTP/1.0. `close` ends the connection afterwards, and nothing behind the request is
        read.
        """

    def inform(self, head: ResponseHead) -> None:
        """Send an interim response ahead of the one response (RFC 9110 section 15.2): end-to-end headers only."""

    async def switch(self, head: ResponseHead) -> "ByteStream":
        """Send a 101 in place of the one response, its `Connection` and `Upgrade` included, and give the stream over.

        Only for a request without a body in HTTP/1.1; the connection ends with the stream.
        """

    async def delivered(self) -> None:
        """Wait until the client's side has all that was sent, or the connection is gone.

        Until then `abort` can still take it back.
        """

    @property
    def received(self) -> int:
        """Bytes of the body that have come."""

    @property
    def sent(self) -> int:
        """Bytes of the response's body that were sent, without those that an `abort` has taken back."""

    @property
    def status(self) -> int | None:
        """The status of the one response once it has begun, 101 for a switch; None before."""

    @property
    def is_stopping(self) -> bool:
        """Whether no further request is read on this connection, because the gateway stops."""

    def abort(self) -> None:
        """Cut the connection now; what the client has not received yet, it does not get."""


class Handler(Protocol):
    """Answers requests."""

    async def __call__(self, inbound: Inbound) -> None:
        """Answer by `inbound.respond`, exactly once."""


class ByteStream(Protocol):
    """A raw connection after a switch of protocols; one reader and one writer at a time."""

    async def read(self) -> bytes:
        """The next bytes as they came, empty at the end; reading slowly slows the other side down."""

    async def write(self, data: bytes) -> None:
        """Send; returns once there is room for more."""

    def say_last(self, data: bytes) -> bool:
        """Send a few bytes at once, before `close`, if all that was written before has left this machine.

        Returns whether it has, as far as the system tells; if not, nothing was sent.
        """

    def abort(self) -> None:
        """Cut the connection now; nothing more is sent."""

    async def close(self) -> None:
        """Send what was written, then close both directions. Safe to call twice."""
