"""Who may go next when only so many may go at once."""

import asyncio
from collections import deque
from contextlib import suppress


class Turns:
    """A number of turns, handed on in order of asking; belongs to one event loop.

    Taking a free one costs no await, which is what this has over `asyncio.Semaphore`.
    """

    __slots__ = ("_count", "_free", "_waiting")

    def __init__(self, count: int) -> None:
        """All `count` are free."""
        self._count = count
        self._free = count
        """Below 0 while more are taken than there are since `resize`."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_free(self) -> bool:
        """Take a turn if one is free, which none is while somebody waits."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Wait for a turn when none is free, behind whoever waits already."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                # Somebody who gave back in between has passed it over already.
                with suppress(ValueError):
                    self._waiting.remove(turn)
            else:
                self.give_back()  # it came as we were told to go
            raise

    def give_back(self) -> None:
        """Hand a turn to the one who waits longest, or leave it free."""
        while self._waiting and not self._free:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def resize(self, count: int) -> None:
        """Have `count` turns from now on; those that are taken stay so, and what is new goes to whoever waits."""
        self._free += count - self._count
        self._count = count
        while self._waiting and self._free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                self._free -= 1
                turn.set_result(None)
