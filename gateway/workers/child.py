"""One worker as its supervisor sees it: a process, a pipe to it and a pipe back."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from typing import Self

from gateway.workers.orders import Begin, Order, Renew, Reply, encode, read_reply

# To the folder it was started in, a worker gives no say in what it imports.
_COMMAND = ("-P", "-m", "gateway", "run", "--worker")


class Child:
    """A running worker process."""

    def __init__(self, process: Process, orders: asyncio.StreamWriter, replies: asyncio.StreamReader) -> None:
        """Use `start`."""
        self.pid = process.pid
        self._process = process
        self._orders = orders
        self._replies = replies
        self._asking = asyncio.Lock()

    @classmethod
    async def start(cls, *, scratch: str) -> Self:
        """Start a process that waits for `Begin`; `scratch` is for its sockets, and outlives it. Raises OSError."""
        # In a session of its own, so that a Ctrl-C at the terminal reaches it through us, in order.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *_COMMAND,
            stdin=PIPE,
            stdout=PIPE,
            env={**os.environ, "TMPDIR": scratch},
            start_new_session=True,
        )
        if process.stdin is None or process.stdout is None:
            raise OSError("a worker was started without its pipes")
        return cls(process, process.stdin, process.stdout)

    async def ask(self, order: Begin | Renew) -> Reply | None:
        """Give an order and return what it says to it, or None if it has ended."""
        async with self._asking:
            self.tell(order)
            line = await self._replies.readline()
        return read_reply(line) if line.endswith(b"\n") else None

    def tell(self, order: Order) -> None:
        """Give an order; one that has ended does not hear it."""
        if not self._orders.is_closing():
            self._orders.write(encode(order))

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
        async with self._asking:
            await self._replies.read()
        return code
