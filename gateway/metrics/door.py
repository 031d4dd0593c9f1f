"""`GET /metrics` of the admin listener: whichever worker is asked, it tells of all of them."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import cache
from importlib.metadata import version

from aiohttp import web

from gateway.health import ask_kill_switch
from gateway.metrics.metric import Process
from gateway.metrics.reading import Reading, ask_all, take, told
from gateway.metrics.text import read_system, render
from gateway.proxy.listener import Listener
from gateway.state import Post, State
from gateway.tokens.keys import KeyRing


class Metrics:
    """Reads the numbers of this process when it is asked, and those of its fellows; keeps none."""

    def __init__(
        self,
        state: State,
        listener: Listener,
        post: Post,
        *,
        upstream_connections: Callable[[], int],
        keys: Callable[[], KeyRing],
    ) -> None:
        """Open nothing yet."""
        self._state = state
        self._listener = listener
        self._post = post
        self._upstream_connections = upstream_connections
        self._keys = keys
        self._version = _own_version()

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes that this serves."""
        return [web.get("/metrics", self.show)]

    async def open(self, stack: AsyncExitStack) -> None:
        """Let the other workers ask, until `stack` ends; raises OSError."""
        if self._post.fellows:
            await stack.enter_async_context(told(self._post.fellows[self._post.origin], self.read))

    async def show(self, request: web.Request) -> web.Response:
        """Answer a scrape."""
        others = {origin: path for origin, path in self._post.fellows.items() if origin != self._post.origin}
        own, theirs = await asyncio.gather(self.read(), ask_all(others.values()))
        readings = {self._post.origin: own, **dict(zip(others, theirs, strict=True))}
        accept = ",".join(request.headers.getall("Accept", []))
        body, content_type = await asyncio.to_thread(render, readings, accept)
        return web.Response(body=body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    async def read(self) -> Reading:
        """Return the numbers of this process as they are now."""
        asking = ask_kill_switch(self._state.store, patience_seconds=self._state.facts.patience_seconds)
        switch, system = await asyncio.gather(asking, asyncio.to_thread(read_system))
        return take(
            Process(
                state=self._state,
                listener=self._listener,
                upstream_connections=self._upstream_connections(),
                keys=self._keys(),
                version=self._version,
                switch=switch,
                system=system,
            )
        )


@cache
def _own_version() -> str:
    # Another one comes with another process, and to read it takes milliseconds.
    return version("locum")
