"""One worker as its supervisor sees it: a process, a pipe to it and a pipe back."""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from typing import Self

import msgspec

from gateway.audit.sinks.files import STDOUT_VARIABLE
from gateway.tasks import Tasks
from gateway.workers.orders import Begin, Done, Order, Ping, Pong, Refused, Renew, encode, read_reply

log = logging.getLogger(__name__)

_STDOUT = 1
# To the folder it was started in, a worker gives no say in what it imports.
_COMMAND = ("-P", "-m", "gateway", "run", "--worker")


class Child:
    """A running worker process."""

    def __init__(self, process: Process, orders: asyncio.StreamWriter, replies: asyncio.StreamReader) -> None:
        """Use `start`."""
        self.pid = process.pid
        self.asked_at: float | None = None
        """See `vigil.Watched`."""
        self._process = process
        self._orders = orders
        self._replies = replies
        self._asking = asyncio.Lock()
        self._answer: asyncio.Future[Done | Refused | None] | None = None
        self._silent = False
        """Whether nothing more comes from it."""
        self._tasks = Tasks()
        self._tasks.start(self._hear(), name="hear a worker")

    @classmethod
    async def start(cls, *, scratch: str) -> Self:
        """Start a process that waits for `Begin`; `scratch` is for its sockets, and outlives it. Raises OSError."""
        # Its own is the way back to us: what a sink is to write to the real one goes there directly.
        out = os.dup(_STDOUT)
        # In a session of its own, so that a Ctrl-C at the terminal reaches it through us, in order.
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *_COMMAND,
                stdin=PIPE,
                stdout=PIPE,
                env={**os.environ, "TMPDIR": scratch, STDOUT_VARIABLE: str(out)},
                pass_fds=(out,),
                start_new_session=True,
            )
        finally:
            os.close(out)
        if process.stdin is None or process.stdout is None:
            raise OSError("a worker was started without its pipes")
        return cls(process, process.stdin, process.stdout)

    async def ask(self, order: Begin | Renew) -> Done | Refused | None:
        """Give an order and return what it says to it, or None if it has ended."""
        async with self._asking:
            if self._silent:
                return None
            self._answer = asyncio.get_running_loop().create_future()
            self.tell(order)
            try:
                return await self._answer
            finally:
                self._answer = None

    def tell(self, order: Order) -> None:
        """Give an order; one that has ended does not hear it."""
        if not self._orders.is_closing():
            self._orders.write(encode(order))

    def ping(self, now: float) -> None:
        """See `vigil.Watched`."""
        if self.asked_at is None:
            self.tell(Ping())
        self.asked_at = now

    def kill(self) -> None:
        """End it now, without asking."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> int:
        """Wait for its end; return its exit code, or the signal that ended it, negative."""
        code = await self._process.wait()
        # Both pipes to their ends: the loop cannot be closed over one that is still open.
        self._orders.close()
        with suppress(ConnectionError):
            await self._orders.wait_closed()
        await self._tasks.wait()
        return code

    async def _hear(self) -> None:
        try:
            while (line := await self._replies.readline()).endswith(b"\n"):
                reply = read_reply(line)
                if isinstance(reply, Pong):
                    self.asked_at = None
                else:
                    self._settle(reply)
        except (msgspec.MsgspecError, ValueError):
            log.exception("process %d says what no worker says: killed", self.pid)
            self.kill()
            await self._replies.read()
        finally:
            self._silent = True
            self._settle(None)

    def _settle(self, reply: Done | Refused | None) -> None:
        # An answer for which nobody waits any more is too late.
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(reply)
