"""Who may go next when only so many may go at once."""

import asyncio
from collections import deque


class Turns:
    """A number of turns, handed on in order of asking; belongs to one event loop.

    Taking a free one costs no await, which is what this has over `asyncio.Semaphore`.
    """

    __slots__ = ("_free", "_waiting")

    def __init__(self, count: int) -> None:
        """All `count` are free."""
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_free(self) -> bool:
        """Take a turn if one is free, which none is while somebody waits."""
        if not self._free:
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
                self._waiting.remove(turn)
            else:
                self.give_back()  # it came as we were told to go
            raise

    def give_back(self) -> None:
        """Hand a turn to the one who waits longest, or leave it free."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
