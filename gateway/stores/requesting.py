"""The store's contract for what staff ask accounts for."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from gateway.stores.request_room import Room
from policy.asking import GrantRequest, GrantRequestId, RequestRefusal, RequestState
from policy.grants import GrantChange
from policy.model import AccountId, ActorId

COLUMNS: Final = """
    id, account, actor_issuer, actor_subject, actor_name, permissions, duration, ticket, reason, asked_at, expires_at,
    answer, answered_at, answered_by
"""
KEPT: Final = timedelta(days=30)
"""So long after its end a request is kept, to be shown to who asked; then it is forgotten."""


class Requesting(Protocol):
    """Every call raises StoreError when the store cannot answer. Each change of a request names its account."""

    async def check_room(self, request: GrantRequest, *, room: Room) -> RequestRefusal | None:
        """Return which bound one more request, made at its `asked_at`, would break; None if there is room."""

    async def add_grant_request(self, request: GrantRequest, *, room: Room) -> RequestRefusal | None:
        """Add a request if there is room, or return which bound it breaks; raises StoreConflict if its id is taken.

        Of any number that come at once, by whatever processes, no more are added than there may be.
        """

    async def find_grant_request(self, request: GrantRequestId) -> GrantRequest | None:
        """Return a request, answered and expired ones included as long as they are kept."""

    async def list_waiting(self, account: AccountId, *, at: datetime) -> Sequence[GrantRequest]:
        """Return what nobody has answered and what has not expired `at` this time, oldest first."""

    async def list_asked(self, actor: ActorId, *, since: datetime) -> Sequence[GrantRequest]:
        """Return all that a staff member has asked for `since` then, whatever became of it, newest first."""

    async def answer_grant_request(
        self, request: GrantRequestId, answer: RequestState, *, by: str, at: datetime, epoch: int | None = None
    ) -> bool:
        """Answer a request; False, and nothing changes, if it does not wait `at` this time.

        With `epoch`, also if its account is not of that epoch.

        Of any number of answers at once one is True.
        """

    async def tidy_grant_requests(self, *, at: datetime) -> None:
        """Forget those whose end is longer ago than KEPT."""

    async def save_approval(self, change: GrantChange, request: GrantRequestId, *, by: str, at: datetime) -> None:
        """Do as `save_change` does, and mark the request as approved, in one step.

        Raises StoreConflict as that does, and if the request is another account's or does not wait `at` this time; then
        neither is done.
        """
