"""The embedded store's part about notices."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from gateway.stores import outbox_rows as rows
from gateway.stores.lane import Lane
from gateway.stores.outbox import ALL, Claim, Concerned, Contacts, Notice, Outbox, Pending, Room, Waiting
from gateway.stores.rows import Row, write_time
from gateway.stores.store import StoreConflict
from policy.model import AccountId

T = TypeVar("T")
_LISTS = {
    name: f"SELECT value FROM json_each(:{name})"  # noqa: S608 - our own words
    for name in ("ids", "full", "busy", "spared")
}
_PLACES = {"s": "", "locked": "", **_LISTS}


class SqliteOutbox(Outbox):
    """Keeps them for the store whose part this is."""

    _reader: Lane

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        raise NotImplementedError

    async def find_contacts(self, account: AccountId) -> Contacts | None:
        found = await self._reader.run(partial(_contacts, sql=rows.FIND_CONTACTS, values={"account": account}))
        return found[0] if found else None

    async def list_contacts(self) -> Sequence[Contacts]:
        return await self._reader.run(partial(_contacts, sql=rows.LIST_CONTACTS, values={}))

    async def page_contacts(self, after: str, *, most: int) -> Sequence[Concerned]:
        return await self._reader.run(partial(_page, values=rows.page_values(after, most=most)))

    async def save_contacts(self, contacts: Contacts, *, tell: Sequence[Notice], now: datetime) -> None:
        await self._write(partial(_save_contacts, contacts=contacts, tell=tell, now=now))

    async def add_notices(self, notices: Sequence[Notice], *, now: datetime) -> int:
        return await self._write(partial(_add, notices=notices, now=now))

    async def is_due(self, *, now: datetime, room: Room = ALL) -> bool:
        return bool(await self._reader.run(partial(_run, sql=rows.IS_DUE, values=rows.due_values(now, room))))

    async def claim_notices(
        self, holder: str, *, now: datetime, until: datetime, most: int, room: Room = ALL
    ) -> Claim | None:
        values = rows.claim_values(holder, now=now, until=until, room=room)
        return await self._write(partial(_claim, holder=holder, values=values, most=most))

    async def settle_notices(self, ids: Sequence[str], *, outcome: str) -> None:
        values = {"ids": rows.ids_value(ids), "outcome": outcome}
        await self._write(partial(_run, sql=rows.SETTLE, values=values))

    async def finish_claim(
        self,
        claim: Claim,
        *,
        noted: Sequence[str],
        not_before: datetime,
        failures: int,
        error: str = "",
        put_off: Mapping[str, datetime] = MappingProxyType({}),
    ) -> None:
        def finish(connection: sqlite3.Connection) -> None:
            values = rows.release_values(claim, not_before=not_before, failures=failures, error=error)
            _run(connection, sql=rows.RELEASE, values=values)
            _run(connection, sql=rows.NOTE, values={"ids": rows.ids_value(noted)})
            for values in rows.put_off_values(put_off):
                _run(connection, sql=rows.PUT_OFF, values=values)

        await self._write(finish)

    async def list_pending(self, *, account: str = "", most: int) -> Sequence[Pending]:
        values = rows.listed_values(account, most=most)
        return [
            rows.read_pending(row) for row in await self._reader.run(partial(_run, sql=rows.PENDING, values=values))
        ]

    async def list_given_up(self, *, account: str = "", most: int) -> Sequence[Notice]:
        values = rows.listed_values(account, most=most)
        found = await self._reader.run(partial(_run, sql=rows.GIVEN_UP, values=values))
        return [rows.read_notice(row) for row in found]

    async def retry_notices(self, ids: Sequence[str] | None, *, now: datetime) -> int:
        of_targets, of_notices = rows.retry_values(ids, now=now)

        def retry(connection: sqlite3.Connection) -> int:
            _run(connection, sql=rows.RETRY_TARGETS, values=of_targets)
            return len(_run(connection, sql=rows.RETRY, values=of_notices))

        return await self._write(retry)

    async def count_waiting(self) -> Waiting:
        [row] = await self._reader.run(partial(_run, sql=rows.COUNT, values={}))
        return rows.read_waiting(row)

    async def tidy_notices(self, *, before: datetime, contacts_before: datetime, now: datetime) -> None:
        def tidy(connection: sqlite3.Connection) -> None:
            _run(connection, sql=rows.FORGET, values={"before": write_time(before)})
            _run(connection, sql=rows.FORGET_FORMER, values={"before": write_time(contacts_before)})
            _run(connection, sql=rows.FORGET_TARGETS, values={"now": write_time(now)})

        await self._write(tidy)


def _run(connection: sqlite3.Connection, *, sql: str, values: rows.Values) -> list[Row]:
    return connection.execute(sql.format_map(_PLACES), dict(values)).fetchall()


def _contacts(connection: sqlite3.Connection, *, sql: str, values: rows.Values) -> list[Contacts]:
    return [rows.read_contacts(row) for row in _run(connection, sql=sql, values=values)]


def _page(connection: sqlite3.Connection, *, values: rows.Values) -> list[Concerned]:
    return [rows.read_concerned(row) for row in _run(connection, sql=rows.PAGE_CONTACTS, values=values)]


def _save_contacts(
    connection: sqlite3.Connection, *, contacts: Contacts, tell: Sequence[Notice], now: datetime
) -> None:
    if not _run(connection, sql=rows.SAVE_CONTACTS, values=rows.contacts_values(contacts)):
        raise StoreConflict(f"the contacts of `{contacts.account}` have changed meanwhile: read them again")
    _add(connection, notices=tell, now=now)


def _add(connection: sqlite3.Connection, *, notices: Sequence[Notice], now: datetime) -> int:
    added = 0
    for notice in notices:
        if _run(connection, sql=rows.ADD_NOTICE, values=rows.notice_values(notice)):
            _run(connection, sql=rows.ADD_TARGET, values=rows.target_values(notice.target, now=now))
            added += 1
    return added


def _claim(connection: sqlite3.Connection, *, holder: str, values: rows.Values, most: int) -> Claim | None:
    found = _run(connection, sql=rows.CLAIM_TARGET, values=values)
    if not found:
        return None
    claimed = _run(connection, sql=rows.CLAIMED, values=rows.claimed_values(found[0], claim=values, most=most))
    return rows.read_claim(found[0], holder, claimed)
