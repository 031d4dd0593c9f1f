"""The embedded store's part about assumptions that a browser holds."""

import sqlite3
from datetime import datetime

from gateway.stores import rows
from gateway.stores.browsing import BROWSER_KEPT, BrowserAssumption
from gateway.stores.store import StoreConflict

FIND = rows.select(rows.BROWSER, "FROM browser_assumptions WHERE digest = ?")
TOUCH = "UPDATE browser_assumptions SET seen_at = max(seen_at, ?) WHERE digest = ?"
LIST_HELD = """
    SELECT id FROM assumptions AS a
    WHERE actor_issuer = ? AND actor_subject = ? AND account = ? AND ended_at IS NULL AND expires_at > ?
        AND EXISTS (SELECT 1 FROM browser_assumptions WHERE assumption = a.id)
    ORDER BY started_at, id
"""
FIND_JAR = "SELECT jar, jar_version FROM browser_assumptions WHERE digest = ?"
SAVE_JAR = """
    UPDATE browser_assumptions SET jar = ?, jar_version = ? WHERE digest = ? AND jar_version = ? - 1
        AND NOT EXISTS (
            SELECT 1 FROM assumptions a LEFT JOIN grants g ON g.id = a.grant_id
            WHERE a.id = assumption AND (a.ended_at IS NOT NULL OR g.revoked_at IS NOT NULL)
        )
"""
_EMPTY = """
    UPDATE browser_assumptions SET jar = '[]', jar_version = jar_version + 1 WHERE digest IN (
        SELECT b.digest FROM browser_assumptions b
        LEFT JOIN assumptions a ON a.id = b.assumption LEFT JOIN grants g ON g.id = a.grant_id
        WHERE b.jar <> '[]' AND (b.expires_at <= ? OR g.expires_at <= ? OR g.revoked_at IS NOT NULL)
        ORDER BY b.expires_at LIMIT 500
    )
"""
_FORGET = """
    DELETE FROM browser_assumptions WHERE digest IN (
        SELECT digest FROM browser_assumptions WHERE expires_at <= ? ORDER BY expires_at LIMIT 500
    )
"""


def add(connection: sqlite3.Connection, *, browser: BrowserAssumption, at: datetime) -> None:
    """Store what a browser holds, and forget what is long over; raises StoreConflict."""
    tidy(connection, at=at)
    sql = f"INSERT INTO browser_assumptions ({rows.BROWSER}) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608 - our own words
    if connection.execute(sql, rows.browser_row(browser)).rowcount == 0:
        raise StoreConflict("the browser's assumption exists already: take new random bits")


def tidy(connection: sqlite3.Connection, *, at: datetime) -> None:
    """Empty the jars of what is over, and forget what has been for long."""
    now = rows.write_time(at)
    connection.execute(_EMPTY, (now, now))
    connection.execute(_FORGET, (rows.write_time(at - BROWSER_KEPT),))
