"""A worker: serves what its supervisor orders, and not a moment longer than there is one."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from gateway.app import Gateway, open_gateway
from gateway.config.model import ConfigError
from gateway.descriptors import raise_limit
from gateway.starting import START_ERRORS
from gateway.state import Post
from gateway.tasks import Tasks
from gateway.workers import collector
from gateway.workers.alone import look_when_going_on
from gateway.workers.hang_up import hear
from gateway.workers.orders import (
    Begin,
    Done,
    NotAWorker,
    Order,
    Ping,
    Pong,
    Refused,
    Renew,
    Reply,
    Stop,
    encode,
    read_order,
)
from gateway.workers.stopping import Stopping

log = logging.getLogger(__name__)

_ORDERS, _STDOUT, _STDERR = 0, 1, 2
_PIECE_BYTES = 65536
_ORPHAN_SECONDS = 3.0


async def run_worker() -> bool:
    """Serve until told to stop, or until the supervisor has gone; return whether it could.

    Raises NotAWorker if what comes in is no order to begin.
    """
    loop, stopping, renewals = asyncio.get_running_loop(), Stopping(), asyncio.Queue[Renew]()
    replies = Replies()
    # One process may be told to stop on its own, by whoever stops a whole group; the supervisor starts it again if not.
    loop.add_signal_handler(signal.SIGTERM, stopping.asked.set)
    loop.add_signal_handler(signal.SIGINT, _leave_to_supervisor)
    hear(_leave_to_supervisor)
    first: asyncio.Future[Order] = loop.create_future()
    orders = Orders(loop, first, stopping, renewals, replies)
    threading.Thread(target=orders.read, name="orders", daemon=True).start()
    begin = await first
    if not isinstance(begin, Begin):
        return True  # stopped before it began
    raise_limit(begin.config)
    tasks, inner = Tasks(), Tasks()
    try:
        fellows = {origin: Path(path) for origin, path in begin.fellows.items()}
        post = Post(origin=begin.origin, shared=True, without_store=begin.without_store, fellows=fellows)
        async with open_gateway(begin.config, post=post) as gateway:
            collector.spare()
            look_when_going_on(gateway)
            replies.done(gateway)
            gateway.keep_index(inner)
            tasks.start(stopping.then(gateway.cut), name="cut when told")
            inner.start(_renew(gateway, renewals, replies), name="renew the configuration")
            await stopping.asked.wait()
            await inner.close()
    except START_ERRORS as exc:
        replies.refused(exc)
        return False
    finally:
        await inner.close()
        await tasks.close()
    return True


def _leave_to_supervisor() -> None:
    log.debug("a signal is left to the supervisor")


class Orders:
    """Reads the orders in a thread of its own, so that the end of the supervisor is noticed whatever the loop does."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        first: "asyncio.Future[Order]",
        stopping: Stopping,
        renewals: "asyncio.Queue[Renew]",
        replies: "Replies",
    ) -> None:
        self._loop = loop
        self._first = first
        self._stopping = stopping
        self._renewals = renewals
        self._replies = replies

    def read(self) -> None:
        """Hand on each order; at their end stop at once, and soon after without asking anybody."""
        for line in _lines():
            try:
                order = read_order(line)
            except msgspec.MsgspecError:
                self._tell(self._misled)
                return
            self._tell(self._take, order)
        self._tell(self._take, Stop(now=True))
        threading.Event().wait(_ORPHAN_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    def _tell(self, call: Callable[..., None], *words: Order) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *words)
        except RuntimeError:
            log.debug("the loop has ended already")

    def _misled(self) -> None:
        if not self._first.done():
            self._first.set_exception(NotAWorker("only a supervisor starts workers: use `locum run`"))

    def _take(self, order: Order) -> None:
        if not self._first.done():
            self._first.set_result(order)
        if isinstance(order, Ping):
            self._replies.pong()
        elif isinstance(order, Renew):
            self._renewals.put_nowait(order)
        elif isinstance(order, Stop):
            self._stopping.asked.set()
            if order.now:
                self._stopping.now.set()


class Replies:
    """The way back to the supervisor, which nobody but us writes to."""

    def __init__(self) -> None:
        """Take the standard output for it; what anybody prints goes where errors go."""
        self._pipe = os.dup(_STDOUT)
        os.dup2(_STDERR, _STDOUT)

    def done(self, gateway: Gateway) -> None:
        """Say that the order was followed."""
        self._send(Done(public_url=gateway.public_url, admin_url=gateway.admin_url))

    def pong(self) -> None:
        """Give a sign of life."""
        self._send(Pong())

    def refused(self, error: Exception) -> None:
        """Say why it was not."""
        if not isinstance(error, START_ERRORS):
            log.error("an order could not be followed", exc_info=error)
        self._send(Refused(why=str(error) or type(error).__name__, in_config=isinstance(error, ConfigError)))

    def _send(self, reply: Reply) -> None:
        line = encode(reply)
        try:
            while line:
                line = line[os.write(self._pipe, line) :]
        except BrokenPipeError:
            log.debug("the supervisor has gone")


async def _renew(gateway: Gateway, renewals: "asyncio.Queue[Renew]", replies: Replies) -> None:
    while True:
        order = await renewals.get()
        try:
            await gateway.renew(order.config)
        except Exception as exc:  # noqa: BLE001 - whatever it was, the supervisor hears of it
            replies.refused(exc)
        else:
            replies.done(gateway)


def _lines() -> Iterator[bytes]:
    # Not through sys.stdin, whose lock a thread would still hold when the interpreter ends.
    kept = b""
    while piece := os.read(_ORDERS, _PIECE_BYTES):
        *lines, kept = (kept + piece).split(b"\n")
        yield from lines
