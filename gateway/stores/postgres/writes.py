"""What takes several statements to write: one transaction each, there as a whole or not at all."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from gateway.stores import rows
from gateway.stores.postgres.connect import Connection
from gateway.stores.postgres.text import read_values, write_values
from gateway.stores.store import StoreConflict, TooManyAssumptions
from policy.grants import GrantChange
from policy.model import ActorId, Assumption, Grant, Staff

T = TypeVar("T")
Fetch = Callable[[str, rows.Row], Awaitable[list[rows.Row]]]
"""Runs a statement with the values of a row, and returns its rows."""

# Of whatever sign-in up to a time, or of any if that is NULL.
# In the order of the ids, so that two who do the same at the same time do not wait for each other for ever.
END_ALL = f"""
    UPDATE locum.assumptions SET ended_at = $1
    WHERE id IN (
        SELECT id FROM locum.assumptions WHERE actor_issuer = $2 AND actor_subject = $3 AND ended_at IS NULL
            AND coalesce(signed_in_at <= $4, TRUE)
        ORDER BY id FOR UPDATE
    )
    RETURNING {rows.ASSUMPTION}
"""  # noqa: S608 - nothing but our own words

ADD_ASSUMPTION = """
    INSERT INTO locum.assumptions (id, account, subject, actor_issuer, actor_subject, grant_id, ticket, reason,
                                   scopes, started_at, ended_at, signed_in_at, expires_at, agent_roles)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING RETURNING 1
"""
_OPEN = """
    FROM locum.assumptions AS a
    WHERE actor_issuer = $1 AND actor_subject = $2 AND ended_at IS NULL AND expires_at > $3
        AND NOT EXISTS (
            SELECT 1 FROM locum.grants AS g
            WHERE g.id = a.grant_id AND (g.revoked_at IS NOT NULL OR g.expires_at <= $3)
        )
"""
LIST_OPEN = rows.select(rows.ASSUMPTION, _OPEN) + " ORDER BY started_at, id"
_COUNT_OPEN = f"SELECT count(*) {_OPEN}"
LIST_OVER = rows.select(
    rows.ASSUMPTION,
    """
    FROM locum.assumptions AS a
    WHERE ended_at IS NULL AND expires_at > $1
        AND (
            expires_at <= $2
            OR EXISTS (
                SELECT 1 FROM locum.grants AS g
                WHERE g.id = a.grant_id AND (g.revoked_at IS NOT NULL OR g.expires_at <= $2)
            )
        )
    ORDER BY expires_at, id LIMIT $3
    """,
)
LIST_UNCLAIMED = rows.select(
    rows.ASSUMPTION,
    """
    FROM locum.assumptions AS a
    WHERE ended_at IS NULL AND expires_at > $1
        AND id IN (SELECT assumption FROM locum.hand_overs WHERE ends_at <= $1)
        AND NOT EXISTS (SELECT 1 FROM locum.browser_assumptions WHERE assumption = a.id)
    ORDER BY started_at, id
    """,
)
# What has had its time is forgotten, by one at a time.
EXPECT = """
    WITH forgotten AS (
        DELETE FROM locum.hand_overs WHERE assumption IN (
            SELECT assumption FROM locum.hand_overs WHERE ends_at <= $3 FOR UPDATE SKIP LOCKED
        )
    )
    INSERT INTO locum.hand_overs (assumption, ends_at) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1
"""
# What an older token said, or one of an unknown time, stays unsaid.
_SAID = ", ".join(
    f"{column} = CASE WHEN s.told_at IS NULL OR excluded.told_at >= s.told_at THEN excluded.{column}"
    f" ELSE s.{column} END"
    for column in rows.SAID_OF_STAFF
)
SAVE_STAFF = f"""
    INSERT INTO locum.staff AS s
        (issuer, subject, name, permissions, groups, claims, disabled, signed_out_at, told_at, seen_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (issuer, subject) DO UPDATE
    SET {_SAID}, disabled = s.disabled OR excluded.disabled, seen_at = excluded.seen_at,
        signed_out_at = greatest(s.signed_out_at, excluded.signed_out_at)
    RETURNING signed_out_at
"""  # noqa: S608 - nothing but our own words


async def whole(connection: Connection, work: Callable[[Fetch], Awaitable[T]]) -> T:
    """Run several statements as one transaction; raises StoreConflict with the connection as good as before."""

    async def fetch(sql: str, row: rows.Row) -> list[rows.Row]:
        found = await connection.fetch(sql, *write_values(row))
        return [read_values(tuple(record)) for record in found]

    await connection.execute("BEGIN")
    try:
        result = await work(fetch)
    except StoreConflict:
        # After any other error the connection is given up, and the server undoes what was begun.
        await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")
    return result


async def begin_assumption(
    fetch: Fetch, *, assumption: Assumption, staff: Staff, at: datetime, most: int | None
) -> None:
    """Store who begins an assumption, and then the assumption; raises StoreConflict.

    The person's row is held from the first statement to the commit, here as in a sign-out, so one waits for the other.
    """
    saved = await fetch(SAVE_STAFF, rows.staff_row(staff, at=at))
    if saved != [(None if staff.signed_out_at is None else rows.write_time(staff.signed_out_at),)]:
        raise StoreConflict(f"`{staff.id.subject}` has signed out meanwhile: decide again")
    # Behind the person's row, so that of two who count, the second counts what the first has begun.
    [[open_now]] = await fetch(_COUNT_OPEN, (staff.id.issuer, staff.id.subject, rows.write_time(at)))
    if most is not None and open_now >= most:
        raise TooManyAssumptions(f"`{staff.id.subject}` has {open_now} assumptions open")
    if not await fetch(ADD_ASSUMPTION, rows.assumption_row(assumption)):
        raise StoreConflict(f"the assumption `{assumption.id}` exists already: choose another id")


async def sign_out(fetch: Fetch, *, actor: ActorId, since: datetime, at: datetime) -> list[rows.Row]:
    """Return the rows of the assumptions that this has ended."""
    # Whoever was never seen gets a row that permits nothing.
    unseen = Staff(id=actor, name=actor.subject, permissions=frozenset(), signed_out_at=since)
    remembered = await fetch(
        """
        INSERT INTO locum.staff AS s
            (issuer, subject, name, permissions, groups, claims, disabled, signed_out_at, told_at, seen_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT (issuer, subject) DO UPDATE SET signed_out_at = excluded.signed_out_at
        WHERE s.signed_out_at IS NULL OR s.signed_out_at < excluded.signed_out_at
        RETURNING 1
        """,
        rows.staff_row(unseen, at=at),
    )
    if not remembered:
        return []
    return await fetch(END_ALL, (rows.write_time(at), actor.issuer, actor.subject, rows.write_time(since)))


async def save_change(fetch: Fetch, *, change: GrantChange, by: str, at: datetime) -> None:
    """Store an account, its grant and a line of history; raises StoreConflict."""
    account, grant = change.account, change.grant
    moved = await fetch(
        """
        UPDATE locum.accounts SET type = $1, suspended = $2, epoch = $3, attributes = $4, grant_id = $5
        WHERE id = $6 AND epoch = $7 RETURNING 1
        """,
        (*rows.account_row(account)[1:], None if grant is None else grant.id, account.id, account.epoch - 1),
    )
    if not moved:
        raise StoreConflict(f"the account `{account.id}` has changed meanwhile: read it again and decide again")
    if grant is not None:
        await _save_grant(fetch, grant)
    await fetch(
        """
        INSERT INTO locum.grant_events (account, epoch, made_at, made_by, change, grant_id, grant_epoch, duration,
                                        permissions, not_before, expires_at, given_by, revoked_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        """,
        rows.event_row(change, by=by, at=at),
    )


async def _save_grant(fetch: Fetch, grant: Grant) -> None:
    saved = await fetch(
        """
        INSERT INTO locum.grants AS g (account, id, epoch, duration, permissions, not_before, expires_at, given_by,
                                       revoked_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (id) DO UPDATE
        SET epoch = excluded.epoch, duration = excluded.duration, permissions = excluded.permissions,
            not_before = excluded.not_before, expires_at = excluded.expires_at, given_by = excluded.given_by,
            revoked_at = excluded.revoked_at
        WHERE g.account = excluded.account
            AND (g.revoked_at IS NULL OR g.revoked_at IS NOT DISTINCT FROM excluded.revoked_at)
        RETURNING 1
        """,
        (grant.account, *rows.grant_row(grant)),
    )
    if not saved:
        raise StoreConflict(f"the grant `{grant.id}` was revoked or is another account's: use a new id")
