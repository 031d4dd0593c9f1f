"""The embedded store: one SQLite file, written by one thread, read by another that never waits for it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from gateway.stores import local, rows
from gateway.stores.database import connect_reader, connect_writer
from gateway.stores.lane import Lane
from gateway.stores.migrate import transaction
from gateway.stores.store import (
    AccountRecord,
    Changes,
    Client,
    GrantEvent,
    KillSwitch,
    Push,
    Store,
    StoreConflict,
    StoredKey,
)
from policy.grants import GrantChange
from policy.model import Account, AccountId, ActorId, Assumption, AssumptionId, ClientId, Grant, GrantId, Staff

T = TypeVar("T")
_WITH_GRANT = "FROM accounts AS a LEFT JOIN grants AS g ON g.id = a.grant_id"
_ADD_ASSUMPTION = """
    INSERT INTO assumptions (id, account, subject, actor_issuer, actor_subject, grant_id, ticket, reason,
                             scopes, started_at, ended_at, signed_in_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_SAVE_STAFF = """
    INSERT INTO staff (issuer, subject, name, permissions, groups, disabled, signed_out_at, seen_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (issuer, subject) DO UPDATE
    SET name = excluded.name, permissions = excluded.permissions, groups = excluded.groups,
        disabled = max(disabled, excluded.disabled), seen_at = excluded.seen_at,
        signed_out_at = max(ifnull(signed_out_at, excluded.signed_out_at),
                            ifnull(excluded.signed_out_at, signed_out_at))
"""


async def open_sqlite(path: Path, *, busy_seconds: float = 5) -> "SqliteStore":
    """Open the database at `path`, made or migrated first where needed.

    A new file can be read by its owner only, a new directory likewise. A lock of another process is waited for at
    most `busy_seconds`. Raises StoreError, also for a file open to everybody on the machine: it holds signing keys.
    """
    store = SqliteStore(
        writer=Lane("store-writer", partial(connect_writer, path, busy_seconds), path),
        reader=Lane("store-reader", partial(connect_reader, path, busy_seconds), path),
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


class SqliteStore(Store):
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

    async def set_kill_switch(self, switch: KillSwitch) -> None:
        sql = """
            INSERT INTO kill_switch (id, stopped, set_by, reason, set_at) VALUES (1, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE
            SET stopped = excluded.stopped, set_by = excluded.set_by, reason = excluded.reason, set_at = excluded.set_at
        """
        await self._change(sql, rows.kill_switch_row(switch))

    async def find_account(self, account: AccountId) -> AccountRecord | None:
        sql = rows.select(rows.RECORD, f"{_WITH_GRANT} WHERE a.id = ?")
        return await self._find(rows.read_record, sql, account)

    async def add_account(self, account: Account) -> None:
        sql = "INSERT INTO accounts (id, type, suspended, epoch) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        await self._add(f"the account `{account.id}`", sql, rows.account_row(account))

    async def list_accounts(self) -> Sequence[AccountRecord]:
        sql = rows.select(rows.RECORD, f"{_WITH_GRANT} ORDER BY a.id")
        return await self._list(rows.read_record, sql)

    async def save_change(self, change: GrantChange, *, by: str, at: datetime) -> None:
        await self._write(partial(_save_change, change=change, by=by, at=at))

    async def list_changes(self, account: AccountId) -> Sequence[GrantEvent]:
        sql = rows.select(rows.EVENT, "FROM grant_events WHERE account = ? ORDER BY epoch DESC")
        return await self._list(rows.read_event, sql, account)

    async def find_grant(self, grant: GrantId) -> Grant | None:
        sql = rows.select(rows.GRANT, "FROM grants WHERE id = ?")
        return await self._find(rows.read_grant, sql, grant)

    async def add_assumption(self, assumption: Assumption) -> None:
        await self._add(f"the assumption `{assumption.id}`", _ADD_ASSUMPTION, rows.assumption_row(assumption))

    async def begin_assumption(self, assumption: Assumption, staff: Staff, *, at: datetime) -> None:
        await self._write(partial(_begin_assumption, assumption=assumption, staff=staff, at=at))

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

    async def list_assumptions(self, *, account: AccountId | None = None) -> Sequence[Assumption]:
        only = "" if account is None else "AND account = ?"
        sql = rows.select(rows.ASSUMPTION, f"FROM assumptions WHERE ended_at IS NULL {only} ORDER BY started_at, id")
        return await self._list(rows.read_assumption, sql, *(() if account is None else (account,)))

    async def save_staff(self, staff: Staff, *, at: datetime) -> None:
        await self._change(_SAVE_STAFF, rows.staff_row(staff, at=at))

    async def find_staff(self, actor: ActorId) -> Staff | None:
        sql = rows.select(rows.STAFF, "FROM staff WHERE issuer = ? AND subject = ?")
        return await self._find(rows.read_staff, sql, actor.issuer, actor.subject)

    async def disable_staff(self, actor: ActorId, *, disabled: bool) -> bool:
        sql = "UPDATE staff SET disabled = ? WHERE issuer = ? AND subject = ?"
        return await self._change(sql, (disabled, actor.issuer, actor.subject)) == 1

    async def add_client(self, client: Client) -> None:
        sql = "INSERT INTO clients (id, secret_digest, roles) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        await self._add(f"the client `{client.id}`", sql, rows.client_row(client))

    async def find_client(self, client: ClientId) -> Client | None:
        return await self._find(rows.read_client, rows.select(rows.CLIENT, "FROM clients WHERE id = ?"), client)

    async def add_key(self, key: StoredKey) -> None:
        sql = """
            INSERT INTO signing_keys (id, algorithm, private_pem, created_at, retired_at)
            VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
        """
        await self._add(f"the signing key `{key.id}`", sql, rows.key_row(key))

    async def list_keys(self) -> Sequence[StoredKey]:
        sql = rows.select(rows.KEY, "FROM signing_keys ORDER BY created_at DESC, id")
        return await self._list(rows.read_key, sql)

    async def _list(self, read: Callable[[rows.Row], T], sql: str, *values: str) -> list[T]:
        # Rows are read in the lane, so that one without a meaning is a StoreError too.
        return await self._reader.run(lambda connection: [read(row) for row in connection.execute(sql, values)])

    async def _find(self, read: Callable[[rows.Row], T], sql: str, *values: str) -> T | None:
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
    # One statement, so that the newest position and the rows are of one moment; the newest row is always among them.
    found = connection.execute(
        """
        SELECT position, account, assumption, staff_issuer, staff_subject, tag FROM changes
        WHERE position >= min(?, (SELECT max(position) FROM changes)) ORDER BY position
        """,
        (after,),
    )
    return rows.read_changes(found.fetchall(), after=after)


def _touch_account(connection: sqlite3.Connection, *, account: AccountId) -> None:
    if connection.execute("UPDATE accounts SET epoch = epoch + 1 WHERE id = ?", (account,)).rowcount == 0:
        connection.execute("INSERT INTO changes (account) VALUES (?)", (account,))


def _begin_assumption(connection: sqlite3.Connection, *, assumption: Assumption, staff: Staff, at: datetime) -> None:
    saved = connection.execute(_SAVE_STAFF + "RETURNING signed_out_at", rows.staff_row(staff, at=at)).fetchall()
    if saved != [(None if staff.signed_out_at is None else rows.write_time(staff.signed_out_at),)]:
        raise StoreConflict(f"`{staff.id.subject}` has signed out meanwhile: decide again")
    if connection.execute(_ADD_ASSUMPTION, rows.assumption_row(assumption)).rowcount == 0:
        raise StoreConflict(f"the assumption `{assumption.id}` exists already: choose another id")


def _sign_out(connection: sqlite3.Connection, *, actor: ActorId, since: datetime, at: datetime) -> Sequence[Assumption]:
    # Whoever was never seen gets a row that permits nothing.
    unseen = Staff(id=actor, name=actor.subject, permissions=frozenset(), signed_out_at=since)
    remembered = connection.execute(
        """
        INSERT INTO staff (issuer, subject, name, permissions, groups, disabled, signed_out_at, seen_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
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


def _save_change(connection: sqlite3.Connection, *, change: GrantChange, by: str, at: datetime) -> None:
    account, grant = change.account, change.grant
    grant_id = None if grant is None else grant.id
    moved = connection.execute(
        "UPDATE accounts SET type = ?, suspended = ?, epoch = ?, grant_id = ? WHERE id = ? AND epoch = ?",
        (account.type, account.suspended, account.epoch, grant_id, account.id, account.epoch - 1),
    )
    if moved.rowcount == 0:
        raise StoreConflict(f"the account `{account.id}` has changed meanwhile: read it again and decide again")
    if grant is not None:
        _save_grant(connection, grant)
    connection.execute(
        """
        INSERT INTO grant_events (account, epoch, made_at, made_by, change, grant_id, grant_epoch, duration,
                                  permissions, not_before, expires_at, given_by, revoked_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        rows.event_row(change, by=by, at=at),
    )


def _save_grant(connection: sqlite3.Connection, grant: Grant) -> None:
    saved = connection.execute(
        """
        INSERT INTO grants (account, id, epoch, duration, permissions, not_before, expires_at, given_by, revoked_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE
        SET epoch = excluded.epoch, duration = excluded.duration, permissions = excluded.permissions,
            not_before = excluded.not_before, expires_at = excluded.expires_at, given_by = excluded.given_by,
            revoked_at = excluded.revoked_at
        WHERE account = excluded.account AND (revoked_at IS NULL OR revoked_at IS excluded.revoked_at)
        """,
        (grant.account, *rows.grant_row(grant)),
    )
    if saved.rowcount == 0:
        raise StoreConflict(f"the grant `{grant.id}` was revoked or is another account's: use a new id")
