"""The shared store's part about notices."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from gateway.stores import outbox_rows as rows
from gateway.stores.outbox import ALL, Claim, Concerned, Contacts, Notice, Outbox, Pending, Room, Waiting
from gateway.stores.postgres.writes import Fetch
from gateway.stores.rows import Row, write_time
from gateway.stores.store import StoreConflict
from policy.model import AccountId

T = TypeVar("T")
_LISTS = {name: f"SELECT json_array_elements_text(CAST(:{name} AS json))" for name in ("ids", "full", "busy", "spared")}
_PLACES = {
    **_LISTS,
    "s": "locum.",
    # Nobody waits for whoever is taking the same.
    "locked": "FOR UPDATE SKIP LOCKED",
}


class PostgresOutbox(Outbox):
    """Keeps them for the store whose part this is."""

    async def _ask(self, sql: str, *values: object, seconds: float | None = None) -> list[Row]:
        raise NotImplementedError

    async def _together(self, work: Callable[[Fetch], Awaitable[T]]) -> T:
        raise NotImplementedError

    async def find_contacts(self, account: AccountId) -> Contacts | None:
        found = await self._read(rows.FIND_CONTACTS, {"account": account})
        return rows.read_contacts(found[0]) if found else None

    async def list_contacts(self) -> Sequence[Contacts]:
        return [rows.read_contacts(row) for row in await self._read(rows.LIST_CONTACTS, {})]

    async def page_contacts(self, after: str, *, most: int) -> Sequence[Concerned]:
        found = await self._read(rows.PAGE_CONTACTS, rows.page_values(after, most=most))
        return [rows.read_concerned(row) for row in found]

    async def save_contacts(self, contacts: Contacts, *, tell: Sequence[Notice], now: datetime) -> None:
        await self._together(partial(_save_contacts, contacts=contacts, tell=tell, now=now))

    async def add_notices(self, notices: Sequence[Notice], *, now: datetime) -> int:
        return await self._together(partial(_add, notices=notices, now=now))

    async def is_due(self, *, now: datetime, room: Room = ALL) -> bool:
        return bool(await self._read(rows.IS_DUE, rows.due_values(now, room)))

    async def claim_notices(
        self, holder: str, *, now: datetime, until: datetime, most: int, room: Room = ALL
    ) -> Claim | None:
        values = rows.claim_values(holder, now=now, until=until, room=room)
        return await self._together(partial(_claim, holder=holder, values=values, most=most))

    async def settle_notices(self, ids: Sequence[str], *, outcome: str) -> None:
        values = {"ids": rows.ids_value(ids), "outcome": outcome}
        await self._together(partial(_run, sql=rows.SETTLE, values=values))

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
        async def finish(fetch: Fetch) -> None:
            # The target before its notices, as whoever claims or retries: then none of them waits in a ring.
            values = rows.release_values(claim, not_before=not_before, failures=failures, error=error)
            await _run(fetch, sql=rows.RELEASE, values=values)
            await _run(fetch, sql=rows.NOTE, values={"ids": rows.ids_value(noted)})
            for values in rows.put_off_values(put_off):
                await _run(fetch, sql=rows.PUT_OFF, values=values)

        await self._together(finish)

    async def list_pending(self, *, account: str = "", most: int) -> Sequence[Pending]:
        return [
            rows.read_pending(row) for row in await self._read(rows.PENDING, rows.listed_values(account, most=most))
        ]

    async def list_given_up(self, *, account: str = "", most: int) -> Sequence[Notice]:
        return [
            rows.read_notice(row) for row in await self._read(rows.GIVEN_UP, rows.listed_values(account, most=most))
        ]

    async def retry_notices(self, ids: Sequence[str] | None, *, now: datetime) -> int:
        of_targets, of_notices = rows.retry_values(ids, now=now)

        async def retry(fetch: Fetch) -> int:
            await _run(fetch, sql=rows.RETRY_TARGETS, values=of_targets)
            return len(await _run(fetch, sql=rows.RETRY, values=of_notices))

        return await self._together(retry)

    async def count_waiting(self) -> Waiting:
        [row] = await self._read(rows.COUNT, {})
        return rows.read_waiting(row)

    async def tidy_notices(self, *, before: datetime, contacts_before: datetime, now: datetime) -> None:
        async def tidy(fetch: Fetch) -> None:
            await _run(fetch, sql=rows.FORGET, values={"before": write_time(before)})
            await _run(fetch, sql=rows.FORGET_FORMER, values={"before": write_time(contacts_before)})
            await _run(fetch, sql=rows.FORGET_TARGETS, values={"now": write_time(now)})

        await self._together(tidy)

    async def _read(self, sql: str, values: rows.Values) -> list[Row]:
        text, numbered = rows.numbered(sql.format_map(_PLACES), values)
        return await self._ask(text, *numbered)


async def _run(fetch: Fetch, *, sql: str, values: rows.Values) -> list[Row]:
    return await fetch(*rows.numbered(sql.format_map(_PLACES), values))


async def _save_contacts(fetch: Fetch, *, contacts: Contacts, tell: Sequence[Notice], now: datetime) -> None:
    if not await _run(fetch, sql=rows.SAVE_CONTACTS, values=rows.contacts_values(contacts)):
        raise StoreConflict(f"the contacts of `{contacts.account}` have changed meanwhile: read them again")
    await _add(fetch, notices=tell, now=now)


async def _add(fetch: Fetch, *, notices: Sequence[Notice], now: datetime) -> int:
    added = 0
    # In the order of their targets, so that two who add at the same time do not wait for each other for ever.
    for notice in sorted(notices, key=lambda each: (each.target, each.id)):
        if await _run(fetch, sql=rows.ADD_NOTICE, values=rows.notice_values(notice)):
            await _run(fetch, sql=rows.ADD_TARGET, values=rows.target_values(notice.target, now=now))
            added += 1
    return added


async def _claim(fetch: Fetch, *, holder: str, values: rows.Values, most: int) -> Claim | None:
    found = await _run(fetch, sql=rows.CLAIM_TARGET, values=values)
    if not found:
        return None
    claimed = await _run(fetch, sql=rows.CLAIMED, values=rows.claimed_values(found[0], claim=values, most=most))
    return rows.read_claim(found[0], holder, claimed)
