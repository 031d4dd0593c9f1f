"""The shared store's part about assumptions that a browser holds."""

from datetime import datetime

from gateway.stores import rows
from gateway.stores.browsing import BROWSER_KEPT, BrowserAssumption
from gateway.stores.postgres.writes import Fetch
from gateway.stores.store import StoreConflict

FIND = rows.select(rows.BROWSER, "FROM locum.browser_assumptions WHERE digest = $1")
TOUCH = "UPDATE locum.browser_assumptions SET seen_at = greatest(seen_at, $1) WHERE digest = $2"
LIST_HELD = """
    SELECT id FROM locum.assumptions a
    WHERE actor_issuer = $1 AND actor_subject = $2 AND account = $3 AND ended_at IS NULL AND expires_at > $4
        AND EXISTS (SELECT 1 FROM locum.browser_assumptions WHERE assumption = a.id)
    ORDER BY started_at, id
"""
FIND_JAR = "SELECT jar, jar_version FROM locum.browser_assumptions WHERE digest = $1"
SAVE_JAR = """
    UPDATE locum.browser_assumptions SET jar = $1, jar_version = $2 WHERE digest = $3 AND jar_version = $4 - 1
        AND NOT EXISTS (
            SELECT 1 FROM locum.assumptions a LEFT JOIN locum.grants g ON g.id = a.grant_id
            WHERE a.id = assumption AND (a.ended_at IS NOT NULL OR g.revoked_at IS NOT NULL)
        )
    RETURNING 1
"""
_ADD = f"""
    INSERT INTO locum.browser_assumptions ({rows.BROWSER}) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING RETURNING 1
"""  # noqa: S608 - our own words
# Nobody waits for whoever is at the same rows.
_EMPTY = """
    UPDATE locum.browser_assumptions SET jar = '[]', jar_version = jar_version + 1 WHERE digest IN (
        SELECT b.digest FROM locum.browser_assumptions b
        LEFT JOIN locum.assumptions a ON a.id = b.assumption LEFT JOIN locum.grants g ON g.id = a.grant_id
        WHERE b.jar <> '[]' AND (b.expires_at <= $1 OR g.expires_at <= $1 OR g.revoked_at IS NOT NULL)
        ORDER BY b.expires_at LIMIT 500 FOR UPDATE OF b SKIP LOCKED
    )
"""
_FORGET = """
    DELETE FROM locum.browser_assumptions WHERE digest IN (
        SELECT digest FROM locum.browser_assumptions WHERE expires_at <= $1
        ORDER BY expires_at LIMIT 500 FOR UPDATE SKIP LOCKED
    )
"""


async def add(fetch: Fetch, *, browser: BrowserAssumption, at: datetime) -> None:
    """Store what a browser holds, and forget what is long over; raises StoreConflict."""
    await tidy(fetch, at=at)
    if not await fetch(_ADD, rows.browser_row(browser)):
        raise StoreConflict("the browser's assumption exists already: take new random bits")


async def tidy(fetch: Fetch, *, at: datetime) -> None:
    """Empty the jars of what is over, and forget what has been for long."""
    await fetch(_EMPTY, (rows.write_time(at),))
    await fetch(_FORGET, (rows.write_time(at - BROWSER_KEPT),))
