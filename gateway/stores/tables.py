"""What a store's tables hold, for what goes through all of them: the copy to another store, and the check."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.stores import outbox_rows, rows
from gateway.stores.asked_rows import read_request
from gateway.stores.requesting import COLUMNS


class Reading(Protocol):
    """One moment of a store, whichever database is behind it."""

    def rows(self, sql: str) -> AsyncIterator[rows.Row]:
        """Yield what a statement finds; `{schema}` in it stands before the name of each table. Raises StoreError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table, the same in every store."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    """What its rows are told apart by, and sorted by."""
    read: Callable[[rows.Row], object]
    """Makes a value of a row; raises ValueError if it has no meaning."""
    booleans: frozenset[str] = frozenset()
    """Columns that are numbers in the embedded store."""

    @property
    def select(self) -> str:
        """The statement that yields every row, in the order of the keys."""
        names = ", ".join(self.columns)
        return f"SELECT {names} FROM {{schema}}{self.name} ORDER BY {', '.join(self.key)}"  # noqa: S608 - our own words


def _table(
    name: str,
    columns: str,
    read: Callable[[rows.Row], object],
    *,
    key: str = "id",
    booleans: frozenset[str] = frozenset(),
) -> Table:
    return Table(name=name, columns=tuple(columns.split()), key=tuple(key.split()), read=read, booleans=booleans)


# In an order in which each row is there before another points to it.
TABLES = (
    _table(
        "accounts",
        "id type suspended epoch attributes grant_id",
        lambda row: rows.read_record((*row[:5], *(None,) * 8)),
        booleans=frozenset({"suspended"}),
    ),
    _table(
        "grants",
        "account id epoch duration permissions not_before expires_at given_by revoked_at",
        rows.read_grant,
    ),
    _table(
        "grant_events",
        "account epoch made_at made_by change grant_id grant_epoch duration permissions not_before expires_at given_by"
        " revoked_at",
        rows.read_event,
        key="account epoch",
    ),
    _table(
        "assumptions",
        "id account subject actor_issuer actor_subject grant_id ticket reason scopes started_at ended_at signed_in_at"
        " expires_at agent_roles",
        rows.read_assumption,
    ),
    _table(
        "staff",
        "issuer subject name permissions groups claims disabled signed_out_at told_at seen_at",
        lambda row: rows.read_staff(row[:-1]),
        key="issuer subject",
        booleans=frozenset({"disabled"}),
    ),
    _table(
        "staff_sessions", "digest issuer subject claims signed_in_at seen_at ends_at", rows.read_session, key="digest"
    ),
    _table(
        "browser_assumptions",
        "digest assumption claims expires_at seen_at jar jar_version",
        lambda row: rows.read_browser(row[:5]),
        key="digest",
    ),
    _table("grant_requests", COLUMNS.replace(",", ""), read_request),
    _table("hand_overs", "assumption ends_at", rows.read_hand_over, key="assumption"),
    _table("one_time_values", "digest payload expires_at", rows.read_one_time, key="digest"),
    _table("clients", "id secret_digest roles jwks dpop account", rows.read_client, booleans=frozenset({"dpop"})),
    _table("legal_holds", "account set_by reason set_at", rows.read_hold, key="account"),
    _table("signing_keys", "id algorithm private_pem created_at signs_from retired_at ended_at", rows.read_key),
    _table(
        "kill_switch",
        "id stopped set_by reason set_at",
        lambda row: rows.read_kill_switch(row[1:]),
        booleans=frozenset({"stopped"}),
    ),
    _table("notice_contacts", outbox_rows.CONTACTS.replace(",", ""), outbox_rows.read_contacts, key="account"),
    _table(
        "notices",
        f"{outbox_rows.NOTICE.replace(',', '')} is_noted not_before",
        lambda row: outbox_rows.read_notice(row[:-2]),
    ),
    _table(
        "notice_targets",
        "channel address not_before held_until holder failures error retried",
        outbox_rows.read_target,
        key="channel address",
    ),
    _table("changes", "position account assumption staff_issuer staff_subject tag", rows.read_change, key="position"),
)
