"""The only place that reads the time; everything else is told."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
"""Returns the time now, aware and in UTC."""

Ticks = Callable[[], float]
"""Returns seconds on a clock that never goes back."""

boot_seconds: Ticks = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""Returns seconds since boot, suspended time included, so that an answer ages while the machine sleeps."""

_LEAST_STEP_SECONDS = 2.0


def utc_now() -> datetime:
    """Return the wall-clock time in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is the place


class SteadyClock:
    """Tells the wall-clock time, but never goes back: nothing may last longer because a clock was set.

    It goes on by the time since boot from the latest that it has known. So a wall clock that is set forward counts at
    once; one that is set back is not followed, until it has caught up or this process starts anew.
    """

    now: Clock
    """Returns the time now, not before any that was returned earlier."""
    seconds_set_back: Callable[[], float]
    """Returns how far the wall clock is behind `now`; 0, unless it was set back by more than two seconds."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - this is the place
        boot: Ticks = boot_seconds,
    ) -> None:
        """Read seconds since 1970 from `wall`, which may be set, and seconds that only go on from `boot`."""
        # Functions over two variables, because `now` is asked more than once for each request.
        offset = wall() - boot()
        """The furthest that the wall clock was ever ahead of the boot clock."""
        warned = False
        moment = datetime.fromtimestamp

        def now() -> datetime:
            nonlocal offset, warned
            # In this order: a pause between the two makes the wall clock look late, and that changes nothing.
            ahead = wall() - (since_boot := boot())
            if ahead > offset:
                offset, warned = ahead, False
            elif offset - ahead > _LEAST_STEP_SECONDS and not warned:
                warned = True
                _warn(offset - ahead)
            return moment(since_boot + offset, UTC)

        def seconds_set_back() -> float:
            behind = offset - (wall() - boot())
            return behind if behind > _LEAST_STEP_SECONDS else 0.0

        self.now, self.seconds_set_back = now, seconds_set_back


def _warn(seconds: float) -> None:
    log.warning(
        "the clock was set back by %.0f s: the gateway does not follow, so that nothing lasts longer; if it was wrong"
        " before and is right now, restart the gateway",
        seconds,
    )
