"""What waits for the account's answer: a part of its page."""

from datetime import datetime
from typing import Any, Final

from gateway.clock import Clock
from gateway.console.account.door import PATH
from gateway.console.account.view import durations_of, permissions_of
from gateway.grants.asking import GrantRequests
from gateway.pages.words import DURATIONS, PERMISSIONS
from gateway.stores.store import AccountRecord
from policy.asking import GrantRequest
from policy.grants import GrantState, state
from policy.model import Grant

APPROVE: Final = f"{PATH}/requests/approve"
DECLINE: Final = f"{PATH}/requests/decline"
_MOST_SHOWN = 50


class Waiting:
    """What staff have asked the account for and nobody has answered yet."""

    def __init__(self, requests: GrantRequests, *, clock: Clock) -> None:
        self._requests = requests
        self._clock = clock

    async def of(self, record: AccountRecord) -> dict[str, Any]:
        """Return what the template takes, oldest first; raises StoreError."""
        now = self._clock()
        found = await self._requests.waiting(record.account.id)
        where = state(record.account, record.grant, now)
        current = record.grant if where is GrantState.ON else None
        shown = found[:_MOST_SHOWN]
        locked = await self._requests.locked_out(shown)
        return {
            "requests": [
                _describe(request, current, now=now) | {"is_locked": request.actor in locked} for request in shown
            ],
            "count": len(found),
            "can_approve": not record.account.suspended and where is not GrantState.TRIAL,
            "paths": {"approve": APPROVE, "decline": DECLINE},
        }


def _describe(request: GrantRequest, current: Grant | None, *, now: datetime) -> dict[str, Any]:
    """Return a request with the choices of its form: what was asked for beside what the account allows already."""
    held = current.permissions if current is not None else frozenset()
    return {
        "asked": request,
        "wished": DURATIONS[request.duration],
        "purposes": [PERMISSIONS[each][0] for each in PERMISSIONS if each in request.permissions],
        "durations": durations_of(current, now, wished=request.duration, longer=request.permissions <= held),
        "permissions": permissions_of(request.permissions | held, asked=request.permissions),
    }
