"""Places that are taken for a while and counted by whose they are, so that nobody takes them all from the others."""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class Shares:
    """So many at a time of one, and maybe so many of all together; whoever has none keeps nothing here."""

    def __init__(self, of_one: int, *, of_all: int | None = None) -> None:
        self._of_one = of_one
        self._of_all = of_all
        self._taken: Counter[Hashable] = Counter()

    @property
    def count(self) -> int:
        """How many are taken."""
        return self._taken.total()

    @contextmanager
    def place(self, whose: Hashable) -> Iterator[bool]:
        """Take a place until the block ends; yields whether there was one."""
        if self._taken[whose] >= self._of_one or (self._of_all is not None and self.count >= self._of_all):
            yield False
            return
        self._taken[whose] += 1
        try:
            yield True
        finally:
            self._taken[whose] -= 1
            if not self._taken[whose]:
                del self._taken[whose]
