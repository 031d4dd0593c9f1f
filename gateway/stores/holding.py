"""The store's contract for legal holds: accounts of whose records nothing is taken away."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from policy.model import AccountId

COLUMNS: Final = "account, set_by, reason, set_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why everything of an account's records is kept."""

    account: AccountId
    by: str
    reason: str
    at: datetime


class Holding(Protocol):
    """Every call raises StoreError when the store cannot answer."""

    async def add_hold(self, hold: Hold) -> None:
        """Put an account under hold, known or not; raises StoreConflict if it is."""

    async def list_holds(self) -> Sequence[Hold]:
        """Return all holds, by account."""

    async def remove_hold(self, account: AccountId) -> bool:
        """Release an account; False if it was not under hold."""
