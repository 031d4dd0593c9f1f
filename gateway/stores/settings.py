"""The embedded store's part about what administrators choose: a change of an account, its grant and its history."""

import sqlite3
from datetime import datetime

from gateway.stores import rows
from gateway.stores.store import StoreConflict
from policy.grants import GrantChange
from policy.model import Grant


def save_change(connection: sqlite3.Connection, *, change: GrantChange, by: str, at: datetime) -> None:
    """Store all three; raises StoreConflict."""
    account, grant = change.account, change.grant
    grant_id = None if grant is None else grant.id
    moved = connection.execute(
        """
        UPDATE accounts SET type = ?, suspended = ?, epoch = ?, attributes = ?, grant_id = ?
        WHERE id = ? AND epoch = ?
        """,
        (*rows.account_row(account)[1:], grant_id, account.id, account.epoch - 1),
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
