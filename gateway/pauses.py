"""How long to wait before something that failed is tried again."""

from collections.abc import Callable
from random import random


class Pauses:
    """Pauses in seconds, each twice the one before, up to the longest; every one is shortened by chance, up to a half.

    So that those whom one fault has stopped do not all come back at once.
    """

    def __init__(self, first: float, longest: float, *, chance: Callable[[], float] = random) -> None:
        """Begin with the first; `chance` gives numbers from 0 up to 1."""
        self._first = first
        self._longest = longest
        self._chance = chance
        self._next = first

    def next(self) -> float:
        """Return how long to wait now."""
        pause, self._next = self._next, min(2 * self._next, self._longest)
        return pause * (0.5 + self._chance() / 2)

    def reset(self) -> None:
        """Begin again, because it worked."""
        self._next = self._first
