"""The front: aiohttp's low-level server reads requests; responses are written as the bytes they are.

Only public interface of aiohttp is used. Its response objects would add and reorder headers, so the response here
is one that sends nothing of its own, and the head and the framing are written straight to the transport.
"""

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import StreamReader, http_parser, web

from gateway.proxy.wire import Body, Handler, Headers, RequestHead, ResponseHead

log = logging.getLogger(__name__)

MOST_HEADERS = 256
MOST_HEADER_BYTES = 32 * 1024
_IDLE_SECONDS = 75.0
_LINGER_SECONDS = 2.0
_DISCARD = struct.pack("ii", 1, 0)  # linger on, for no time: drop what is unsent, and reset
_BODILESS = frozenset({204, 304})
_UNREADABLE = (
    b'{"type":"urn:locum:problem:malformed","title":"the message cannot be read as HTTP/1.1 in one way","status":400}'
)


class FrontError(Exception):
    """Ours: the front cannot be started safely."""


def require_c_parser() -> None:
    """Raise FrontError unless aiohttp's C parser is in place: the other one reads some messages as two."""
    if http_parser.HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise FrontError("aiohttp's C parser is missing: install aiohttp from a wheel and unset AIOHTTP_NO_EXTENSIONS")


def make_server(handler: Handler) -> web.Server:
    """Return the protocol factory that hands each request to `handler`; raises FrontError without the C parser."""
    require_c_parser()
    keep, close = _Sent(keep_alive=True), _Sent(keep_alive=False)

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        inbound = ClientRequest(request)
        if isinstance(request.protocol, _Connection):
            request.protocol.read_body(request.content)
        try:
            await handler(inbound)
        except ConnectionError:
            inbound.abort()
        except Exception:
            # Whatever it was, nothing more of this request may go anywhere, nor anything behind it.
            log.exception("a request failed inside the gateway")
            await inbound.fail()
        return keep if inbound.reusable else close

    return _Server(serve, handler_cancellation=True)


class ClientRequest:
    """One request as aiohttp read it; implements Inbound."""

    __slots__ = ("_request", "_started", "head", "reusable")

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._started = False
        self.reusable = False
        version = request.version
        self.head = RequestHead(
            method=request.method.encode("ascii", "surrogateescape"),
            target=request.raw_path.encode("utf-8", "surrogateescape"),
            headers=request.raw_headers,
            version=(version.major, version.minor),
        )

    @property
    def peer(self) -> str:
        """See Inbound."""
        return self._request.remote or ""

    @property
    def has_body(self) -> bool:
        """See Inbound."""
        return self._request.body_exists

    def body(self) -> Body:
        """See Inbound."""
        return self._read()

    async def respond(self, head: ResponseHead, body: Body | None, *, close: bool = False) -> None:
        """See Inbound."""
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        self._started = True
        bodiless = self.head.method == b"HEAD" or head.status in _BODILESS or head.status < 200
        length = any(name.lower() == b"content-length" for name, _ in head.headers)
        chunked = not bodiless and not length and self.head.version >= (1, 1)
        # aiohttp's parser stops at an Upgrade that is not made (`h2c`, which Java's client sends each time): what comes
        # behind it on this connection might never be read.
        upgrade = any(name.lower() == b"upgrade" for name, _ in self.head.headers)
        keep = not (close or upgrade) and self._request.keep_alive and (bodiless or length or chunked)
        transport.write(_head_bytes(head, self._framing(keep=keep, chunked=chunked)))
        if body is not None and not bodiless:
            await self._write(body, transport, chunked=chunked)
        self.reusable = keep

    def abort(self) -> None:
        """See Inbound."""
        self.reusable = False
        transport = self._request.transport
        if transport is None:
            return
        raw = transport.get_extra_info("socket")
        if raw is not None:
            # A plain close would let the kernel go on delivering what a slow reader has not taken yet.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
        transport.abort()

    async def fail(self) -> None:
        """Answer 500 if nothing was answered yet, and end the connection either way."""
        if self._started or self._request.transport is None:
            self.abort()
            return
        head = ResponseHead(status=500, reason=b"Internal Server Error", headers=((b"Content-Length", b"0"),))
        await self.respond(head, None, close=True)

    def _framing(self, *, keep: bool, chunked: bool) -> Headers:
        lines: Headers = ((b"Transfer-Encoding", b"chunked"),) if chunked else ()
        if not keep:
            return (*lines, (b"Connection", b"close"))
        return lines if self.head.version >= (1, 1) else (*lines, (b"Connection", b"keep-alive"))

    async def _read(self) -> AsyncIterator[bytes]:
        expects = any(name.lower() == b"expect" for name, _ in self.head.headers)
        if expects and not self._started and self._request.transport is not None and self.head.version >= (1, 1):
            self._request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            async for chunk in self._request.content.iter_any():
                yield chunk
        except web.RequestPayloadError as exc:
            raise ConnectionResetError("the client broke its own framing") from exc

    async def _write(self, body: Body, transport: asyncio.WriteTransport, *, chunked: bool) -> None:
        async for chunk in body:
            if transport.is_closing():
                raise ConnectionResetError("the client has gone")
            if chunked:
                transport.writelines((b"%x\r\n" % len(chunk), chunk, b"\r\n"))
            else:
                transport.write(chunk)
            if transport.get_write_buffer_size():
                # Waits only while the transport holds more than its high-water mark.
                await self._request.writer.drain()
        if chunked:
            transport.write(b"0\r\n\r\n")


class _Server(web.Server):
    """Makes the connections itself: the base class would go on without any of these limits if one were misspelt."""

    def __call__(self) -> web.RequestHandler:
        limits: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": _IDLE_SECONDS,
            "lingering_time": _LINGER_SECONDS,
            "max_line_size": MOST_HEADER_BYTES,
            "max_field_size": MOST_HEADER_BYTES,
            "max_headers": MOST_HEADERS,
        }
        return _Connection(self, loop=asyncio.get_running_loop(), **limits)


class _Connection(web.RequestHandler):
    """What the parser cannot read may hold a credential, so neither the answer nor the log repeats any of it."""

    __slots__ = ("_body",)

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._body: StreamReader | None = None

    def read_body(self, body: StreamReader) -> None:
        """Watch over the body of the request that is answered from now on."""
        self._body = body
        self._end_broken_body()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio; reads on."""
        super().data_received(data)
        self._end_broken_body()

    def _end_broken_body(self) -> None:
        # The one private part that is used: where the framing of a body breaks, the parser gives it up without a word
        # to whoever reads it, and queues the error behind the request that then waits for ever.
        if self._messages and hasattr(self._messages[-1][0], "exc") and self._body and not self._body.is_eof():
            self._body.set_exception(web.RequestPayloadError("the framing of the body is broken"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the bytes that could not be read
    ) -> web.StreamResponse:
        """Answer a message that is not HTTP, and close."""
        log.info("a message from %s cannot be read: %s", request.remote, type(exc).__name__)
        answer = web.Response(status=status, body=_UNREADABLE, content_type="application/problem+json")
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **_: Any) -> None:
        """Name the fault without its text."""
        log.warning("a connection ended: %s: %s", args[0], type(sys.exception()).__name__)


class _Sent(web.StreamResponse):
    """Stands for a response whose bytes are on their way already."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keeps = keep_alive

    @property
    def keep_alive(self) -> bool:
        """Whether the next request is read from this connection."""
        return self._keeps

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send nothing: the head has been written."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Send nothing: the body has been written."""


def _head_bytes(head: ResponseHead, framing: Headers) -> bytes:
    lines = [b"HTTP/1.1 %d %s" % (head.status, head.reason)]
    lines.extend(name + b": " + value for name, value in head.headers)
    lines.extend(name + b": " + value for name, value in framing)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)
