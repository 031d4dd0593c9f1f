"""How often what costs a record on the disk, and maybe mails to many, is done at an account's page: forms, sign-ins."""

from dataclasses import dataclass
from typing import Final

from gateway.clock import Ticks
from gateway.console.account.admission import Visit
from policy.model import AccountId

PERSON_MOST: Final = 30
ACCOUNT_MOST: Final = 90
"""So many at once, in each process; nobody who means them has that many."""
_PERSON_SECONDS: Final = 6.0
_ACCOUNT_SECONDS: Final = 2.0
"""After so long one more."""
_MOST_IDLE: Final = 1024
_Key = AccountId | tuple[AccountId, str]


@dataclass(frozen=True, slots=True)
class _Share:
    most: int
    seconds: float
    """After which one comes back."""
    used: float = 0.0
    at: float = 0.0

    def used_by(self, now: float) -> float:
        return max(0.0, self.used - (now - self.at) / self.seconds)


class FormShares:
    """Each person has a share, and each account one for all of its people: who sends a lot has only their own wait."""

    def __init__(self, ticks: Ticks) -> None:
        self._ticks = ticks
        self._shares: dict[_Key, _Share] = {}

    def take(self, visit: Visit) -> bool:
        """Count one form of theirs; False if they, or all of their account together, have had their share."""
        return self.take_of(visit.account, visit.administrator.id)

    def take_of(self, account: AccountId, person: str) -> bool:
        """Count one of somebody's, by whatever they are known; likewise."""
        now = self._ticks()
        wanted: dict[_Key, _Share] = {}
        for key, most, seconds in (
            (account, ACCOUNT_MOST, _ACCOUNT_SECONDS),
            ((account, person), PERSON_MOST, _PERSON_SECONDS),
        ):
            used = self._shares.get(key, _Share(most, seconds)).used_by(now)
            if used > most - 1:
                return False
            wanted[key] = _Share(most, seconds, used + 1, now)
        self._shares |= wanted
        if len(self._shares) > _MOST_IDLE:
            self._shares = {key: share for key, share in self._shares.items() if share.used_by(now) > 0}
        return True
