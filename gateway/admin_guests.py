"""Connections to the admin listener: so many at a time, and each only for as long as it has something to say.

Customers are served by the same process, so nobody may take its descriptors from them, nor by waiting keep whoever
asks for health and metrics out.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Final, cast

from aiohttp import web

from gateway.proxy.limits import ClientLimits
from gateway.proxy.peers import network_of
from gateway.rarely import Rarely

MOST: Final = 512
"""At a time. Whoever comes when there are as many takes the place of who has waited longest for a request of theirs."""
MOST_OF_PEER: Final = 128
"""From one address; a proxy in front is one."""
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_rarely = Rarely(logging.getLogger(__name__))


class _Phase(Enum):
    WAITING = auto()
    """For a request: nothing of one is here, or a part of a head."""
    READING = auto()
    """A request is being answered, and its body is not here yet."""
    ANSWERING = auto()


class AdminGuests:
    """Counts connections, and cuts those that keep us waiting; see `serving` and `watch`."""

    def __init__(
        self, limits: Callable[[], ClientLimits], *, most: int = MOST, most_of_peer: int = MOST_OF_PEER
    ) -> None:
        """The times are those of the public listener's `limits`, except that a body has to come within one of them.

        An answer has to be taken at `min_bytes_per_second` at least, over each `write_stall_timeout_seconds`.
        """
        self.limits = limits
        self._most = most
        self._most_of_peer = most_of_peer
        self._guests: dict[asyncio.Protocol, _Guest] = {}
        self._peers: Counter[str] = Counter()
        # The one who has waited longest is the first.
        self.waiting: dict[_Guest, None] = {}

    def serving(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """Return a protocol factory for `create_server`, whose connections are those that `make` makes, and ours."""
        return lambda: _Guest(self, make())

    @property
    def open_count(self) -> int:
        """How many there are."""
        return len(self._guests)

    @property
    def watch(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        """Return the middleware that tells when a request begins and when its answer is taken; the outermost one."""

        @web.middleware
        async def watched(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            guest = self._guests.get(request.protocol)
            if guest is None:
                return await handler(request)
            guest.begin(request)
            try:
                response = await handler(request)
                # Sent here, and not behind us: until it is taken, it is we who keep them waiting. Whoever has gone
                # meanwhile is noticed once it is sent again, which sends nothing else.
                with suppress(ConnectionError):
                    await response.prepare(request)
                    await response.write_eof()
                return response
            finally:
                guest.wait()

        return watched

    def enter(self, guest: "_Guest", served: asyncio.Protocol, peer: str) -> bool:
        """Count a connection, if there may be one more, if need be in the place of another."""
        if self._peers[peer] >= self._most_of_peer:
            _rarely.warning("%s has %d connections to the admin listener, and gets no more", peer, self._most_of_peer)
            return False
        if len(self._guests) >= self._most:
            _rarely.warning("the admin listener has %d connections: who waits longest is cut", self._most)
            longest = next(iter(self.waiting), None)
            if longest is None:
                return False
            longest.cut()
        self._peers[peer] += 1
        self._guests[served] = guest
        return True

    def leave(self, guest: "_Guest", served: asyncio.Protocol, peer: str) -> None:
        """Count it no more; safe to call twice."""
        self.waiting.pop(guest, None)
        if self._guests.pop(served, None) is not None:
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]


class _Guest(asyncio.Protocol):
    """One connection: hands everything on to the protocol that answers, and watches the clock."""

    def __init__(self, guests: AdminGuests, served: asyncio.Protocol) -> None:
        self._guests = guests
        self._served = served
        self._peer = ""
        self._phase = _Phase.WAITING
        self._in_head = False
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._untaken = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        opened = cast("asyncio.Transport", transport)
        address = opened.get_extra_info("peername")
        self._peer = network_of(address[0]) if address else ""
        if not self._guests.enter(self, self._served, self._peer):
            opened.write(_BUSY)
            opened.close()
            return
        self._transport = opened
        self.wait()
        self._served.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._phase is _Phase.WAITING and not self._in_head:
            self._in_head = True
            self._within(self._guests.limits().header_timeout_seconds)
        self._served.data_received(data)

    def eof_received(self) -> bool | None:
        return self._served.eof_received() if self._transport is not None else None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        self._transport = None
        self._stop()
        self._guests.leave(self, self._served, self._peer)
        self._served.connection_lost(exc)

    def pause_writing(self) -> None:
        self._look_for_progress()
        self._served.pause_writing()

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        self._served.resume_writing()

    def begin(self, request: web.Request) -> None:
        """Know that a request is being answered, whose body may still have to come."""
        if self._transport is None:
            return
        self._in_head = False
        self._phase = _Phase.READING
        self._within(self._guests.limits().body_idle_timeout_seconds)
        request.content.on_eof(self._heard)

    def wait(self) -> None:
        """Know that the next request may come."""
        if self._transport is None:
            return
        self._phase = _Phase.WAITING
        self._guests.waiting.pop(self, None)
        self._guests.waiting[self] = None
        self._within(self._guests.limits().idle_timeout_seconds)

    def cut(self) -> None:
        """End the connection now, whatever is under way."""
        if self._transport is not None:
            self._guests.leave(self, self._served, self._peer)
            self._transport.abort()

    def _look_for_progress(self) -> None:
        """Look again after the time in which something has to be taken, and cut who has taken too little by then."""
        if self._transport is None:
            return
        limits, untaken = self._guests.limits(), self._transport.get_write_buffer_size()
        seconds = limits.write_stall_timeout_seconds
        if self._stalled is not None and self._untaken - untaken < limits.min_bytes_per_second * seconds:
            self.cut()
            return
        self._untaken = untaken
        self._stalled = asyncio.get_running_loop().call_later(seconds, self._look_for_progress)

    def _heard(self) -> None:
        if self._phase is _Phase.READING:
            self._phase = _Phase.ANSWERING
            self._guests.waiting.pop(self, None)
            if self._deadline is not None:
                self._deadline.cancel()

    def _within(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._later(seconds)

    def _later(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self.cut)

    def _stop(self) -> None:
        for timer in (self._deadline, self._stalled):
            if timer is not None:
                timer.cancel()
