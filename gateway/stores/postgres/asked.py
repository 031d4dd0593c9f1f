"""The shared store's part about what staff ask accounts for."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

from gateway.stores import asked_rows as asked
from gateway.stores.postgres.connect import translated
from gateway.stores.postgres.writes import Fetch, save_change
from gateway.stores.request_room import Room
from gateway.stores.requesting import Requesting
from gateway.stores.rows import Row, write_time
from gateway.stores.store import StoreConflict
from policy.asking import GrantRequest, GrantRequestId, RequestRefusal, RequestState
from policy.grants import GrantChange
from policy.model import AccountId, ActorId

T = TypeVar("T")
# Of those who ask at once the second counts what the first has added, in whatever accounts they ask.
_ONE_BY_ONE = "SELECT pg_advisory_xact_lock(hashtext('locum.grant_requests'))"


class PostgresRequests(Requesting):
    """Keeps them for the store whose part this is."""

    async def _ask(self, sql: str, *values: object, seconds: float | None = None) -> list[Row]:
        raise NotImplementedError

    async def _together(self, work: Callable[[Fetch], Awaitable[T]]) -> T:
        raise NotImplementedError

    async def check_room(self, request: GrantRequest, *, room: Room) -> RequestRefusal | None:
        [counts] = await self._ask(_in_schema(asked.COUNT), *asked.count_row(request))
        return asked.judge_room(counts, room)

    async def add_grant_request(self, request: GrantRequest, *, room: Room) -> RequestRefusal | None:
        return await self._together(partial(_add, request=request, room=room))

    async def find_grant_request(self, request: GrantRequestId) -> GrantRequest | None:
        found = await self._requests(asked.FIND, request)
        return found[0] if found else None

    async def list_waiting(self, account: AccountId, *, at: datetime) -> Sequence[GrantRequest]:
        return await self._requests(asked.LIST_WAITING, account, write_time(at))

    async def list_asked(self, actor: ActorId, *, since: datetime) -> Sequence[GrantRequest]:
        return await self._requests(asked.LIST_ASKED, *actor, write_time(since))

    async def answer_grant_request(
        self, request: GrantRequestId, answer: RequestState, *, by: str, at: datetime, epoch: int | None = None
    ) -> bool:
        sql, row = asked.answering(request, answer, by=by, at=at, epoch=epoch)
        return bool(await self._together(lambda fetch: fetch(_in_schema(sql), row)))

    async def tidy_grant_requests(self, *, at: datetime) -> None:
        await self._together(lambda fetch: fetch(_in_schema(asked.FORGET), asked.forget_row(at)))

    async def save_approval(self, change: GrantChange, request: GrantRequestId, *, by: str, at: datetime) -> None:
        await self._together(partial(_approve, change=change, request=request, by=by, at=at))

    async def _requests(self, sql: str, *values: object) -> list[GrantRequest]:
        found = await self._ask(_in_schema(sql), *values)
        with translated():
            return [asked.read_request(row) for row in found]


def _in_schema(sql: str) -> str:
    return sql.format(s="locum.")


async def _add(fetch: Fetch, *, request: GrantRequest, room: Room) -> RequestRefusal | None:
    await fetch(_ONE_BY_ONE, ())
    [counts] = await fetch(_in_schema(asked.COUNT), asked.count_row(request))
    refused = asked.judge_room(counts, room)
    if refused is None and not await fetch(_in_schema(asked.ADD), asked.request_row(request)):
        raise StoreConflict(f"the request `{request.id}` exists already: choose another id")
    return refused


async def _approve(fetch: Fetch, *, change: GrantChange, request: GrantRequestId, by: str, at: datetime) -> None:
    await save_change(fetch, change=change, by=by, at=at)
    row = (*asked.answer_row(request, RequestState.APPROVED, by=by, at=at), change.account.id)
    if not await fetch(_in_schema(asked.APPROVE), row):
        raise StoreConflict(f"the request `{request}` does not wait any more")
