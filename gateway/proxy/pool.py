"""The connections to the upstream: how many, which one next, and which request may be sent a second time."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.proxy.answer import Response
from gateway.proxy.connection import Connection, ConnectionDied
from gateway.proxy.limits import PoolLimits
from gateway.proxy.response import ResponseParser
from gateway.proxy.turns import Turns
from gateway.proxy.wire import Body, RequestHead, ResponseHead, Trailers, UpstreamFault, UpstreamTimeout

_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAddress:
    """Where the upstream listens: a host and port, or a Unix socket."""

    url: str
    """As it was configured, for messages."""
    host: str = ""
    port: int = 0
    path: str | None = None
    """Of the Unix socket, instead of host and port."""
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    """Whom the certificate must name instead of the host."""


def parse_upstream_url(url: str, *, tls: ssl.SSLContext | None = None, server_name: str = "") -> UpstreamAddress:
    """Read `http://HOST[:PORT]`, `https://HOST[:PORT]` (with its `tls` context) or `unix:/PATH`; raises ValueError.

    The certificate must name `server_name`, or the URL's host if that is empty.
    Anything more, such as a path or a user, is refused: the request target goes through as it came.
    """
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        if not path.startswith("/") or path.startswith("//") or "\0" in path or tls is not None:
            raise ValueError(f"upstream URL `{url}`: write it as unix:/path/of.sock, without TLS")
        return UpstreamAddress(url=url, path=path)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError(f"upstream URL `{url}`: {exc}") from exc
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"upstream URL `{url}`: write it as http://host:port, https://host:port or unix:/path")
    if "@" in parts.netloc or parts.path not in ("", "/") or "?" in url or "#" in url or port == 0:
        raise ValueError(f"upstream URL `{url}`: leave only the scheme, the host and the port")
    if (parts.scheme == "https") != (tls is not None):
        raise ValueError(f"upstream URL `{url}`: a TLS context goes with https, and only with it")
    return UpstreamAddress(url=url, host=host, port=port or (443 if tls else 80), tls=tls, server_name=server_name)


class _Way:
    """What pools to one address have in common: its bounds, and whether it can be reached."""

    __slots__ = ("closed", "open", "switched", "turns", "unreachable_until")

    def __init__(self, limits: PoolLimits) -> None:
        self.turns = Turns(limits.max_connections)
        self.open: set[Connection] = set()
        self.switched: set[Connection] = set()
        self.unreachable_until = 0.0
        self.closed = False


class Pool:
    """An `Upstream` behind one address; belongs to the event loop it is used in."""

    def __init__(
        self,
        address: UpstreamAddress,
        *,
        limits: PoolLimits,
        on_fault: Callable[[UpstreamFault], None] = lambda _fault: None,
    ) -> None:
        """Connect to nothing yet; `on_fault` is called before `send` raises one."""
        self._on_fault = on_fault
        self._address = address
        self._limits = limits
        self._way = _Way(limits)
        self._idle: list[Connection] = []

    def apart(self) -> "Pool":
        """Return another pool to the same address that never uses a connection of this one, nor this one of its.

        The bounds hold for both together, but for `max_idle`. Whoever closes one closes both.
        """
        other = Pool(self._address, limits=self._limits, on_fault=self._on_fault)
        other._way = self._way
        return other

    @property
    def open_count(self) -> int:
        """How many connections there are, in use or idle."""
        return len(self._way.open)

    async def send(
        self,
        head: RequestHead,
        body: Body | None,
        *,
        upgrade: bool = False,
        inform: Callable[[ResponseHead], None] | None = None,
        trailers: Trailers | None = None,
    ) -> Response:
        """See `Upstream.send`; also raises ValueError for a head that does not fit its body.

        Two kinds of answer cost their connection although nothing is wrong with them: any but 101 to an upgrade, and
        one to HEAD, or a 304, that announces a body, which may follow at any later time.
        """
        if upgrade and len(self._way.switched) >= self._limits.max_websockets:
            raise self._counted(
                UpstreamFault(
                    f"{self._limits.max_websockets} connections to upstream `{self._address.url}` have switched"
                    " protocols: see whether clients leave them open, or raise `max_websockets`"
                )
            )
        if not self._way.turns.take_free():
            await self._wait_for_turn()
        try:
            connection = self._take_idle()
            if connection is not None:
                try:
                    answer = await connection.exchange(head, body, upgrade=upgrade, inform=inform, trailers=trailers)
                    return self._respond(connection, *answer)
                except ConnectionDied:
                    # RFC 9112 section 9.3.1: only what is idempotent, and only if nothing of an answer was seen.
                    if body is not None or head.method not in _REPEATABLE:
                        raise
            connection = await self._connect()
            answer = await connection.exchange(head, body, upgrade=upgrade, inform=inform, trailers=trailers)
            return self._respond(connection, *answer)
        except BaseException as exc:
            self._way.turns.give_back()
            if isinstance(exc, UpstreamFault):
                self._counted(exc)
            raise

    def where(self, head: RequestHead) -> str:  # noqa: ARG002 - it is one for all
        """See `Upstream.where`."""
        return self._address.url

    def _counted(self, fault: UpstreamFault) -> UpstreamFault:
        self._on_fault(fault)
        return fault

    async def close(self) -> None:
        """Close every connection, also those with an exchange under way, and wait until they are."""
        self._way.closed = True
        for connection in self._way.open:
            connection.abort()
        if self._way.open:
            await asyncio.wait([connection.lost for connection in self._way.open])

    async def _wait_for_turn(self) -> None:
        try:
            async with asyncio.timeout(self._limits.queue_timeout_seconds):
                await self._way.turns.wait()
        except TimeoutError as exc:
            raise self._counted(
                UpstreamTimeout(
                    f"all {self._limits.max_connections} connections to upstream `{self._address.url}` are busy: "
                    "see whether it is slow, or raise `max_connections`"
                )
            ) from exc

    def _respond(self, connection: Connection, head: ResponseHead, parser: ResponseParser) -> Response:
        if connection.switched:
            self._way.turns.give_back()
            if not connection.lost.done():
                self._way.switched.add(connection)
        return Response(connection, head, parser)

    def _take_idle(self) -> Connection | None:
        # The last one used is the least likely to be closed by the upstream, and lets the others grow old.
        while self._idle:
            connection = self._idle.pop()
            if connection.is_idle and connection.is_quiet:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        address, loop = self._address, asyncio.get_running_loop()
        now, pause = loop.time(), self._limits.unreachable_pause_seconds
        if now < self._way.unreachable_until:
            raise UpstreamFault(
                f"no connection to upstream `{address.url}` a moment ago: check that it is running and the URL is right"
            )
        if self._way.unreachable_until:
            self._way.unreachable_until = now + pause
        try:
            async with asyncio.timeout(self._limits.connect_timeout_seconds):
                if address.path is not None:
                    _, connection = await loop.create_unix_connection(self._new_connection, address.path)
                else:
                    _, connection = await loop.create_connection(
                        self._new_connection,
                        address.host,
                        address.port,
                        ssl=address.tls,
                        server_hostname=(address.server_name or address.host) if address.tls else None,
                    )
        except TimeoutError as exc:
            self._way.unreachable_until = loop.time() + pause
            raise UpstreamTimeout(
                f"no connection to upstream `{address.url}` within `connect_timeout_seconds` = "
                f"{self._limits.connect_timeout_seconds:g}: check that it is running and within reach"
            ) from exc
        except OSError as exc:
            # A Unix socket with a full backlog says so at once (EAGAIN); that one is alive.
            if not isinstance(exc, BlockingIOError):
                self._way.unreachable_until = loop.time() + pause
            raise UpstreamFault(
                f"no connection to upstream `{address.url}` ({exc}): check that it is running and the URL is right"
            ) from exc
        self._way.unreachable_until = 0.0
        # A connection that is lost already has been forgotten, too, and must not be remembered now.
        if not connection.lost.done():
            self._way.open.add(connection)
        if self._way.closed:
            connection.abort()
            raise UpstreamFault(f"no connection to upstream `{address.url}`: shutting down")
        return connection

    def _new_connection(self) -> Connection:
        return Connection(self._address.url, limits=self._limits, on_released=self._put_back, on_lost=self._forget)

    def _put_back(self, connection: Connection) -> None:
        if connection.switched:
            return
        self._way.turns.give_back()
        if not connection.is_idle:
            return
        if (
            self._way.closed
            or len(self._idle) >= self._limits.max_idle
            or connection.age > self._limits.max_age_seconds
        ):
            connection.abort()
        else:
            self._idle.append(connection)

    def _forget(self, connection: Connection) -> None:
        self._way.open.discard(connection)
        self._way.switched.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
