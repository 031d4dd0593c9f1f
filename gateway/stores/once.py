"""The store's contract for values that count once: codes, hand-overs, states of a sign-in."""

from datetime import datetime
from typing import Protocol


class Redeeming(Protocol):
    """Every call raises StoreError when the store cannot answer."""

    async def add_one_time(self, digest: bytes, payload: str, *, expires_at: datetime, now: datetime) -> None:
        """Keep a payload until it is redeemed or expires; raises StoreConflict while one is kept for this digest.

        Of the value itself, which has 256 random bits, nothing but its SHA-256 is stored. What has expired by `now` is
        forgotten.
        """

    async def redeem(self, digest: bytes, *, now: datetime) -> str | None:
        """Return the payload and forget it, in one step: however many ask on however many nodes, one gets it.

        None if it was never added, was redeemed before, or has expired.
        """

    async def find_one_time(self, digest: bytes, *, now: datetime) -> str | None:
        """Return the payload that `redeem` would return now, and leave it."""

    async def swap_one_time(
        self, digest: bytes, payload: str, *, known: str, now: datetime, expires_at: datetime | None = None
    ) -> bool:
        """Put another payload in the place of the `known` one; False, and nothing is stored, if it is no more there.

        It ends when the other would have, or at `expires_at`.
        """
