"""Lets the thread that serves requests in between: no work here keeps the interpreter for long."""

import time
from typing import Final

_STEPS: Final = 8
_PAUSE_SECONDS: Final = 0.00005


class Pace:
    """Counts the steps of a thread's work, each some tens of microseconds, and pauses now and then.

    Without it the loop's thread would wait for the interpreter's switch interval, five milliseconds, each time.
    """

    def __init__(self) -> None:
        self._steps = 0

    def step(self) -> None:
        """Do this after each record."""
        self._steps += 1
        if self._steps >= _STEPS:
            self._steps = 0
            time.sleep(_PAUSE_SECONDS)
