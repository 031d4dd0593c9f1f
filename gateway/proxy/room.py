"""Whom to close once there are as many connections as there may be: those that have waited longest for a request."""

import asyncio
import heapq
import math
from collections.abc import Collection
from typing import Protocol

_SHARE = 100
_PAUSE_SECONDS = 0.1
_MOST_LEAVING = 20


class Waiting(Protocol):
    """A connection, as far as it matters here."""

    @property
    def idle_since(self) -> float:
        """Since when it waits for a request, by the loop's clock; infinite if it does not."""

    def stop(self) -> None:
        """Close it, as nothing is under way."""


class Room:
    """Closes who only waits, so that nobody keeps others out by doing nothing.

    To find the longest each connection is looked at, so one in a hundred of them goes at a time; and if nobody waits,
    nobody is looked at for a tenth of a second, or a flood of newcomers would take all of the loop's time.
    """

    def __init__(self) -> None:
        """Nobody was asked to go yet."""
        self._leaving: set[Waiting] = set()
        self._not_before = -math.inf

    @property
    def leaving(self) -> int:
        """How many were asked to go and are not gone yet."""
        return len(self._leaving)

    def make(self, connections: Collection[Waiting]) -> int:
        """Ask some of them to go, and return how many that are; call `gone` of each that has."""
        now = asyncio.get_running_loop().time()
        # With TLS a farewell takes a while, and each still holds its socket.
        most = min(len(connections) // _SHARE + 1, len(connections) // _MOST_LEAVING + 1 - len(self._leaving))
        if now < self._not_before or most <= 0:
            return 0
        idle = [each for each in connections if each.idle_since < math.inf]
        longest = heapq.nsmallest(most, idle, key=lambda each: each.idle_since)
        if not longest:
            self._not_before = now + _PAUSE_SECONDS
        for each in longest:
            self._leaving.add(each)
            each.stop()
        return len(longest)

    def gone(self, connection: Waiting) -> None:
        """That one is closed, whether or not it was asked to go."""
        self._leaving.discard(connection)
