"""What was used once and must not be used again, for as long as it could count."""

from cachetools import TTLCache

from gateway.clock import Ticks

MOST = 65536


class Full(Exception):
    """Ours: so much is remembered that no more can be, and what could not be remembered could be used again."""


class Taken:
    """Remembers digests of this process's; nothing is forgotten before its time to make room."""

    def __init__(self, *, seconds: float, ticks: Ticks, most: int = MOST) -> None:
        """Remember each for so many seconds."""
        self._digests: TTLCache[bytes, None] = TTLCache(most, seconds, timer=ticks)

    def take(self, digest: bytes) -> bool:
        """Tell whether it is taken for the first time, which is so once; raises Full."""
        if digest in self._digests:
            return False
        if len(self._digests) >= self._digests.maxsize:
            self._digests.expire()
            if len(self._digests) >= self._digests.maxsize:
                raise Full
        self._digests[digest] = None
        return True
