"""The store's contract for what somebody has to come for, and for whom the provider's own sessions are."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from policy.model import ActorId, Assumption, AssumptionId


class Awaiting(Protocol):
    """Every call raises StoreError when the store cannot answer."""

    async def expect_browser(self, assumption: AssumptionId, *, until: datetime, now: datetime) -> None:
        """Note that a browser has to take an assumption over by `until`, however this process fares."""

    async def list_unclaimed(self, *, at: datetime) -> Sequence[Assumption]:
        """Return those that no browser has taken over in time, that go on all the same, oldest first."""

    async def list_over(self, *, at: datetime, since: datetime, most: int) -> Sequence[Assumption]:
        """Return at most `most` of those that nobody has ended, but their own time, or their grant, was over by `at`.

        Left out are those whose own time was over by `since`. Whose time ends first comes first.
        """

    async def find_actor_of(self, issuer: str, session: str) -> ActorId | None:
        """Return who signed in here, with a browser, in a session that the provider knows by its `sid`.

        None if nobody's session here is of that one, or if it cannot be told whose it is.
        """
