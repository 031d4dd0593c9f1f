"""The embedded store: one SQLite file, written by one thread, read by another that never waits for it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from json import dumps
from pathlib import Path
from typing import TypeVar

from gateway.stores import begun, browsers, keys, local, rows, settings, visits
from gateway.stores.asked_sqlite import SqliteRequests
from gateway.stores.browsing import BrowserAssumption, StoredJar
from gateway.stores.database import connect_reader, connect_writer
from gateway.stores.holding import COLUMNS, Hold
from gateway.stores.lane import Lane
from gateway.stores.migrate import transaction
from gateway.stores.outbox_sqlite import SqliteOutbox
from gateway.stores.store import (
    AccountRecord,
    Changes,
    Client,
    GrantEvent,
    KillSwitch,
    Push,
    StaffSession,
    Store,
    StoreConflict,
    StoredKey,
)
from policy.claims import LONGEST_BROWSER
from policy.grants import GrantChange
from policy.model import Account, AccountId, ActorId, Assumption, AssumptionId, ClientId, Grant, GrantId, Staff

T = TypeVar("T")
_TELL_SECONDS = 0.0005
_WITH_GRANT = "FROM accounts AS a LEFT JOIN grants AS g ON g.id = a.grant_id"


async def open_sqlite(path: Path, *, busy_seconds: float = 5) -> "SqliteStore":
    """Open the database at `path`, made or migrated first where needed.

    A new file can be read by its owner only, a new directory likewise. A lock of another process is waited for at
    most `busy_seconds`. Raises StoreError, also for a file open to everybody on the machine: it holds signing keys.
    """
    store = SqliteStore(
        writer=Lane("store-writer", partial(connect_writer, path, busy_seconds), path),
        reader=Lane("store-reader", partial(connect_reader, path, busy_seconds), path, tell_seconds=_TELL_SECONDS),
        channel=local.channel_of(path),
    )
    try:
        await store.open()
    except asyncio.CancelledError:
        # Whoever has stopped waiting for a disk that hangs waits for its end no longer either.
        store.let_go()
        raise
    except BaseException:
        await store.close()
        raise
    return store


class SqliteStore(SqliteRequests, SqliteOutbox, Store):
    """A write is on the disk when its call returns; if the caller was cancelled, it is there as a whole or not at all.

    Several processes may have the same file open.
    """

    def __init__(self, *, writer: Lane, reader: Lane, channel: Path) -> None:
        """Take two lanes to the same file, and the directory of its local channel; `open_sqlite` makes them."""
        self._writer = writer
        self._reader = reader
        self._channel = channel

    async def open(self) -> None:
        """Connect, the writer first, because it makes the file."""
        await self._writer.open()
        await self._reader.open()

    async def close(self) -> None:
        """Let go of the database, behind the calls under way; may be called again, all else raises StoreError."""
        for closed in self.let_go():
            await closed

    def let_go(self) -> Sequence[Awaitable[None]]:
        """Do as `close` does, and return what to wait for; it happens even if nobody does."""
        # The writer goes last, because only a writer can leave one file that is whole without its log.
        return [self._reader.close(), self._writer.close(after=self._reader)]

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Push]:
        async with local.listen(self._channel, self._look) as push:
            yield push

    async def _look(self) -> int:
        # Another number whenever another connection committed, and to the one that reads every writer is another
        # (https://sqlite.org/pragma.html#pragma_data_version).
        return await self._reader.run(_read_version)

    async def read_changes(self, after: int) -> Changes:
        return await self._reader.run(partial(_read_changes, after=after))

    async def raise_position(self, beyond: int) -> None:
        sql = "INSERT INTO changes (position) SELECT max(coalesce(max(position), 0), ?) + 1 FROM changes"
        await self._change(sql, (beyond,))

    async def touch_account(self, account: AccountId) -> None:
        await self._write(partial(_touch_account, account=account))

    async def find_kill_switch(self) -> KillSwitch:
        found = await self._find(rows.read_kill_switch, rows.select(rows.KILL_SWITCH, "FROM kill_switch"))
        return found or KillSwitch()

    async def set_kill_switch(self, switch: KillSwitch, *, known: KillSwitch | None = None) -> bool:
        row = rows.kill_switch_row(switch)
        if known is not None:
            sql = """
                UPDATE kill_switch SET stopped = ?, set_by = ?, reason = ?, set_at = ?
                WHERE stopped = ? AND set_by = ? AND reason = ? AND set_at IS ?
            """
            return await self._change(sql, (*row, *rows.kill_switch_row(known))) == 1
        sql = """
            INSERT INTO kill_switch (id, stopped, set_by, reason, set_at) VALUES (1, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE
            SET stopped = excluded.stopped, set_by = excluded.set_by, reason = excluded.reason, set_at = excluded.set_at
        """
        return await self._change(sql, row) == 1

    async def find_account(self, account: AccountId) -> AccountRecord | None:
        sql = rows.select(rows.RECORD, f"{_WITH_GRANT} WHERE a.id = ?")
        return await self._find(rows.read_record, sql, account)

    async def add_account(self, account: Account) -> None:
        sql = "INSERT INTO accounts (id, type, suspended, epoch, attributes) VALUES (?, ?, ?, ?, ?)"
        sql += " ON CONFLICT DO NOTHING"
        await self._add(f"the account `{account.id}`", sql, rows.account_row(account))

    async def list_accounts(self) -> Sequence[AccountRecord]:
        sql = rows.select(rows.RECORD, f"{_WITH_GRANT} ORDER BY a.id")
        return await self._list(rows.read_record, sql)

    async def search_accounts(self, text: str, *, most: int, after: str = "") -> Sequence[AccountRecord]:
        sql = rows.select(rows.RECORD, f"{_WITH_GRANT} WHERE a.id > ? AND instr(a.id, ?) > 0 ORDER BY a.id LIMIT ?")
        return await self._list(rows.read_record, sql, after, text, most)

    async def save_change(self, change: GrantChange, *, by: str, at: datetime) -> None:
        await self._write(partial(settings.save_change, change=change, by=by, at=at))

    async def list_changes(self, account: AccountId) -> Sequence[GrantEvent]:
        sql = rows.select(rows.EVENT, "FROM grant_events WHERE account = ? ORDER BY epoch DESC")
        return await self._list(rows.read_event, sql, account)

    async def find_grant(self, grant: GrantId) -> Grant | None:
        sql = rows.select(rows.GRANT, "FROM grants WHERE id = ?")
        return await self._find(rows.read_grant, sql, grant)

    async def begin_assumption(
        self, assumption: Assumption, staff: Staff, *, at: datetime, most: int | None = None
    ) -> None:
        await self._write(partial(begun.begin, assumption=assumption, staff=staff, at=at, most=most))

    async def list_begun(self, actor: ActorId, *, at: datetime) -> Sequence[Assumption]:
        return await self._list(rows.read_assumption, begun.LIST, *begun.open_of(actor, at=at))

    async def find_assumption(self, assumption: AssumptionId) -> Assumption | None:
        sql = rows.select(rows.ASSUMPTION, "FROM assumptions WHERE id = ?")
        return await self._find(rows.read_assumption, sql, assumption)

    async def end_assumption(self, assumption: AssumptionId, *, at: datetime) -> bool:
        sql = "UPDATE assumptions SET ended_at = ? WHERE id = ? AND ended_at IS NULL"
        return await self._change(sql, (rows.write_time(at), assumption)) == 1

    async def end_assumptions_of(self, actor: ActorId, *, at: datetime) -> Sequence[AssumptionId]:
        sql = """
            UPDATE assumptions SET ended_at = ? WHERE actor_issuer = ? AND actor_subject = ? AND ended_at IS NULL
            RETURNING id
        """
        row = (rows.write_time(at), actor.issuer, actor.subject)
        ended = await self._write(lambda connection: connection.execute(sql, row).fetchall())
        return [AssumptionId(assumption) for [assumption] in ended]

    async def sign_out(self, actor: ActorId, *, since: datetime, at: datetime) -> Sequence[Assumption]:
        return await self._write(partial(_sign_out, actor=actor, since=since, at=at))

    async def list_assumptions(self, *, at: datetime, account: AccountId | None = None) -> Sequence[Assumption]:
        only = "" if account is None else "AND account = ?"
        where = f"FROM assumptions WHERE ended_at IS NULL AND expires_at > ? {only} ORDER BY started_at, id"
        values = (rows.write_time(at), *(() if account is None else (account,)))
        return await self._list(rows.read_assumption, rows.select(rows.ASSUMPTION, where), *values)

    async def save_staff(self, staff: Staff, *, at: datetime) -> None:
        await self._change(visits.SAVE_STAFF, rows.staff_row(staff, at=at))

    async def find_staff(self, actor: ActorId) -> Staff | None:
        sql = rows.select(rows.STAFF, "FROM staff WHERE issuer = ? AND subject = ?")
        return await self._find(rows.read_staff, sql, actor.issuer, actor.subject)

    async def disable_staff(self, actor: ActorId, *, disabled: bool) -> bool:
        sql = "UPDATE staff SET disabled = ? WHERE issuer = ? AND subject = ?"
        return await self._change(sql, (disabled, actor.issuer, actor.subject)) == 1

    async def begin_session(self, session: StaffSession, staff: Staff, *, at: datetime) -> None:
        await self._write(partial(visits.begin_session, session=session, staff=rows.staff_row(staff, at=at), at=at))

    async def find_session(self, digest: bytes) -> StaffSession | None:
        return await self._find(rows.read_session, visits.FIND, digest)

    async def touch_session(self, digest: bytes, *, at: datetime) -> None:
        await self._change(visits.TOUCH, (rows.write_time(at), digest))

    async def end_session(self, digest: bytes) -> StaffSession | None:
        return await self._write(partial(visits.end_session, digest=digest))

    async def find_actor_of(self, issuer: str, session: str) -> ActorId | None:
        found = await self._list(rows.read_session, visits.FIND_SAYING, issuer, dumps(session))
        return rows.actor_of(found, session)

    async def expect_browser(self, assumption: AssumptionId, *, until: datetime, now: datetime) -> None:
        row = (assumption, rows.write_time(until))
        await self._write(partial(begun.expect, row=row, past=now - LONGEST_BROWSER))

    async def list_over(self, *, at: datetime, since: datetime, most: int) -> Sequence[Assumption]:
        times = rows.write_time(since), rows.write_time(at)
        return await self._list(rows.read_assumption, begun.LIST_OVER, *times, most)

    async def list_unclaimed(self, *, at: datetime) -> Sequence[Assumption]:
        now = rows.write_time(at)
        return await self._list(rows.read_assumption, begun.LIST_UNCLAIMED, now, now)

    async def add_one_time(self, digest: bytes, payload: str, *, expires_at: datetime, now: datetime) -> None:
        row = (digest, payload, rows.write_time(expires_at))
        await self._write(partial(visits.add_one_time, row=row, now=now))

    async def redeem(self, digest: bytes, *, now: datetime) -> str | None:
        return await self._write(partial(visits.redeem, digest=digest, now=now))

    async def find_one_time(self, digest: bytes, *, now: datetime) -> str | None:
        return await self._find(lambda row: str(row[0]), visits.FIND_ONE_TIME, digest, rows.write_time(now))

    async def swap_one_time(
        self, digest: bytes, payload: str, *, known: str, now: datetime, expires_at: datetime | None = None
    ) -> bool:
        words = (payload, rows.write_end(expires_at), digest, known, rows.write_time(now))
        return await self._change(visits.SWAP, words) == 1

    async def count(self, digest: bytes, *, most: int, expires_at: datetime, now: datetime) -> bool:
        words = {"digest": digest, "most": most, "expires_at": rows.write_time(expires_at), "now": rows.write_time(now)}
        return await self._write(lambda connection: connection.execute(visits.COUNT, words).rowcount) == 1

    async def discount(self, digest: bytes, *, now: datetime) -> None:
        await self._change(visits.DISCOUNT, (digest, rows.write_time(now)))

    async def add_browser(self, browser: BrowserAssumption, *, at: datetime) -> None:
        await self._write(partial(browsers.add, browser=browser, at=at))

    async def find_browser(self, digest: bytes) -> BrowserAssumption | None:
        return await self._find(rows.read_browser, browsers.FIND, digest)

    async def list_held(self, actor: ActorId, account: AccountId, *, at: datetime) -> Sequence[AssumptionId]:
        values = (actor.issuer, actor.subject, account, rows.write_time(at))
        return await self._list(lambda row: AssumptionId(row[0]), browsers.LIST_HELD, *values)

    async def touch_browser(self, digest: bytes, *, at: datetime) -> None:
        await self._change(browsers.TOUCH, (rows.write_time(at), digest))

    async def find_jar(self, digest: bytes) -> StoredJar | None:
        return await self._find(lambda row: StoredJar(text=row[0], version=row[1]), browsers.FIND_JAR, digest)

    async def save_jar(self, digest: bytes, jar: StoredJar) -> bool:
        return await self._change(browsers.SAVE_JAR, (jar.text, jar.version, digest, jar.version)) == 1

    async def tidy_browsers(self, *, at: datetime) -> None:
        await self._write(partial(browsers.tidy, at=at))

    async def add_client(self, client: Client) -> None:
        sql = """
            INSERT INTO clients (id, secret_digest, roles, jwks, dpop, account) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO NOTHING
        """
        await self._add(f"the client `{client.id}`", sql, rows.client_row(client))

    async def find_client(self, client: ClientId) -> Client | None:
        return await self._find(rows.read_client, rows.select(rows.CLIENT, "FROM clients WHERE id = ?"), client)

    async def list_clients(self) -> Sequence[Client]:
        return await self._list(rows.read_client, rows.select(rows.CLIENT, "FROM clients ORDER BY id"))

    async def remove_client(self, client: ClientId) -> bool:
        return await self._change("DELETE FROM clients WHERE id = ?", (client,)) == 1

    async def add_hold(self, hold: Hold) -> None:
        sql = "INSERT INTO legal_holds (account, set_by, reason, set_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        await self._add(f"the hold of `{hold.account}`", sql, rows.hold_row(hold))

    async def list_holds(self) -> Sequence[Hold]:
        return await self._list(rows.read_hold, rows.select(COLUMNS, "FROM legal_holds ORDER BY account"))

    async def remove_hold(self, account: AccountId) -> bool:
        return await self._change("DELETE FROM legal_holds WHERE account = ?", (account,)) == 1

    async def add_key(self, key: StoredKey, *, after: str | None = None) -> None:
        what = f"the signing key `{key.id}`, or a newer one,"
        await self._add(what, keys.ADD, (*rows.key_row(key), after, key.algorithm))

    async def start_key(self, key: str, *, at: datetime) -> bool:
        return await self._change(keys.START, (rows.write_time(at), key)) == 1

    async def retire_key(self, key: str, *, at: datetime) -> bool:
        return await self._change(keys.RETIRE, (rows.write_time(at), key)) == 1

    async def end_key(self, key: str, *, at: datetime) -> bool:
        return await self._change(keys.END, (rows.write_time(at), key)) == 1

    async def list_keys(self) -> Sequence[StoredKey]:
        sql = rows.select(rows.KEY, "FROM signing_keys ORDER BY created_at DESC, id")
        return await self._list(rows.read_key, sql)

    async def _list(self, read: Callable[[rows.Row], T], sql: str, *values: str | int | bytes) -> list[T]:
        # Rows are read in the lane, so that one without a meaning is a StoreError too.
        return await self._reader.run(lambda connection: [read(row) for row in connection.execute(sql, values)])

    async def _find(self, read: Callable[[rows.Row], T], sql: str, *values: str | int | bytes) -> T | None:
        found = await self._list(read, sql, *values)
        return found[0] if found else None

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def whole(connection: sqlite3.Connection) -> T:
            with transaction(connection):
                result = work(connection)
            local.tell(self._channel)
            return result

        return await self._writer.run(whole)

    async def _change(self, sql: str, row: rows.Row) -> int:
        return await self._write(lambda connection: connection.execute(sql, row).rowcount)

    async def _add(self, what: str, sql: str, row: rows.Row) -> None:
        if await self._change(sql, row) == 0:
            raise StoreConflict(f"{what} exists already: choose another id")


def _read_version(connection: sqlite3.Connection) -> int:
    [version] = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


def _read_changes(connection: sqlite3.Connection, *, after: int) -> Changes:
    # One statement, so that the newest position and the rows are of one moment.
    found = connection.execute(
        """
        SELECT coalesce((SELECT max(position) FROM changes), 0),
            (SELECT tag FROM changes WHERE position = ?),
            (SELECT tag FROM changes ORDER BY position DESC LIMIT 1),
            (SELECT json_group_array(json_array(position, account, assumption,
                    CASE WHEN staff_issuer IS NOT NULL THEN json_array(staff_issuer, staff_subject) END))
                FROM (SELECT * FROM changes WHERE position > ? ORDER BY position))
        """,
        (after, after),
    )
    return rows.read_changes(found.fetchone(), after=after)


def _touch_account(connection: sqlite3.Connection, *, account: AccountId) -> None:
    if connection.execute("UPDATE accounts SET epoch = epoch + 1 WHERE id = ?", (account,)).rowcount == 0:
        connection.execute("INSERT INTO changes (account) VALUES (?)", (account,))


def _sign_out(connection: sqlite3.Connection, *, actor: ActorId, since: datetime, at: datetime) -> Sequence[Assumption]:
    # Whoever was never seen gets a row that permits nothing.
    unseen = Staff(id=actor, name=actor.subject, permissions=frozenset(), signed_out_at=since)
    remembered = connection.execute(
        """
        INSERT INTO staff
            (issuer, subject, name, permissions, groups, claims, disabled, signed_out_at, told_at, seen_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (issuer, subject) DO UPDATE SET signed_out_at = excluded.signed_out_at
        WHERE signed_out_at IS NULL OR signed_out_at < excluded.signed_out_at
        """,
        rows.staff_row(unseen, at=at),
    )
    if remembered.rowcount == 0:
        return []
    ended = connection.execute(
        f"""
        UPDATE assumptions SET ended_at = ? WHERE actor_issuer = ? AND actor_subject = ? AND ended_at IS NULL
            AND ifnull(signed_in_at <= ?, TRUE)
        RETURNING {rows.ASSUMPTION}
        """,  # noqa: S608 - nothing but our own words
        (rows.write_time(at), actor.issuer, actor.subject, rows.write_time(since)),
    )
    return [rows.read_assumption(row) for row in ended.fetchall()]
