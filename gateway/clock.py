"""The only place that reads the time; everything else is told."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the time now, aware and in UTC."""

Ticks = Callable[[], float]
"""Returns seconds on a clock that never goes back."""


def utc_now() -> datetime:
    """Return the wall-clock time in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is the place


def boot_seconds() -> float:
    """Return seconds since boot, suspended time included, so that an answer ages while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
