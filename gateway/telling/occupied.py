"""How much may be under way at the same time, so that whoever is slow holds up as few others as can be."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from gateway.stores.outbox import Claim, Room

_OF_CHANNEL: Final = 8
_OF_ACCOUNT: Final = 2


class Occupied:
    """What one process has in hand; one loop's."""

    def __init__(self, spared: Sequence[str]) -> None:
        """Claims of the `spared` addresses, which are the operator's own, are no account's."""
        self._spared = tuple(spared)
        self._channels: Counter[str] = Counter()
        self._accounts: Counter[str] = Counter()

    @property
    def room(self) -> Room:
        """What is not to be claimed beside it."""
        return Room(
            full=[channel for channel, count in self._channels.items() if count >= _OF_CHANNEL],
            busy=[account for account, count in self._accounts.items() if count >= _OF_ACCOUNT],
            spared=self._spared,
        )

    def take(self, claim: Claim) -> None:
        """Take note that a claim is dealt with."""
        self._channels[claim.target.channel] += 1
        self._accounts.update(self._whose(claim))

    def leave(self, claim: Claim) -> None:
        """Take note that it no longer is."""
        self._channels[claim.target.channel] -= 1
        self._accounts.subtract(self._whose(claim))
        self._accounts = +self._accounts

    def _whose(self, claim: Claim) -> set[str]:
        if claim.target.address in self._spared:
            return set()
        return {notice.account for notice in claim.notices if notice.account}
