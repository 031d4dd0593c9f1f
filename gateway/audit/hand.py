"""A thread for calls that hang when the disk does: nobody has to wait for it, not even the end of the process."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

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

    def stop(self) -> None:
        """End the thread behind all that was asked for before."""
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


def _settle(future: asyncio.Future[T], outcome: T | BaseException) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
