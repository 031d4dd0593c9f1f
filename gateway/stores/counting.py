"""The store's contract for counting what somebody does: how often, until when, and no more often than they may."""

from datetime import datetime
from typing import Protocol


class Counting(Protocol):
    """Counts are one-time values, forgotten like those; each call is one step, so nobody is counted twice or missed."""

    async def count(self, digest: bytes, *, most: int, expires_at: datetime, now: datetime) -> bool:
        """Count one more; False, and nothing is counted, if there are `most` (one at least) already.

        A count begins with its first, and ends at the `expires_at` that this one has named. Raises StoreError.
        """

    async def discount(self, digest: bytes, *, now: datetime) -> None:
        """Count one less, where there is a count above nothing; raises StoreError."""
