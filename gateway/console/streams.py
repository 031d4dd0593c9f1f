"""The event streams of open pages: how many there are at a time, and how each begins, waits, tells and ends."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import ExitStack, suppress
from typing import Final

from aiohttp import web

from gateway.caller import Caller
from gateway.console.stream_places import StreamPlaces
from gateway.pages.render import SAFE_HEADERS
from gateway.shares import Shares

_WRITE_SECONDS: Final = 5.0


class Stream:
    """One stream that has begun (HTML Standard, section 9.2); it is over once nobody reads it or it has to end."""

    def __init__(
        self, request: web.Request, response: web.StreamResponse, *, leaving: asyncio.Event, until: float, write: float
    ) -> None:
        self._request = request
        self._response = response
        self._leaving = leaving
        self._until = until
        self._write = write

    @property
    def is_over(self) -> bool:
        """Whether its time is up, whoever asked has gone, or the gateway is leaving."""
        # The library does not end what answers somebody who has gone before something is sent.
        transport = self._request.transport
        is_late = asyncio.get_running_loop().time() >= self._until
        return is_late or self._leaving.is_set() or transport is None or transport.is_closing()

    async def rest(self, seconds: float) -> bool:
        """Wait so long, or less if it is over before; return whether it is."""
        left = self._until - asyncio.get_running_loop().time()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._leaving.wait(), min(seconds, left))
        return self.is_over

    async def send(self, event: str, data: bytes = b"1") -> None:
        """Send one event with one line of data; raises ConnectionResetError if it is not taken."""
        await self.write(b"event: %b\ndata: %b\n\n" % (event.encode(), data))

    async def write(self, raw: bytes) -> None:
        """Send it as it is; raises ConnectionResetError if it is not taken."""
        try:
            async with asyncio.timeout(self._write):
                await self._response.write(raw)
        except TimeoutError as exc:
            # Nothing is kept for somebody who does not read.
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionResetError("what is sent is not read") from exc


class Streams:
    """The streams of one kind in a process; a page beyond them is told to come again."""

    def __init__(
        self,
        *,
        leaving: asyncio.Event,
        seconds: float,
        of_one: int,
        of_all: int | None = None,
        by_address: StreamPlaces | None = None,
        again_milliseconds: int = 2000,
        write_seconds: float = _WRITE_SECONDS,
    ) -> None:
        """End each after so many `seconds`, and all of them once the gateway is `leaving`.

        Whoever has one may have `of_one` at a time, and all together `of_all`; `by_address` bounds them with those of
        other kinds. A browser comes again by itself after `again_milliseconds`; whoever does not take what is sent for
        `write_seconds` is cut.
        """
        self._leaving = leaving
        self._seconds = seconds
        self._again = again_milliseconds
        self._write = write_seconds
        self._by_address = by_address
        self.places = Shares(of_one, of_all=of_all)

    async def run(self, request: web.Request, tell: Callable[[Stream], Awaitable[None]]) -> web.StreamResponse:
        """Answer with a stream on which `tell` says what is new, until it returns; whoever asks has a place.

        `tell` ends once the stream is over; whatever it waits for does not keep it for much longer than that.
        """
        response = web.StreamResponse(headers={**SAFE_HEADERS, "Content-Type": "text/event-stream"})
        until = asyncio.get_running_loop().time() + self._seconds
        stream = Stream(request, response, leaving=self._leaving, until=until, write=self._write)
        with suppress(ConnectionResetError, TimeoutError):  # who leaves the page breaks off
            async with asyncio.timeout_at(until + self._write):
                await response.prepare(request)
                await stream.write(b"retry: %d\n\n" % self._again)
                await tell(stream)
        return response

    async def answer(
        self, request: web.Request, whose: Hashable, tell: Callable[[Stream], Awaitable[None]]
    ) -> web.StreamResponse:
        """Take a place and `run`; 503 if there is none, at which a page of ours goes on without a stream."""
        with ExitStack() as held:
            is_free = held.enter_context(self.places.place(whose))
            if is_free and self._by_address is not None:
                is_free = held.enter_context(self._by_address.place(Caller.through_front(request).client_ip))
            if not is_free:
                return web.Response(status=503, headers={**SAFE_HEADERS, "Retry-After": "5"})
            return await self.run(request, tell)
