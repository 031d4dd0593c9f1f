"""The shared store's part about staff who come with a browser: their sessions, and values that count once."""

from datetime import datetime

from gateway.stores import rows
from gateway.stores.postgres.writes import SAVE_STAFF, Fetch
from gateway.stores.store import StaffSession, StoreConflict

FIND = rows.select(rows.SESSION, "FROM locum.staff_sessions WHERE digest = $1")
# Which of them have it as their `sid` is for whoever reads them.
FIND_SAYING = rows.select(rows.SESSION, "FROM locum.staff_sessions WHERE issuer = $1 AND strpos(claims, $2) > 0")
TOUCH = "UPDATE locum.staff_sessions SET seen_at = greatest(seen_at, $1) WHERE digest = $2"
END = f"DELETE FROM locum.staff_sessions WHERE digest = $1 RETURNING {rows.SESSION}"  # noqa: S608 - our own words
FIND_ONE_TIME = "SELECT payload FROM locum.one_time_values WHERE digest = $1 AND expires_at > $2"
SWAP = """
    UPDATE locum.one_time_values SET payload = $1, expires_at = coalesce($2, expires_at)
    WHERE digest = $3 AND payload = $4 AND expires_at > $5 RETURNING 1
"""
REDEEM = "DELETE FROM locum.one_time_values WHERE digest = $1 AND expires_at > $2 RETURNING payload"
COUNT = """
    INSERT INTO locum.one_time_values AS o (digest, payload, expires_at) VALUES ($1, '1', $2)
    ON CONFLICT (digest) DO UPDATE
    SET payload = CASE WHEN o.expires_at <= $3 THEN '1' ELSE (o.payload::bigint + 1)::text END,
        expires_at = CASE WHEN o.expires_at <= $3 THEN excluded.expires_at ELSE o.expires_at END
    WHERE CASE WHEN o.expires_at <= $3 THEN true ELSE o.payload::bigint < $4 END
    RETURNING 1
"""
DISCOUNT = """
    UPDATE locum.one_time_values SET payload = greatest(payload::bigint - 1, 0)::text
    WHERE digest = $1 AND expires_at > $2 RETURNING 1
"""
_BEGIN = """
    INSERT INTO locum.staff_sessions (digest, issuer, subject, claims, signed_in_at, seen_at, ends_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING 1
"""
_ADD = """
    INSERT INTO locum.one_time_values AS o (digest, payload, expires_at) VALUES ($1, $2, $3)
    ON CONFLICT (digest) DO UPDATE SET payload = excluded.payload, expires_at = excluded.expires_at
    WHERE o.expires_at <= $4
    RETURNING 1
"""
# Nobody waits for whoever is forgetting the same rows.
_FORGET_SESSIONS = """
    DELETE FROM locum.staff_sessions WHERE digest IN (
        SELECT digest FROM locum.staff_sessions WHERE ends_at <= $1 FOR UPDATE SKIP LOCKED
    )
"""
_FORGET_VALUES = """
    DELETE FROM locum.one_time_values WHERE digest IN (
        SELECT digest FROM locum.one_time_values WHERE expires_at <= $1 FOR UPDATE SKIP LOCKED
    )
"""


async def begin_session(fetch: Fetch, *, session: StaffSession, staff: rows.Row, at: datetime) -> None:
    """Store who begins a session, and then the session; raises StoreConflict.

    The person's row is held from the first statement to the commit, here as in a sign-out, so one waits for the other.
    """
    await fetch(SAVE_STAFF, staff)
    actor = session.actor
    found = await fetch(
        "SELECT disabled, signed_out_at FROM locum.staff WHERE issuer = $1 AND subject = $2",
        (actor.issuer, actor.subject),
    )
    [[locked, out_at]] = found
    if locked or (out_at is not None and rows.write_time(session.signed_in_at) <= out_at):
        raise StoreConflict(f"`{actor.subject}` is locked out, or has signed out since")
    await fetch(_FORGET_SESSIONS, (rows.write_time(at),))
    if not await fetch(_BEGIN, rows.session_row(session)):
        raise StoreConflict("the session exists already: take new random bits")


async def add_one_time(fetch: Fetch, *, row: rows.Row, now: datetime) -> None:
    """Store digest, payload and end, and forget what has expired; raises StoreConflict."""
    await fetch(_FORGET_VALUES, (rows.write_time(now),))
    # One that has expired, and that another transaction is about to forget, is overwritten here.
    if not await fetch(_ADD, (*row, rows.write_time(now))):
        raise StoreConflict("the one-time value exists already")
