"""The connections to the upstream: how many, which one next, and which request may be sent a second time."""

import asyncio
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.proxy.connection import Connection, ConnectionDied, ConnectionLimits, Response
from gateway.proxy.wire import Body, RequestHead, UpstreamFault, UpstreamTimeout

_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits(ConnectionLimits):
    """How many connections, and how long each step may take."""

    connect_timeout_seconds: float = 5
    """For name resolution, TCP and TLS together."""
    queue_timeout_seconds: float = 5
    """For a free connection when `max_connections` are busy."""
    max_connections: int = 256
    max_idle: int = 64


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


def parse_upstream_url(url: str, *, tls: ssl.SSLContext | None = None) -> UpstreamAddress:
    """Read `http://HOST[:PORT]`, `https://HOST[:PORT]` (with its `tls` context) or `unix:/PATH`; raises ValueError.

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
    return UpstreamAddress(url=url, host=host, port=port or (443 if tls else 80), tls=tls)


class Pool:
    """An `Upstream` behind one address; belongs to the event loop it is used in."""

    def __init__(self, address: UpstreamAddress, *, limits: PoolLimits) -> None:
        """Connect to nothing yet."""
        self._address = address
        self._limits = limits
        self._busy = asyncio.Semaphore(limits.max_connections)
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._closed = False

    @property
    def open_count(self) -> int:
        """How many connections there are, in use or idle."""
        return len(self._open)

    async def send(self, head: RequestHead, body: Body | None) -> Response:
        """See `Upstream.send`; also raises ValueError for a head that does not fit its body."""
        await self._wait_for_turn()
        try:
            return await self._exchange(head, body)
        except BaseException:
            self._busy.release()
            raise

    async def close(self) -> None:
        """Close every connection, also those with an exchange under way, and wait until they are."""
        self._closed = True
        for connection in self._open:
            connection.abort()
        if self._open:
            await asyncio.wait([connection.lost for connection in self._open])

    async def _wait_for_turn(self) -> None:
        if not self._busy.locked():
            await self._busy.acquire()
            return
        try:
            async with asyncio.timeout(self._limits.queue_timeout_seconds):
                await self._busy.acquire()
        except TimeoutError as exc:
            raise UpstreamTimeout(
                f"all {self._limits.max_connections} connections to upstream `{self._address.url}` are busy: "
                "see whether it is slow, or raise `max_connections`"
            ) from exc

    async def _exchange(self, head: RequestHead, body: Body | None) -> Response:
        connection = self._take_idle()
        if connection is not None:
            try:
                return await connection.exchange(head, body)
            except ConnectionDied:
                # RFC 9112 section 9.3.1: only what is idempotent, and only if nothing of an answer was seen.
                if body is not None or head.method not in _REPEATABLE:
                    raise
        connection = await self._connect()
        return await connection.exchange(head, body)

    def _take_idle(self) -> Connection | None:
        # The last one used is the least likely to be closed by the upstream, and lets the others grow old.
        while self._idle:
            connection = self._idle.pop()
            if connection.is_idle:
                return connection
        return None

    async def _connect(self) -> Connection:
        address, loop = self._address, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.connect_timeout_seconds):
                if address.path is not None:
                    _, connection = await loop.create_unix_connection(self._new_connection, address.path)
                else:
                    _, connection = await loop.create_connection(
                        self._new_connection, address.host, address.port, ssl=address.tls
                    )
        except TimeoutError as exc:
            raise UpstreamTimeout(
                f"no connection to upstream `{address.url}` within `connect_timeout_seconds` = "
                f"{self._limits.connect_timeout_seconds:g}: check that it is running and within reach"
            ) from exc
        except OSError as exc:
            raise UpstreamFault(
                f"no connection to upstream `{address.url}` ({exc}): check that it is running and the URL is right"
            ) from exc
        # A connection that is lost already has been forgotten, too, and must not be remembered now.
        if not connection.lost.done():
            self._open.add(connection)
        if self._closed:
            connection.abort()
            raise UpstreamFault(f"no connection to upstream `{address.url}`: shutting down")
        return connection

    def _new_connection(self) -> Connection:
        return Connection(self._address.url, limits=self._limits, on_released=self._put_back, on_lost=self._forget)

    def _put_back(self, connection: Connection) -> None:
        self._busy.release()
        if not connection.is_idle:
            return
        if self._closed or len(self._idle) >= self._limits.max_idle:
            connection.abort()
        else:
            self._idle.append(connection)

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
