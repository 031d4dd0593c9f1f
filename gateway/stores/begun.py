"""The embedded store's part about assumptions that staff have begun."""

import sqlite3
from datetime import datetime

from gateway.stores import rows, visits
from gateway.stores.store import StoreConflict, TooManyAssumptions
from policy.model import ActorId, Assumption, Staff

ADD = """
    INSERT INTO assumptions (id, account, subject, actor_issuer, actor_subject, grant_id, ticket, reason,
                             scopes, started_at, ended_at, signed_in_at, expires_at, agent_roles)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_OPEN = """
    FROM assumptions AS a
    WHERE actor_issuer = ? AND actor_subject = ? AND ended_at IS NULL AND expires_at > ?
        AND NOT EXISTS (
            SELECT 1 FROM grants AS g WHERE g.id = a.grant_id AND (g.revoked_at IS NOT NULL OR g.expires_at <= ?)
        )
"""
LIST = rows.select(rows.ASSUMPTION, _OPEN) + " ORDER BY started_at, id"
_COUNT = f"SELECT count(*) {_OPEN}"
LIST_OVER = rows.select(
    rows.ASSUMPTION,
    """
    FROM assumptions AS a
    WHERE ended_at IS NULL AND expires_at > ?1
        AND (
            expires_at <= ?2
            OR EXISTS (
                SELECT 1 FROM grants AS g WHERE g.id = a.grant_id AND (g.revoked_at IS NOT NULL OR g.expires_at <= ?2)
            )
        )
    ORDER BY expires_at, id LIMIT ?3
    """,
)
LIST_UNCLAIMED = rows.select(
    rows.ASSUMPTION,
    """
    FROM assumptions AS a
    WHERE ended_at IS NULL AND expires_at > ?
        AND id IN (SELECT assumption FROM hand_overs WHERE ends_at <= ?)
        AND NOT EXISTS (SELECT 1 FROM browser_assumptions WHERE assumption = a.id)
    ORDER BY started_at, id
    """,
)


def begin(
    connection: sqlite3.Connection, *, assumption: Assumption, staff: Staff, at: datetime, most: int | None
) -> None:
    """Store who begins an assumption, and then the assumption; raises StoreConflict."""
    saved = connection.execute(visits.SAVE_STAFF + "RETURNING signed_out_at", rows.staff_row(staff, at=at)).fetchall()
    if saved != [(None if staff.signed_out_at is None else rows.write_time(staff.signed_out_at),)]:
        raise StoreConflict(f"`{staff.id.subject}` has signed out meanwhile: decide again")
    [[open_now]] = connection.execute(_COUNT, open_of(staff.id, at=at)).fetchall()
    if most is not None and open_now >= most:
        raise TooManyAssumptions(f"`{staff.id.subject}` has {open_now} assumptions open")
    if connection.execute(ADD, rows.assumption_row(assumption)).rowcount == 0:
        raise StoreConflict(f"the assumption `{assumption.id}` exists already: choose another id")


def open_of(actor: ActorId, *, at: datetime) -> rows.Row:
    """Return the values that LIST asks for."""
    now = rows.write_time(at)
    return actor.issuer, actor.subject, now, now


def expect(connection: sqlite3.Connection, *, row: rows.Row, past: datetime) -> None:
    """Store what a browser has to take over by when, and forget what has had its time."""
    connection.execute("DELETE FROM hand_overs WHERE ends_at <= ?", (rows.write_time(past),))
    connection.execute("INSERT INTO hand_overs (assumption, ends_at) VALUES (?, ?) ON CONFLICT DO NOTHING", row)
