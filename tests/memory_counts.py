"""What `MemoryStore` counts; see `tests.memory_store`."""

from datetime import datetime


class MemoryCounts:
    """Keeps counts among the one-time values of the store whose part this is."""

    _one_time: dict[bytes, tuple[str, datetime]]

    async def _answer(self) -> None:
        raise NotImplementedError

    async def count(self, digest: bytes, *, most: int, expires_at: datetime, now: datetime) -> bool:
        await self._answer()
        counted, ends_at = self._one_time.get(digest, ("0", now))
        if ends_at <= now:
            counted, ends_at = "0", expires_at
        if int(counted) >= most:
            return False
        self._one_time[digest] = (str(int(counted) + 1), ends_at)
        return True

    async def discount(self, digest: bytes, *, now: datetime) -> None:
        await self._answer()
        counted, ends_at = self._one_time.get(digest, ("0", now))
        if ends_at > now and int(counted) > 0:
            self._one_time[digest] = (str(int(counted) - 1), ends_at)
