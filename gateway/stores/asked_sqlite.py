"""The embedded store's part about what staff ask accounts for."""

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

from gateway.stores import asked_rows as asked
from gateway.stores.lane import Lane
from gateway.stores.request_room import Room
from gateway.stores.requesting import Requesting
from gateway.stores.rows import Row, write_time
from gateway.stores.settings import save_change
from gateway.stores.store import StoreConflict
from policy.asking import GrantRequest, GrantRequestId, RequestRefusal, RequestState
from policy.grants import GrantChange
from policy.model import AccountId, ActorId

T = TypeVar("T")


class SqliteRequests(Requesting):
    """Keeps them for the store whose part this is."""

    _reader: Lane

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        raise NotImplementedError

    async def check_room(self, request: GrantRequest, *, room: Room) -> RequestRefusal | None:
        return await self._reader.run(partial(_judge, request=request, room=room))

    async def add_grant_request(self, request: GrantRequest, *, room: Room) -> RequestRefusal | None:
        return await self._write(partial(_add, request=request, room=room))

    async def find_grant_request(self, request: GrantRequestId) -> GrantRequest | None:
        found = await self._reader.run(partial(_list, sql=asked.FIND, row=(request,)))
        return found[0] if found else None

    async def list_waiting(self, account: AccountId, *, at: datetime) -> Sequence[GrantRequest]:
        return await self._reader.run(partial(_list, sql=asked.LIST_WAITING, row=(account, write_time(at))))

    async def list_asked(self, actor: ActorId, *, since: datetime) -> Sequence[GrantRequest]:
        return await self._reader.run(partial(_list, sql=asked.LIST_ASKED, row=(*actor, write_time(since))))

    async def answer_grant_request(
        self, request: GrantRequestId, answer: RequestState, *, by: str, at: datetime, epoch: int | None = None
    ) -> bool:
        sql, row = asked.answering(request, answer, by=by, at=at, epoch=epoch)
        return bool(await self._write(partial(_run, sql=sql, row=row)))

    async def tidy_grant_requests(self, *, at: datetime) -> None:
        await self._write(partial(_run, sql=asked.FORGET, row=asked.forget_row(at)))

    async def save_approval(self, change: GrantChange, request: GrantRequestId, *, by: str, at: datetime) -> None:
        await self._write(partial(_approve, change=change, request=request, by=by, at=at))


def _run(connection: sqlite3.Connection, *, sql: str, row: Row) -> list[Row]:
    values = {str(number): value for number, value in enumerate(row, start=1)}
    return connection.execute(sql.format(s=""), values).fetchall()


def _list(connection: sqlite3.Connection, *, sql: str, row: Row) -> list[GrantRequest]:
    # Rows are read in the lane, so that one without a meaning is a StoreError too.
    return [asked.read_request(found) for found in _run(connection, sql=sql, row=row)]


def _judge(connection: sqlite3.Connection, *, request: GrantRequest, room: Room) -> RequestRefusal | None:
    [counts] = _run(connection, sql=asked.COUNT, row=asked.count_row(request))
    return asked.judge_room(counts, room)


def _add(connection: sqlite3.Connection, *, request: GrantRequest, room: Room) -> RequestRefusal | None:
    refused = _judge(connection, request=request, room=room)
    if refused is None and not _run(connection, sql=asked.ADD, row=asked.request_row(request)):
        raise StoreConflict(f"the request `{request.id}` exists already: choose another id")
    return refused


def _approve(
    connection: sqlite3.Connection, *, change: GrantChange, request: GrantRequestId, by: str, at: datetime
) -> None:
    save_change(connection, change=change, by=by, at=at)
    row = (*asked.answer_row(request, RequestState.APPROVED, by=by, at=at), change.account.id)
    if not _run(connection, sql=asked.APPROVE, row=row):
        raise StoreConflict(f"the request `{request}` does not wait any more")
