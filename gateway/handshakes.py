"""TLS in front of the public listener: connections count from the moment they are accepted, not once they can speak.

A handshake holds much more than a connection that waits, so each address has only so many at a time; its others wait
their turn with nothing but a socket, and within the time that a handshake may take.
"""

import asyncio
import logging
import socket
import ssl
from contextlib import ExitStack

from gateway.proxy.listener import Guest, Listener
from gateway.proxy.peers import Peer
from gateway.proxy.turns import Turns
from gateway.tasks import Tasks

log = logging.getLogger(__name__)

_AT_ONCE = 64
"""Accepted before anything else gets its turn."""
_SHORTAGE_SECONDS = 1.0
_LEAST_SECONDS = 0.001
_FAREWELL_SECONDS = 86_400.0
"""Never reached: a connection watches its own end, and may take long over what the client takes slowly."""


class TlsServer:
    """Takes connections for a listener and speaks TLS on them; `sockets` listen, and are closed by `close`."""

    def __init__(
        self,
        listener: Listener,
        sockets: list[socket.socket],
        context: ssl.SSLContext,
        *,
        handshake_seconds: float,
    ) -> None:
        """Begin at once: belongs to the event loop that is running."""
        self.port: int = sockets[0].getsockname()[1]
        self._sockets = sockets
        self._listener = listener
        self._context = context
        self._handshake_seconds = handshake_seconds
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        for listening in sockets:
            self._loop.add_reader(listening, self._accept, listening)

    async def close(self) -> None:
        """Take no more, and cut handshakes that are under way; connections that have had theirs stay."""
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        await self._tasks.close()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, name = listening.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as exc:
                # Of descriptors or memory; it would be told again at once, and for as long as it lasts.
                log.error("no connection can be taken for %g s: %s", _SHORTAGE_SECONDS, exc)  # noqa: TRY400 - the kernel's
                self._loop.remove_reader(listening)
                self._loop.call_later(_SHORTAGE_SECONDS, self._go_on, listening)
                return
            accepted.setblocking(False)
            peer = self._listener.peers.enter(name[0])
            if (limit := self._listener.admit(peer)) is None:
                self._tasks.start(self._welcome(peer, accepted), name="TLS handshake")
            else:
                self._listener.turned_away[limit] += 1
                # To say why would take the handshake that there is no room for.
                self._listener.peers.leave(peer)
                accepted.close()

    def _go_on(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._loop.add_reader(listening, self._accept, listening)

    async def _welcome(self, peer: Peer, accepted: socket.socket) -> None:
        """Make the handshake, in its turn; whoever fails at it is gone, and has no place in the log."""
        give_up = self._loop.time() + self._handshake_seconds
        guest = Guest(self._listener, peer)
        with ExitStack() as unwelcome:
            unwelcome.callback(guest.leave)
            unwelcome.callback(accepted.close)
            if not await _take(peer.handshakes, give_up):
                return
            try:
                await self._loop.connect_accepted_socket(
                    guest.connect,
                    accepted,
                    ssl=self._context,
                    ssl_handshake_timeout=max(give_up - self._loop.time(), _LEAST_SECONDS),
                    ssl_shutdown_timeout=_FAREWELL_SECONDS,
                )
            except OSError as exc:
                log.debug("a TLS handshake failed: %s", exc)
            else:
                unwelcome.pop_all()
            finally:
                peer.handshakes.give_back()


async def _take(turns: Turns, give_up: float) -> bool:
    if turns.take_free():
        return True
    try:
        async with asyncio.timeout_at(give_up):
            await turns.wait()
    except TimeoutError:
        return False
    return True
