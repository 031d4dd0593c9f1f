"""One time limit that is moved far more often than it is reached."""

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls back once the time last set has passed; belongs to the event loop it was made in.

    A timer that fires too early looks again, so only a deadline nearer than the timer's costs a new one: whoever sets
    the same few limits over and over makes no timer each time.
    """

    __slots__ = ("_at", "_loop", "_on_reached", "_timer", "_timer_at")

    def __init__(self, on_reached: Callable[[], None]) -> None:
        """No time is set."""
        self._loop = asyncio.get_running_loop()
        self._on_reached = on_reached
        self._at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    @property
    def at(self) -> float:
        """When that is, by the loop's clock; infinite if nothing is set."""
        return self._at

    def set(self, seconds: float) -> None:
        """From now on, in place of what was set before; infinity sets nothing."""
        self._at = self._loop.time() + seconds
        if self._at < self._timer_at:
            self._start(self._at)

    def clear(self) -> None:
        """Set nothing."""
        self._at = math.inf

    def close(self) -> None:
        """Let go of the event loop and of whom it would have called back; `set` does nothing from now on."""
        if self._timer is not None:
            self._timer.cancel()
        self._at, self._timer, self._timer_at = math.inf, None, -math.inf
        self._on_reached = _nobody

    def _start(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._fire)
        self._timer_at = at

    def _fire(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if self._at == math.inf:
            return
        if self._loop.time() < self._at:
            self._start(self._at)
            return
        self._on_reached()


def _nobody() -> None:
    """Nobody waits any more."""
