"""The shared store: one PostgreSQL database for any number of machines."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import TypeVar

from gateway.stores import rows
from gateway.stores.postgres import shape, writes
from gateway.stores.postgres.address import Address
from gateway.stores.postgres.connect import LONG_SECONDS, LONGEST_SECONDS, Connector, bounded, translated
from gateway.stores.postgres.listen import PostgresPush
from gateway.stores.postgres.pool import Pool
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.postgres.text import read_values, write_values
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
    StoreError,
)
from policy.grants import GrantChange
from policy.model import Account, AccountId, ActorId, Assumption, AssumptionId, ClientId, Grant, GrantId, Staff

T = TypeVar("T")
_WITH_GRANT = "FROM locum.accounts AS a LEFT JOIN locum.grants AS g ON g.id = a.grant_id"


async def open_postgres(address: Address, terms: StoreTerms) -> "PostgresStore":
    """Open the database, brought to this version's shape first unless `terms` say otherwise; raises StoreError."""
    connector = Connector(address, terms)
    async with connector.apart(terms.write_seconds) as connection:
        wanted = shape.migrations()
        with bounded(connection, LONGEST_SECONDS):
            if terms.migrate:
                await shape.migrate(connection, wanted)
            elif await shape.count_applied(connection, wanted) < len(wanted):
                raise StoreError("the database is not of this version's shape: run `locum db migrate`")
    store = PostgresStore(connector, terms)
    try:
        await store.open()
    except BaseException:
        await store.close()
        raise
    return store


class PostgresStore(Store):
    """Facts come only from a server that may be written to; a write is on its disk when the call returns.

    A question that is not answered within `StoreTerms.read_seconds` raises StoreError, whatever the server does.
    """

    def __init__(self, connector: Connector, terms: StoreTerms) -> None:
        """Use `open_postgres`."""
        self._connector = connector
        self._terms = terms
        self._pool = Pool(
            connector,
            least=terms.least_connections,
            most=terms.most_connections,
            connect_seconds=terms.write_seconds,
        )
        self._pushes: set[PostgresPush] = set()
        self._closed = False

    async def open(self) -> None:
        """Open the first connections; raises StoreError."""
        await self._pool.fill()

    async def close(self) -> None:
        """Let go of the database; what is under way, and every later call, raises StoreError."""
        self._closed = True
        for push in self._pushes:
            push.lose("the store is closed")
        await self._pool.close()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Push]:
        self._check_open()
        async with self._connector.apart(self._terms.write_seconds) as connection:
            push = PostgresPush(
                connection, quiet_seconds=self._terms.quiet_seconds, answer_seconds=self._terms.read_seconds
            )
            self._pushes.add(push)
            try:
                await push.open()
                yield push
            finally:
                self._pushes.discard(push)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Keep all others who call this, on whichever node, waiting until the block ends; raises StoreError."""
        self._check_open()
        async with self._connector.apart(self._terms.write_seconds) as connection:
            with bounded(connection, LONGEST_SECONDS):
                await shape.lock(connection)
            yield

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed: open it again")

    async def read_changes(self, after: int) -> Changes:
        # One statement, so that the newest position and the rows are of one moment.
        found = await self._ask(
            """
            SELECT p.position AS newest, c.position, c.account, c.assumption, c.staff_issuer, c.staff_subject, c.tag
            FROM locum.position AS p LEFT JOIN locum.changes AS c ON c.position >= least($1, p.position)
            ORDER BY c.position
            """,
            after,
        )
        if not found:
            raise StoreError("`locum.position` is empty, so nothing is known of any change: put its row back")
        kept = [row[1:] for row in found if row[1] is not None]
        with translated():
            return rows.read_changes(kept, after=after, newest=int(found[0][0]))

    async def raise_position(self, beyond: int) -> None:
        await self._change("SELECT locum.raise_position($1, NULL, NULL, NULL, NULL)", (beyond,))

    async def touch_account(self, account: AccountId) -> None:
        sql = """
            WITH touched AS (UPDATE locum.accounts SET epoch = epoch + 1 WHERE id = $1 RETURNING 1)
            SELECT locum.raise_position(0, $1, NULL, NULL, NULL) WHERE NOT EXISTS (SELECT FROM touched)
        """
        await self._change(sql, (account,))

    async def find_kill_switch(self) -> KillSwitch:
        sql = rows.select(rows.KILL_SWITCH, "FROM locum.kill_switch")
        return await self._find(rows.read_kill_switch, sql) or KillSwitch()

    async def set_kill_switch(self, switch: KillSwitch) -> None:
        sql = """
            INSERT INTO locum.kill_switch (id, stopped, set_by, reason, set_at) VALUES (1, $1, $2, $3, $4)
            ON CONFLICT (id) DO UPDATE
            SET stopped = excluded.stopped, set_by = excluded.set_by, reason = excluded.reason, set_at = excluded.set_at
        """
        await self._change(sql, rows.kill_switch_row(switch))

    async def find_account(self, account: AccountId) -> AccountRecord | None:
        sql = rows.select(rows.RECORD, f"{_WITH_GRANT} WHERE a.id = $1")
        return await self._find(rows.read_record, sql, account)

    async def add_account(self, account: Account) -> None:
        sql = """
            INSERT INTO locum.accounts (id, type, suspended, epoch) VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING RETURNING 1
        """
        await self._add(f"the account `{account.id}`", sql, rows.account_row(account))

    async def list_accounts(self) -> Sequence[AccountRecord]:
        sql = rows.select(rows.RECORD, f"{_WITH_GRANT} ORDER BY a.id")
        return await self._list(rows.read_record, sql)

    async def save_change(self, change: GrantChange, *, by: str, at: datetime) -> None:
        await self._together(partial(writes.save_change, change=change, by=by, at=at))

    async def list_changes(self, account: AccountId) -> Sequence[GrantEvent]:
        sql = rows.select(rows.EVENT, "FROM locum.grant_events WHERE account = $1 ORDER BY epoch DESC")
        return await self._list(rows.read_event, sql, account)

    async def find_grant(self, grant: GrantId) -> Grant | None:
        sql = rows.select(rows.GRANT, "FROM locum.grants WHERE id = $1")
        return await self._find(rows.read_grant, sql, grant)

    async def add_assumption(self, assumption: Assumption) -> None:
        await self._add(f"the assumption `{assumption.id}`", writes.ADD_ASSUMPTION, rows.assumption_row(assumption))

    async def begin_assumption(self, assumption: Assumption, staff: Staff, *, at: datetime) -> None:
        await self._together(partial(writes.begin_assumption, assumption=assumption, staff=staff, at=at))

    async def find_assumption(self, assumption: AssumptionId) -> Assumption | None:
        sql = rows.select(rows.ASSUMPTION, "FROM locum.assumptions WHERE id = $1")
        return await self._find(rows.read_assumption, sql, assumption)

    async def end_assumption(self, assumption: AssumptionId, *, at: datetime) -> bool:
        sql = "UPDATE locum.assumptions SET ended_at = $1 WHERE id = $2 AND ended_at IS NULL RETURNING 1"
        return bool(await self._change(sql, (rows.write_time(at), assumption)))

    async def end_assumptions_of(self, actor: ActorId, *, at: datetime) -> Sequence[AssumptionId]:
        ended = await self._change(writes.END_ALL, (rows.write_time(at), actor.issuer, actor.subject, None))
        with translated():
            return [rows.read_assumption(row).id for row in ended]

    async def sign_out(self, actor: ActorId, *, since: datetime, at: datetime) -> Sequence[Assumption]:
        ended = await self._together(partial(writes.sign_out, actor=actor, since=since, at=at))
        with translated():
            return [rows.read_assumption(row) for row in ended]

    async def list_assumptions(self, *, account: AccountId | None = None) -> Sequence[Assumption]:
        only = "" if account is None else "AND account = $1"
        sql = rows.select(
            rows.ASSUMPTION, f"FROM locum.assumptions WHERE ended_at IS NULL {only} ORDER BY started_at, id"
        )
        return await self._list(rows.read_assumption, sql, *(() if account is None else (account,)))

    async def save_staff(self, staff: Staff, *, at: datetime) -> None:
        await self._change(writes.SAVE_STAFF, rows.staff_row(staff, at=at))

    async def find_staff(self, actor: ActorId) -> Staff | None:
        sql = rows.select(rows.STAFF, "FROM locum.staff WHERE issuer = $1 AND subject = $2")
        return await self._find(rows.read_staff, sql, actor.issuer, actor.subject)

    async def disable_staff(self, actor: ActorId, *, disabled: bool) -> bool:
        sql = "UPDATE locum.staff SET disabled = $1 WHERE issuer = $2 AND subject = $3 RETURNING 1"
        return bool(await self._change(sql, (disabled, actor.issuer, actor.subject)))

    async def add_client(self, client: Client) -> None:
        sql = """
            INSERT INTO locum.clients (id, secret_digest, roles) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING 1
        """
        await self._add(f"the client `{client.id}`", sql, rows.client_row(client))

    async def find_client(self, client: ClientId) -> Client | None:
        sql = rows.select(rows.CLIENT, "FROM locum.clients WHERE id = $1")
        return await self._find(rows.read_client, sql, client)

    async def add_key(self, key: StoredKey) -> None:
        sql = """
            INSERT INTO locum.signing_keys (id, algorithm, private_pem, created_at, retired_at)
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING 1
        """
        await self._add(f"the signing key `{key.id}`", sql, rows.key_row(key))

    async def list_keys(self) -> Sequence[StoredKey]:
        sql = rows.select(rows.KEY, "FROM locum.signing_keys ORDER BY created_at DESC, id")
        # There are few, and a reload waits for them.
        return await self._list(rows.read_key, sql, seconds=self._terms.read_seconds)

    async def _ask(self, sql: str, *values: object, seconds: float | None = None) -> list[rows.Row]:
        with translated():
            written = write_values(values)
        limit = self._terms.read_seconds if seconds is None else seconds
        found = await self._pool.run(lambda connection: connection.fetch(sql, *written), seconds=limit)
        with translated():
            return [read_values(tuple(record)) for record in found]

    async def _list(
        self, read: Callable[[rows.Row], T], sql: str, *values: object, seconds: float = LONG_SECONDS
    ) -> list[T]:
        found = await self._ask(sql, *values, seconds=seconds)
        with translated():
            return [read(row) for row in found]

    async def _find(self, read: Callable[[rows.Row], T], sql: str, *values: object) -> T | None:
        found = await self._ask(sql, *values)
        with translated():
            return read(found[0]) if found else None

    async def _change(self, sql: str, row: rows.Row) -> list[rows.Row]:
        """One statement is one transaction."""
        return await self._ask(sql, *row, seconds=self._terms.write_seconds)

    async def _add(self, what: str, sql: str, row: rows.Row) -> None:
        if not await self._change(sql, row):
            raise StoreConflict(f"{what} exists already: choose another id")

    async def _together(self, work: Callable[[writes.Fetch], Awaitable[T]]) -> T:
        whole = partial(writes.whole, work=work)
        return await self._pool.run(whole, seconds=self._terms.write_seconds)
