"""The demo helpdesk's answers that take long: an event stream without an end and a large download."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from gateway.demo.views import Call, find_ticket

_CHUNK = bytes(range(256)) * 256


class Streams:
    """The routes that stream, and the count of streams under way."""

    def __init__(self, *, tick_seconds: float, attachment_bytes: int) -> None:
        self.open = 0
        """How many streams are being written; that a client has left shows at the next write."""
        self._tick_seconds = tick_seconds
        self._attachment_bytes = attachment_bytes
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Let every event stream end by itself."""
        self._closing.set()

    async def events(self, call: Call) -> web.StreamResponse:
        """GET /events: a server-sent event each tick, until the client or the helpdesk goes away."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(call.request)
        tick = 0
        with self._under_way():
            while not self._closing.is_set():
                tick += 1
                event = f"event: tick\nid: {tick}\ndata: {len(call.account.tickets)}\n\n"
                await response.write(event.encode())
                await self._pause()
        return response

    async def attachment(self, call: Call) -> web.StreamResponse:
        """GET /attachments/{id}: bytes that count up and start again at 256; one for every ticket."""
        find_ticket(call)
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = self._attachment_bytes
        await response.prepare(call.request)
        with self._under_way():
            for start in range(0, self._attachment_bytes, len(_CHUNK)):
                await response.write(_CHUNK[: self._attachment_bytes - start])
        return response

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._tick_seconds):
                await self._closing.wait()
        except TimeoutError:
            return

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        self.open += 1
        try:
            yield
        except ConnectionError:
            # The client left or was cut off, which is an ordinary end of a stream.
            return
        finally:
            self.open -= 1
