"""Which workers hang: asked for a sign of life again and again, and given a time for it."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

_TICKS_A_DEADLINE = 4
_LONGEST_TICK_SECONDS = 1.0
_TICKS_MISSED = 2.0


class Watched(Protocol):
    """A worker that can be asked for a sign of life."""

    @property
    def asked_at(self) -> float | None:
        """Since when it owes one, None if it does not."""

    def ping(self, now: float) -> None:
        """Ask, or, if it owes one already, let the time for it begin anew."""


W = TypeVar("W", bound=Watched)


def tick_seconds(deadline: float) -> float:
    """Return how often to look when a sign of life is due within `deadline` seconds."""
    return min(deadline / _TICKS_A_DEADLINE, _LONGEST_TICK_SECONDS)


class Vigil:
    """Looks after workers by a clock that only goes forward (CLOCK_MONOTONIC); `now` is its time."""

    def __init__(self) -> None:
        self._looked_at: float | None = None

    def look(self, workers: Iterable[W], now: float, deadline: float) -> list[W]:
        """Return those that have owed a sign of life for `deadline` seconds, and ask each that owes none.

        Call it at each tick. If we have missed ticks ourselves, the machine may have stood still or been too busy, and
        that says nothing of a worker: then nobody hangs, and the time begins anew for all.
        """
        since, self._looked_at = self._looked_at, now
        asleep = since is not None and now - since > _TICKS_MISSED * tick_seconds(deadline)
        hanging = []
        for worker in workers:
            if worker.asked_at is None or asleep:
                worker.ping(now)
            elif now - worker.asked_at >= deadline:
                hanging.append(worker)
        return hanging
