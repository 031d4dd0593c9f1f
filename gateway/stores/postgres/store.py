"""The shared store: one PostgreSQL database for any number of machines."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from json import dumps
from typing import TypeVar

from gateway.stores import rows
from gateway.stores.browsing import BrowserAssumption, StoredJar
from gateway.stores.holding import COLUMNS, Hold
from gateway.stores.postgres import browsers, keys, shape, visits, writes
from gateway.stores.postgres.address import Address
from gateway.stores.postgres.asked import PostgresRequests
from gateway.stores.postgres.connect import LONG_SECONDS, LONGEST_SECONDS, Connector, bounded, translated
from gateway.stores.postgres.listen import PostgresPush
from gateway.stores.postgres.outbox import PostgresOutbox
from gateway.stores.postgres.pool import Pool
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.postgres.text import read_names, read_values, write_values
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
    StoreError,
)
from policy.claims import LONGEST_BROWSER
from policy.grants import GrantChange
from policy.model import Account, AccountId, ActorId, Assumption, AssumptionId, ClientId, Grant, GrantId, Staff

T = TypeVar("T")
_WITH_GRANT = "FROM locum.accounts AS a LEFT JOIN locum.grants AS g ON g.id = a.grant_id"


async def open_postgres(address: Address, terms: StoreTerms) -> "PostgresStore":
    """Open the database, brought to this version's shape first unless `terms` say otherwise; raises StoreError."""
    connector = Connector(address, terms)
    async with connector.apart(terms.write_seconds, first=True) as connection:
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


class PostgresStore(PostgresRequests, PostgresOutbox, Store):
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
            SELECT p.position,
                (SELECT tag FROM locum.changes WHERE position = $1),
                (SELECT tag FROM locum.changes WHERE position = p.position),
                (SELECT coalesce(json_agg(json_build_array(c.position, c.account, c.assumption,
                        CASE WHEN c.staff_issuer IS NOT NULL THEN json_build_array(c.staff_issuer, c.staff_subject) END
                    ) ORDER BY c.position), '[]')::text FROM locum.changes AS c WHERE c.position > $1)
            FROM locum.position AS p
            """,
            after,
        )
        if not found:
            raise StoreError("`locum.position` is empty, so nothing is known of any change: put its row back")
        with translated():
            changes = rows.read_changes(found[0], after=after)
            return read_names(changes) if "\\u0001" in found[0][3] else changes

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

    async def set_kill_switch(self, switch: KillSwitch, *, known: KillSwitch | None = None) -> bool:
        row = rows.kill_switch_row(switch)
        if known is not None:
            sql = """
                UPDATE locum.kill_switch SET stopped = $1, set_by = $2, reason = $3, set_at = $4
                WHERE stopped = $5 AND set_by = $6 AND reason = $7 AND set_at IS NOT DISTINCT FROM $8 RETURNING 1
            """
            return bool(await self._change(sql, (*row, *rows.kill_switch_row(known))))
        sql = """
            INSERT INTO locum.kill_switch (id, stopped, set_by, reason, set_at) VALUES (1, $1, $2, $3, $4)
            ON CONFLICT (id) DO UPDATE
            SET stopped = excluded.stopped, set_by = excluded.set_by, reason = excluded.reason, set_at = excluded.set_at
        """
        await self._change(sql, row)
        return True

    async def find_account(self, account: AccountId) -> AccountRecord | None:
        sql = rows.select(rows.RECORD, f"{_WITH_GRANT} WHERE a.id = $1")
        return await self._find(rows.read_record, sql, account)

    async def add_account(self, account: Account) -> None:
        sql = """
            INSERT INTO locum.accounts (id, type, suspended, epoch, attributes) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT DO NOTHING RETURNING 1
        """
        await self._add(f"the account `{account.id}`", sql, rows.account_row(account))

    async def list_accounts(self) -> Sequence[AccountRecord]:
        sql = rows.select(rows.RECORD, f"{_WITH_GRANT} ORDER BY a.id")
        return await self._list(rows.read_record, sql)

    async def search_accounts(self, text: str, *, most: int, after: str = "") -> Sequence[AccountRecord]:
        where = "WHERE a.id > $1 AND strpos(a.id, $2) > 0 ORDER BY a.id LIMIT $3"
        return await self._list(rows.read_record, rows.select(rows.RECORD, f"{_WITH_GRANT} {where}"), after, text, most)

    async def save_change(self, change: GrantChange, *, by: str, at: datetime) -> None:
        await self._together(partial(writes.save_change, change=change, by=by, at=at))

    async def list_changes(self, account: AccountId) -> Sequence[GrantEvent]:
        sql = rows.select(rows.EVENT, "FROM locum.grant_events WHERE account = $1 ORDER BY epoch DESC")
        return await self._list(rows.read_event, sql, account)

    async def find_grant(self, grant: GrantId) -> Grant | None:
        sql = rows.select(rows.GRANT, "FROM locum.grants WHERE id = $1")
        return await self._find(rows.read_grant, sql, grant)

    async def begin_assumption(
        self, assumption: Assumption, staff: Staff, *, at: datetime, most: int | None = None
    ) -> None:
        await self._together(partial(writes.begin_assumption, assumption=assumption, staff=staff, at=at, most=most))

    async def list_begun(self, actor: ActorId, *, at: datetime) -> Sequence[Assumption]:
        values = (actor.issuer, actor.subject, rows.write_time(at))
        return await self._list(rows.read_assumption, writes.LIST_OPEN, *values)

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

    async def list_assumptions(self, *, at: datetime, account: AccountId | None = None) -> Sequence[Assumption]:
        only = "" if account is None else "AND account = $2"
        where = f"FROM locum.assumptions WHERE ended_at IS NULL AND expires_at > $1 {only} ORDER BY started_at, id"
        values = (rows.write_time(at), *(() if account is None else (account,)))
        return await self._list(rows.read_assumption, rows.select(rows.ASSUMPTION, where), *values)

    async def save_staff(self, staff: Staff, *, at: datetime) -> None:
        await self._change(writes.SAVE_STAFF, rows.staff_row(staff, at=at))

    async def find_staff(self, actor: ActorId) -> Staff | None:
        sql = rows.select(rows.STAFF, "FROM locum.staff WHERE issuer = $1 AND subject = $2")
        return await self._find(rows.read_staff, sql, actor.issuer, actor.subject)

    async def disable_staff(self, actor: ActorId, *, disabled: bool) -> bool:
        sql = "UPDATE locum.staff SET disabled = $1 WHERE issuer = $2 AND subject = $3 RETURNING 1"
        return bool(await self._change(sql, (disabled, actor.issuer, actor.subject)))

    async def begin_session(self, session: StaffSession, staff: Staff, *, at: datetime) -> None:
        await self._together(partial(visits.begin_session, session=session, staff=rows.staff_row(staff, at=at), at=at))

    async def find_session(self, digest: bytes) -> StaffSession | None:
        return await self._find(rows.read_session, visits.FIND, digest)

    async def touch_session(self, digest: bytes, *, at: datetime) -> None:
        await self._change(visits.TOUCH, (rows.write_time(at), digest))

    async def end_session(self, digest: bytes) -> StaffSession | None:
        ended = await self._change(visits.END, (digest,))
        with translated():
            return rows.read_session(ended[0]) if ended else None

    async def find_actor_of(self, issuer: str, session: str) -> ActorId | None:
        found = await self._list(rows.read_session, visits.FIND_SAYING, issuer, dumps(session))
        return rows.actor_of(found, session)

    async def expect_browser(self, assumption: AssumptionId, *, until: datetime, now: datetime) -> None:
        past = rows.write_time(now - LONGEST_BROWSER)
        await self._change(writes.EXPECT, (assumption, rows.write_time(until), past))

    async def list_over(self, *, at: datetime, since: datetime, most: int) -> Sequence[Assumption]:
        times = rows.write_time(since), rows.write_time(at)
        return await self._list(rows.read_assumption, writes.LIST_OVER, *times, most)

    async def list_unclaimed(self, *, at: datetime) -> Sequence[Assumption]:
        return await self._list(rows.read_assumption, writes.LIST_UNCLAIMED, rows.write_time(at))

    async def add_one_time(self, digest: bytes, payload: str, *, expires_at: datetime, now: datetime) -> None:
        row = (digest, payload, rows.write_time(expires_at))
        await self._together(partial(visits.add_one_time, row=row, now=now))

    async def redeem(self, digest: bytes, *, now: datetime) -> str | None:
        found = await self._change(visits.REDEEM, (digest, rows.write_time(now)))
        return str(found[0][0]) if found else None

    async def find_one_time(self, digest: bytes, *, now: datetime) -> str | None:
        return await self._find(lambda row: str(row[0]), visits.FIND_ONE_TIME, digest, rows.write_time(now))

    async def swap_one_time(
        self, digest: bytes, payload: str, *, known: str, now: datetime, expires_at: datetime | None = None
    ) -> bool:
        words = (payload, rows.write_end(expires_at), digest, known, rows.write_time(now))
        return bool(await self._change(visits.SWAP, words))

    async def count(self, digest: bytes, *, most: int, expires_at: datetime, now: datetime) -> bool:
        row = (digest, rows.write_time(expires_at), rows.write_time(now), most)
        return bool(await self._change(visits.COUNT, row))

    async def discount(self, digest: bytes, *, now: datetime) -> None:
        await self._change(visits.DISCOUNT, (digest, rows.write_time(now)))

    async def add_browser(self, browser: BrowserAssumption, *, at: datetime) -> None:
        await self._together(partial(browsers.add, browser=browser, at=at))

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
        return bool(await self._change(browsers.SAVE_JAR, (jar.text, jar.version, digest, jar.version)))

    async def tidy_browsers(self, *, at: datetime) -> None:
        await self._together(partial(browsers.tidy, at=at))

    async def add_client(self, client: Client) -> None:
        sql = """
            INSERT INTO locum.clients (id, secret_digest, roles, jwks, dpop, account) VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT DO NOTHING RETURNING 1
        """
        await self._add(f"the client `{client.id}`", sql, rows.client_row(client))

    async def find_client(self, client: ClientId) -> Client | None:
        sql = rows.select(rows.CLIENT, "FROM locum.clients WHERE id = $1")
        return await self._find(rows.read_client, sql, client)

    async def list_clients(self) -> Sequence[Client]:
        return await self._list(rows.read_client, rows.select(rows.CLIENT, "FROM locum.clients ORDER BY id"))

    async def remove_client(self, client: ClientId) -> bool:
        return bool(await self._change("DELETE FROM locum.clients WHERE id = $1 RETURNING 1", (client,)))

    async def add_hold(self, hold: Hold) -> None:
        sql = """
            INSERT INTO locum.legal_holds (account, set_by, reason, set_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING RETURNING 1
        """
        await self._add(f"the hold of `{hold.account}`", sql, rows.hold_row(hold))

    async def list_holds(self) -> Sequence[Hold]:
        return await self._list(rows.read_hold, rows.select(COLUMNS, "FROM locum.legal_holds ORDER BY account"))

    async def remove_hold(self, account: AccountId) -> bool:
        return bool(await self._change("DELETE FROM locum.legal_holds WHERE account = $1 RETURNING 1", (account,)))

    async def add_key(self, key: StoredKey, *, after: str | None = None) -> None:
        await self._together(partial(keys.add, key=key, after=after))

    async def start_key(self, key: str, *, at: datetime) -> bool:
        return bool(await self._change(keys.START, (rows.write_time(at), key)))

    async def retire_key(self, key: str, *, at: datetime) -> bool:
        return bool(await self._change(keys.RETIRE, (rows.write_time(at), key)))

    async def end_key(self, key: str, *, at: datetime) -> bool:
        return bool(await self._change(keys.END, (rows.write_time(at), key)))

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
