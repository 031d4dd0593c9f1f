"""What answers under one configuration, and that a reload replaces as a whole."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import cast

from aiohttp import web

from gateway.audit.log import JournalError
from gateway.audit.writing.owed import PAUSE_SECONDS, Debts
from gateway.config.model import Config
from gateway.grants.source import AccountSource
from gateway.proxy.handler import ProxyHandler
from gateway.proxy.wire import Inbound
from gateway.routes import Answer, Offer
from gateway.tokens.keys import KeyRing
from gateway.upstreams import Counted


class Generation:
    """What answers under one configuration, until the last of its requests is over."""

    def __init__(
        self,
        config: Config,
        *,
        keys: KeyRing,
        handler: ProxyHandler,
        control: Offer,
        admin: Offer,
        debts: Sequence[Debts],
        accounts: AccountSource,
        upstream: Counted,
        stack: AsyncExitStack,
    ) -> None:
        """Use `open_generation`."""
        self.config = config
        self.keys = keys
        self.accounts = accounts
        """Whom the fact cache asks for accounts."""
        self.control = [self._counted(route) for route in control]
        """The routes of the control plane, behind the public listener."""
        self.admin = [self._counted(route) for route in admin]
        """The routes of the admin listener."""
        self._handler = handler
        self._upstream = upstream
        self._debts = debts
        self._stack = stack
        self._under_way = 0
        self._left = asyncio.Event()

    @property
    def upstream_connections(self) -> int:
        """How many connections to the app there are, in use or idle."""
        return self._upstream.open_count

    async def answer(self, inbound: Inbound) -> None:
        """Answer one request of the public listener; see `gateway.proxy.wire.Handler`."""
        self._under_way += 1
        try:
            await self._handler(inbound)
        finally:
            self._leave()

    async def retire(self) -> None:
        """Wait until nothing is under way and nothing owed to the journal, then close; if cancelled, close at once."""
        try:
            while self._under_way:
                self._left.clear()
                await self._left.wait()
            while True:
                if await self._settled():
                    break
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Take everything down, also what is under way; what is owed to the journal is tried once more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_SECONDS):
                await self._settled()
        await self._stack.aclose()

    async def _settled(self) -> bool:
        try:
            for debts in self._debts:
                await debts.settle()
        except JournalError:
            return False
        return True

    def _counted(self, route: web.AbstractRouteDef) -> web.AbstractRouteDef:
        if not isinstance(route, web.RouteDef):
            raise TypeError("only single routes can be counted")
        answer = cast("Answer", route.handler)

        async def counted(request: web.Request) -> web.StreamResponse:
            self._under_way += 1
            try:
                return await answer(request)
            finally:
                self._leave()

        return web.RouteDef(route.method, route.path, counted, route.kwargs)

    def _leave(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._left.set()
