"""What staff ask for, in `MemoryStore`; see `tests.memory_store`."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property

from gateway.stores.request_room import Room
from gateway.stores.requesting import KEPT
from gateway.stores.store import AccountRecord, StoreConflict
from policy.asking import LATELY, GrantRequest, GrantRequestId, RequestRefusal, RequestState
from policy.grants import GrantChange
from policy.model import AccountId, ActorId


class MemoryRequests:
    """Keeps them for the store whose part this is."""

    hold: asyncio.Event | None
    _accounts: dict[AccountId, AccountRecord]

    @cached_property
    def _asked(self) -> dict[GrantRequestId, GrantRequest]:
        return {}

    async def _answer(self) -> None:
        raise NotImplementedError

    async def save_change(self, change: GrantChange, *, by: str, at: datetime) -> None:
        raise NotImplementedError

    def _changed(self, *, account: AccountId) -> None:
        raise NotImplementedError

    async def check_room(self, request: GrantRequest, *, room: Room) -> RequestRefusal | None:
        await self._answer()
        return self._judge(request, room)

    async def add_grant_request(self, request: GrantRequest, *, room: Room) -> RequestRefusal | None:
        await self._answer()
        refused = self._judge(request, room)
        if refused is None:
            if request.id in self._asked:
                raise StoreConflict(f"the request `{request.id}` exists already")
            self._asked[request.id] = request
            self._changed(account=request.account)
        return refused

    async def find_grant_request(self, request: GrantRequestId) -> GrantRequest | None:
        await self._answer()
        return self._asked.get(request)

    async def list_waiting(self, account: AccountId, *, at: datetime) -> Sequence[GrantRequest]:
        await self._answer()
        found = [one for one in self._asked.values() if one.account == account and _waits(one, at)]
        return sorted(found, key=lambda one: (one.asked_at, one.id))

    async def list_asked(self, actor: ActorId, *, since: datetime) -> Sequence[GrantRequest]:
        await self._answer()
        found = [one for one in self._asked.values() if one.actor == actor and one.asked_at >= since]
        by_id = sorted(found, key=lambda one: one.id)
        return sorted(by_id, key=lambda one: one.asked_at, reverse=True)

    async def answer_grant_request(
        self, request: GrantRequestId, answer: RequestState, *, by: str, at: datetime, epoch: int | None = None
    ) -> bool:
        await self._answer()
        found = self._asked.get(request)
        if found is None or not _waits(found, at):
            return False
        known = self._accounts.get(found.account)
        if epoch is not None and (known is None or known.account.epoch != epoch):
            return False
        self._asked[request] = replace(found, answer=answer, answered_at=at, answered_by=by)
        self._changed(account=found.account)
        return True

    async def tidy_grant_requests(self, *, at: datetime) -> None:
        await self._answer()
        for old in [one for one in self._asked.values() if one.expires_at <= at - KEPT]:
            del self._asked[old.id]

    async def save_approval(self, change: GrantChange, request: GrantRequestId, *, by: str, at: datetime) -> None:
        await self._answer()
        found = self._asked.get(request)
        if found is None or found.account != change.account.id or not _waits(found, at):
            raise StoreConflict("the request does not wait any more")
        # One step: nothing may come between the two.
        hold, self.hold = self.hold, None
        try:
            await self.save_change(change, by=by, at=at)
        finally:
            self.hold = hold
        self._asked[request] = replace(found, answer=RequestState.APPROVED, answered_at=at, answered_by=by)
        self._changed(account=found.account)

    def _judge(self, request: GrantRequest, room: Room) -> RequestRefusal | None:
        since, at = request.asked_at - LATELY, request.asked_at
        counted = [one for one in self._asked.values() if one.asked_at > since or _waits(one, at)]
        here = [one for one in counted if one.account == request.account]
        if sum(one.actor == request.actor for one in here) >= room.per_staff_and_account:
            return RequestRefusal.TOO_MANY_OF_STAFF_IN_ACCOUNT
        if len(here) >= room.per_account:
            return RequestRefusal.TOO_MANY_OF_ACCOUNT
        theirs = sum(one.actor == request.actor for one in counted)
        return RequestRefusal.TOO_MANY_OF_STAFF if theirs >= room.per_staff else None


def _waits(request: GrantRequest, at: datetime) -> bool:
    return request.answer is RequestState.WAITING and at < request.expires_at
