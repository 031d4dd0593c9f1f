"""So many a second in the long run, and some more at once."""


class Allowance:
    """Counts what is taken of it; a clock that goes back gives nothing."""

    __slots__ = ("_left", "_most", "_per_second", "_since")

    def __init__(self, per_second: float, most: int) -> None:
        """Give `per_second`, and up to `most` at once to whoever has not taken any for a while."""
        self._per_second = per_second
        self._most = self._left = float(most)
        self._since = float("-inf")

    def take(self, now: float) -> bool:
        """Take one, at `now` in seconds; False if there is none left."""
        self._left = min(self._most, self._left + max(0.0, now - self._since) * self._per_second)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
