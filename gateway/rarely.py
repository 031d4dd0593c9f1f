"""Faults that anybody can bring about by the thousand, logged in one line a second."""

import logging

from gateway.clock import Ticks, boot_seconds

_PAUSE_SECONDS = 1.0


class Rarely:
    """Logs one kind of fault at most once a second, and how many were left out since the line before."""

    def __init__(self, log: logging.Logger, *, ticks: Ticks = boot_seconds) -> None:
        """Have logged nothing yet."""
        self._log = log
        self._ticks = ticks
        self._quiet_until = float("-inf")
        self._left_out = 0

    def error(self, message: str, *values: object) -> None:
        """Log it as an error, without a traceback, or count it."""
        self._say(logging.ERROR, message, values)

    def warning(self, message: str, *values: object) -> None:
        """Log it as a warning, or count it."""
        self._say(logging.WARNING, message, values)

    def _say(self, level: int, message: str, values: tuple[object, ...]) -> None:
        now = self._ticks()
        if now < self._quiet_until:
            self._left_out += 1
            return
        if self._left_out:
            message, values = f"{message} (and %d more since the last such line)", (*values, self._left_out)
        self._quiet_until, self._left_out = now + _PAUSE_SECONDS, 0
        self._log.log(level, message, *values, stacklevel=3)
