"""The listeners for the world outside: opened together, drained together."""

import asyncio
import ssl
from typing import Any, cast

from aiohttp import web

from gateway.admin_guests import AdminGuests
from gateway.binding import listen
from gateway.config.check import format_address, parse_address
from gateway.config.model import Config
from gateway.handshakes import TlsServer
from gateway.proxy.listener import Listener
from gateway.tls import listener_context, renew_listener

_BACKLOG = 1024
# To aiohttp no time at all is any time.
_AT_ONCE_SECONDS = 0.05


class Doors:
    """The public and the admin listener."""

    def __init__(self, public: Listener, admin: web.Application) -> None:
        """Open nothing yet."""
        self.public_url = ""
        self.admin_url = ""
        self._public = public
        self._guests = AdminGuests(lambda: public.limits)
        admin.middlewares.append(self._guests.watch)
        self._admin = web.AppRunner(admin, access_log=None, auto_decompress=False)
        self._server: asyncio.Server | None = None
        self._admin_server: asyncio.Server | None = None
        self._tls_server: TlsServer | None = None
        self._tls: ssl.SSLContext | None = None
        self._cut = asyncio.Event()

    async def open(self, config: Config, *, shared: bool) -> None:
        """Take connections; `shared` allows others of our user to serve the same ports. Raises ConfigError, OSError."""
        host, port = parse_address(config.server.listen, "server.listen")
        if config.server.tls is not None:
            self._tls = listener_context(config.server.tls)
            self._tls_server = TlsServer(
                self._public,
                listen(host, port, shared=shared, backlog=_BACKLOG),
                self._tls,
                handshake_seconds=config.limits.tls_handshake_timeout_seconds,
            )
            port = self._tls_server.port
        else:
            self._server = await asyncio.get_running_loop().create_server(
                self._public, host, port, backlog=_BACKLOG, reuse_port=shared or None
            )
            port = self._server.sockets[0].getsockname()[1]
        self.public_url = f"{'http' if self._tls is None else 'https'}://{format_address(host, port)}"
        host, port = parse_address(config.server.admin_listen, "server.admin_listen")
        await self._admin.setup()
        serving = self._guests.serving(cast("web.Server", self._admin.server))
        self._admin_server = await asyncio.get_running_loop().create_server(
            serving, host, port, reuse_port=shared or None
        )
        self.admin_url = f"http://{format_address(host, self._admin_server.sockets[0].getsockname()[1])}"

    def renew_certificate(self, config: Config) -> None:
        """Show the certificate of `config` to whoever connects from now on; raises ConfigError, and keeps the old."""
        if self._tls is not None and config.server.tls is not None:
            renew_listener(self._tls, config.server.tls)

    def cut(self) -> None:
        """Wait for nothing any more, now or when closing."""
        self._cut.set()

    async def close(self, seconds: float) -> None:
        """Take no more connections, close idle ones, and cut after so many seconds what is still under way."""
        if self._server is not None:
            self._server.close()
        if self._admin_server is not None:
            self._admin_server.close()
        if self._tls_server is not None:
            await self._tls_server.close()
        draining = asyncio.gather(self._public.shutdown(seconds), self._admin.cleanup())
        cut = asyncio.ensure_future(self._cut.wait())
        waiting: set[asyncio.Future[Any]] = {draining, cut}
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            cut.cancel()
            draining.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await self._public.shutdown(0)
            if self._admin.server is not None:
                await self._admin.server.shutdown(_AT_ONCE_SECONDS)
            await self._admin.cleanup()
