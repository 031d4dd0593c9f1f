"""A thread for calls that hang when the disk does: nobody has to wait for it, not even the end of the process."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

Run = Callable[[Callable[[], object]], Awaitable[object]]
"""As `Hand.run`; what comes of the work is of no interest."""
_Call = tuple[Callable[[], Any], Callable[[Any], None]]


class Hand:
    """Does one call after the other, in the order in which they were asked for, and tells the loop what came of each.

    A thread pool would not do: the interpreter waits for the threads of every pool before it ends.
    """

    def __init__(self, name: str) -> None:
        """Start the thread; it tells the running loop."""
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def call(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Do `work` behind all that was asked for before; then call `done` on the loop with what it returned or raised.

        Once the loop is closed nobody is told, and the work is done all the same.
        """
        self._calls.put((work, done))

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do `work` likewise and return its outcome; cancelling the future does not stop the work."""
        future: asyncio.Future[T] = self._loop.create_future()
        self.call(work, partial(_settle, future))
        return future

    def stop(self, last: Callable[[], object] | None = None) -> None:
        """End the thread behind all that was asked for before, and behind `last`, of which nobody is told."""
        if last is not None:
            self.call(last, _forget)
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            work, done = call
            outcome: Any
            try:
                outcome = work()
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the asker's to judge
                outcome = error
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(done, outcome)
            # Nothing of it is kept alive while there is nothing to do.
            del call, work, done, outcome


@asynccontextmanager
async def inside(block: AbstractContextManager[T], *, run: Run) -> AsyncIterator[T]:
    """Go into a block, and out of it, on a hand; whoever is cancelled does not wait for either, and both are done."""
    stack, entered, waits = ExitStack(), list[T](), True
    try:
        await run(lambda: entered.append(stack.enter_context(block)))
        yield entered[0]
    except asyncio.CancelledError:
        waits = False
        raise
    finally:
        leaving = asyncio.ensure_future(run(stack.close))
        if waits:
            await leaving


def _forget(_outcome: object) -> None:
    """Have nobody told."""


def _settle(future: asyncio.Future[T], outcome: T | BaseException) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
