"""The public listener: makes a connection of each client, within limits, and takes all of them down again."""

import asyncio
import logging
from time import perf_counter

from gateway.proxy import replies
from gateway.proxy.client import ClientConnection
from gateway.proxy.durations import Durations
from gateway.proxy.head import ClientFault
from gateway.proxy.limits import ListenerLimits
from gateway.proxy.peers import Peer, Peers, Trusts
from gateway.proxy.room import Room
from gateway.proxy.wire import Handler, Inbound

log = logging.getLogger(__name__)

_SPACE_BYTES = 128 * 1024
"""What is read at a time. More makes nothing faster, and all of it waits where the app takes nothing."""

_LIMITS = ("connections_per_peer", "in_flight_per_peer", "max_connections", "max_in_flight", "websockets_per_peer")


def _nobody(_address: str) -> bool:
    return False


def make_listener(handler: Handler, limits: ListenerLimits, trusts: Trusts = _nobody) -> "Listener":
    """Return the protocol factory for `create_server` that hands each request to `handler`.

    Whom it `trusts` are proxies in front: what is limited for one address is not for theirs, but for connections.
    """
    return Listener(handler, limits, trusts)


class Listener:
    """All connections of clients; belongs to the event loop it is used in."""

    def __init__(self, handler: Handler, limits: ListenerLimits, trusts: Trusts) -> None:
        """Accept nothing by itself: the caller opens the socket, and closes it before `shutdown`."""
        self.handler = handler
        self.limits = limits
        self.peers = Peers(limits, trusts)
        self.in_flight = 0
        """How many requests are being answered."""
        self.durations = Durations()
        """From a request's head to the end of its answer, of those that were not turned away."""
        self.turned_away = dict.fromkeys(_LIMITS, 0)
        """How often somebody wanted more than a limit allows, by its key in [limits]; of `max_connections` also
        how many were closed to make room."""
        self.closing = False
        self.space = memoryview(bytearray(_SPACE_BYTES))
        """What all connections read into."""
        self._open: set[ClientConnection] = set()
        self._room = Room()
        self._emptied = asyncio.Event()

    def __call__(self) -> ClientConnection:
        """Make the connection of the next client."""
        return Guest(self).connect()

    @property
    def open_count(self) -> int:
        """How many connections there are, idle ones too."""
        return len(self._open)

    def renew(self, handler: Handler, limits: ListenerLimits, trusts: Trusts = _nobody) -> None:
        """Hand later requests to `handler`; what is under way stays.

        Open connections keep their own limits, and have those of their address anew.
        """
        self.handler = handler
        self.limits = limits
        self.peers.renew(limits, trusts)

    def close(self) -> None:
        """Close idle connections now and the others behind the response they are at; new ones are turned away."""
        self.closing = True
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

    def add(self, connection: ClientConnection) -> None:
        """Know a connection, until `discard`."""
        self._open.add(connection)

    def admit(self, peer: Peer | None) -> str | None:
        """Return the key of the limit that a newcomer, which is `peer`'s, goes beyond; call `add` only then.

        Beyond `max_connections` some of those that have waited longest for a request are closed, and it may stay.
        """
        limits = self.limits
        if self._count() > limits.max_connections:
            self.turned_away["max_connections"] += self._room.make(self._open)
            if self._count() > limits.max_connections:
                return "max_connections"
        if peer is not None and peer.connections > limits.connections_per_peer:
            return "connections_per_peer"
        return None

    def _count(self) -> int:
        """Return how many connections there are, with the newcomer and without those that are going."""
        # Those in a handshake are not open yet, and those through a Unix socket are nobody's.
        return max(self.peers.connections, len(self._open) + 1) - self._room.leaving

    def discard(self, connection: ClientConnection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        self._room.gone(connection)
        if not self._open:
            self._emptied.set()


class Guest:
    """What one connection takes of its address's share, from the moment that it is accepted to its end."""

    __slots__ = ("_listener", "_peer", "_switched")

    def __init__(self, listener: Listener, peer: Peer | None = None) -> None:
        """Have entered as `peer`, or do so when the connection is made."""
        self._listener = listener
        self._peer = peer
        """None also behind the end, and always for a Unix socket."""
        self._switched = False

    def leave(self) -> None:
        """Count the connection no more; safe to call twice."""
        if self._peer is not None:
            self._listener.peers.leave(self._peer)
            self._peer = None

    def connect(self) -> ClientConnection:
        """Make the connection itself; when that is lost, the guest has left."""
        return ClientConnection(
            self._answer,
            limits=self._listener.limits,
            space=self._listener.space,
            on_made=self._made,
            on_lost=self._lost,
            on_switch=self._switch,
        )

    def _made(self, connection: ClientConnection) -> None:
        listener = self._listener
        if self._peer is None and connection.peer:
            self._peer = listener.peers.enter(connection.peer)
        limit = listener.admit(self._peer)
        listener.add(connection)
        if listener.closing:
            connection.stop()
        elif limit is not None:
            listener.turned_away[limit] += 1
            if limit == "max_connections":
                # Nothing is said: it would have to stay until that is read.
                connection.stop()
                return
            fault = ClientFault(status=503, title="too many connections from one address: use fewer")
            connection.refuse(fault, kind="busy")

    def _lost(self, connection: ClientConnection) -> None:
        self._listener.discard(connection)
        self.leave()

    async def _answer(self, inbound: Inbound) -> None:
        listener, peer, began = self._listener, self._peer, perf_counter()
        if peer is not None and not peer.requests.take_free():
            try:
                async with asyncio.timeout(listener.limits.queue_timeout_seconds):
                    await peer.requests.wait()
            except TimeoutError:
                listener.turned_away["in_flight_per_peer"] += 1
                _warn(peer, "requests under way", listener.limits.in_flight_per_peer)
                await replies.turn_away(inbound, "too many requests at a time from one address: try again in a moment")
                return
        if listener.in_flight >= listener.limits.max_in_flight:
            listener.turned_away["max_in_flight"] += 1
            self._give_back(peer)
            await replies.turn_away(inbound, "too many requests at a time: try again in a moment")
            return
        listener.in_flight += 1
        try:
            await listener.handler(inbound)
        finally:
            listener.in_flight -= 1
            listener.durations.add(perf_counter() - began)
            self._give_back(peer)

    def _give_back(self, peer: Peer | None) -> None:
        if peer is None:
            return
        if self._switched:
            peer.websockets.give_back()
        else:
            peer.requests.give_back()

    def _switch(self) -> None:
        """Count a request as what it becomes: it may last for days."""
        peer = self._peer
        if peer is None:
            return
        if not peer.websockets.take_free():
            self._listener.turned_away["websockets_per_peer"] += 1
            _warn(peer, "WebSockets", self._listener.limits.websockets_per_peer)
            raise ClientFault(status=503, title="too many WebSockets from one address: use fewer")
        self._switched = True
        peer.requests.give_back()


def _warn(peer: Peer, what: str, most: int) -> None:
    """Tell the operator once; the client is told each time."""
    if not peer.warned:
        peer.warned = True
        text = "%s has %d %s, and gets no more: if it is a proxy in front, name it in server.trusted_proxies"
        log.warning(text, peer.key, most, what)
