"""The public listener: makes a connection of each client, within limits, and takes all of them down again."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from gateway.proxy import replies
from gateway.proxy.client import ClientConnection, ClientLimits
from gateway.proxy.head import ClientFault
from gateway.proxy.wire import Handler, Inbound


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits(ClientLimits):
    """What all clients may take together."""

    connections_per_peer: int = 4096
    """From one address; a proxy in front is one. Connections through a Unix socket are not counted."""
    max_in_flight: int = 4096
    """Requests being answered at a time."""


def make_listener(handler: Handler, limits: ListenerLimits) -> "Listener":
    """Return the protocol factory for `create_server` that hands each request to `handler`."""
    return Listener(handler, limits)


class Listener:
    """All connections of clients; belongs to the event loop it is used in."""

    def __init__(self, handler: Handler, limits: ListenerLimits) -> None:
        """Accept nothing by itself: the caller opens the socket, and closes it before `shutdown`."""
        self._handler = handler
        self._limits = limits
        self._open: set[ClientConnection] = set()
        self._per_peer: Counter[str] = Counter()
        self._in_flight = 0
        self._closing = False
        self._emptied = asyncio.Event()

    def __call__(self) -> ClientConnection:
        """Make the connection of the next client."""
        return ClientConnection(self._answer, limits=self._limits, on_made=self._admit, on_lost=self._forget)

    @property
    def open_count(self) -> int:
        """How many connections there are, idle ones too."""
        return len(self._open)

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return self._in_flight

    def renew(self, handler: Handler, limits: ListenerLimits) -> None:
        """Hand later requests to `handler`; what is under way stays, and open connections keep their own limits."""
        self._handler = handler
        self._limits = limits

    def close(self) -> None:
        """Close idle connections now and the others behind the response they are at; new ones are turned away."""
        self._closing = True
        for connection in list(self._open):
            connection.stop()

    async def shutdown(self, seconds: float) -> None:
        """Close all connections, and cut those that are not done in so many seconds; returns when all have ended."""
        self.close()
        try:
            async with asyncio.timeout(seconds):
                await self._until_empty()
        except TimeoutError:
            for connection in list(self._open):
                connection.abort()
            await self._until_empty()

    async def _until_empty(self) -> None:
        while self._open:
            self._emptied.clear()
            await self._emptied.wait()

    async def _answer(self, inbound: Inbound) -> None:
        if self._in_flight >= self._limits.max_in_flight:
            await replies.report(inbound, 503, "too many requests at a time: try again in a moment", kind="busy")
            return
        self._in_flight += 1
        try:
            await self._handler(inbound)
        finally:
            self._in_flight -= 1

    def _admit(self, connection: ClientConnection) -> None:
        self._open.add(connection)
        self._per_peer[connection.peer] += 1
        if self._closing:
            connection.stop()
        elif connection.peer and self._per_peer[connection.peer] > self._limits.connections_per_peer:
            fault = ClientFault(status=503, title="too many connections from one address: use fewer")
            connection.refuse(fault, kind="busy")

    def _forget(self, connection: ClientConnection) -> None:
        self._open.discard(connection)
        self._per_peer[connection.peer] -= 1
        if not self._per_peer[connection.peer]:
            del self._per_peer[connection.peer]
        if not self._open:
            self._emptied.set()
