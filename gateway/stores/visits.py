"""The embedded store's part about staff who come with a browser: their sessions, and values that count once."""

import sqlite3
from datetime import datetime

from gateway.stores import rows
from gateway.stores.store import StaffSession, StoreConflict

# What an older token said, or one of an unknown time, stays unsaid.
_SAID = ", ".join(
    f"{column} = CASE WHEN told_at IS NULL OR excluded.told_at >= told_at THEN excluded.{column} ELSE {column} END"
    for column in rows.SAID_OF_STAFF
)
SAVE_STAFF = f"""
    INSERT INTO staff (issuer, subject, name, permissions, groups, claims, disabled, signed_out_at, told_at, seen_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (issuer, subject) DO UPDATE
    SET {_SAID}, disabled = max(disabled, excluded.disabled), seen_at = excluded.seen_at,
        signed_out_at = max(ifnull(signed_out_at, excluded.signed_out_at),
                            ifnull(excluded.signed_out_at, signed_out_at))
"""  # noqa: S608 - nothing but our own words
FIND = rows.select(rows.SESSION, "FROM staff_sessions WHERE digest = ?")
# Which of them have it as their `sid` is for whoever reads them.
FIND_SAYING = rows.select(rows.SESSION, "FROM staff_sessions WHERE issuer = ? AND instr(claims, ?) > 0")
TOUCH = "UPDATE staff_sessions SET seen_at = max(seen_at, ?) WHERE digest = ?"
FIND_ONE_TIME = "SELECT payload FROM one_time_values WHERE digest = ? AND expires_at > ?"
SWAP = (
    "UPDATE one_time_values SET payload = ?, expires_at = coalesce(?, expires_at) "
    "WHERE digest = ? AND payload = ? AND expires_at > ?"
)
COUNT = """
    INSERT INTO one_time_values (digest, payload, expires_at) VALUES (:digest, '1', :expires_at)
    ON CONFLICT (digest) DO UPDATE
    SET payload = CASE WHEN expires_at <= :now THEN '1' ELSE CAST(CAST(payload AS INTEGER) + 1 AS TEXT) END,
        expires_at = CASE WHEN expires_at <= :now THEN excluded.expires_at ELSE expires_at END
    WHERE expires_at <= :now OR CAST(payload AS INTEGER) < :most
"""
DISCOUNT = """
    UPDATE one_time_values SET payload = CAST(max(CAST(payload AS INTEGER) - 1, 0) AS TEXT)
    WHERE digest = ? AND expires_at > ?
"""
_BEGIN = """
    INSERT INTO staff_sessions (digest, issuer, subject, claims, signed_in_at, seen_at, ends_at)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""


def begin_session(connection: sqlite3.Connection, *, session: StaffSession, staff: rows.Row, at: datetime) -> None:
    """Store who begins a session, and then the session; raises StoreConflict."""
    [[locked, out_at]] = connection.execute(SAVE_STAFF + "RETURNING disabled, signed_out_at", staff).fetchall()
    if locked or (out_at is not None and rows.write_time(session.signed_in_at) <= out_at):
        raise StoreConflict(f"`{session.actor.subject}` is locked out, or has signed out since")
    connection.execute("DELETE FROM staff_sessions WHERE ends_at <= ?", (rows.write_time(at),))
    if connection.execute(_BEGIN, rows.session_row(session)).rowcount == 0:
        raise StoreConflict("the session exists already: take new random bits")


def end_session(connection: sqlite3.Connection, *, digest: bytes) -> StaffSession | None:
    """Return the session as it was, None if there was none."""
    ended = connection.execute(f"DELETE FROM staff_sessions WHERE digest = ? RETURNING {rows.SESSION}", (digest,))  # noqa: S608 - nothing but our own words
    found = ended.fetchall()
    return rows.read_session(found[0]) if found else None


def add_one_time(connection: sqlite3.Connection, *, row: rows.Row, now: datetime) -> None:
    """Store digest, payload and end, and forget what has expired; raises StoreConflict."""
    connection.execute("DELETE FROM one_time_values WHERE expires_at <= ?", (rows.write_time(now),))
    sql = "INSERT INTO one_time_values (digest, payload, expires_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    if connection.execute(sql, row).rowcount == 0:
        raise StoreConflict("the one-time value exists already")


def redeem(connection: sqlite3.Connection, *, digest: bytes, now: datetime) -> str | None:
    """Return the payload, and forget it."""
    sql = "DELETE FROM one_time_values WHERE digest = ? AND expires_at > ? RETURNING payload"
    found = connection.execute(sql, (digest, rows.write_time(now))).fetchall()
    return str(found[0][0]) if found else None
