"""Whether a store is whole: every row has a meaning, and what belongs together is there together."""

from dataclasses import dataclass

from gateway.stores.tables import TABLES, Reading, Table

_MOST_FAULTS = 20

# What each of these finds is wrong.
_FAULTS = {
    "the account `{}` points to a grant that is not there": """
        SELECT a.id FROM {schema}accounts AS a LEFT JOIN {schema}grants AS g ON g.id = a.grant_id AND g.account = a.id
        WHERE a.grant_id IS NOT NULL AND g.id IS NULL ORDER BY a.id
    """,
    "the account `{}` is of another epoch than the newest line of its history": """
        SELECT a.id FROM {schema}accounts AS a
        JOIN (SELECT account, max(epoch) AS epoch FROM {schema}grant_events GROUP BY account) AS e ON e.account = a.id
        WHERE e.epoch <> a.epoch ORDER BY a.id
    """,
    "the account `{}` has another grant than the newest line of its history says": """
        SELECT a.id FROM {schema}accounts AS a
        JOIN {schema}grant_events AS e ON e.account = a.id AND e.epoch = a.epoch
        LEFT JOIN {schema}grants AS g ON g.id = a.grant_id
        WHERE coalesce(e.grant_id, '') <> coalesce(a.grant_id, '')
            OR coalesce(e.grant_epoch, -1) <> coalesce(g.epoch, -1)
            OR coalesce(e.expires_at, -1) <> coalesce(g.expires_at, -1)
            OR coalesce(e.revoked_at, -1) <> coalesce(g.revoked_at, -1)
        ORDER BY a.id
    """,
    "the history of `{}` is of an account that is not there": """
        SELECT DISTINCT e.account FROM {schema}grant_events AS e LEFT JOIN {schema}accounts AS a ON a.id = e.account
        WHERE a.id IS NULL ORDER BY e.account
    """,
    "the grant `{}` is of an account that is not there": """
        SELECT g.id FROM {schema}grants AS g LEFT JOIN {schema}accounts AS a ON a.id = g.account
        WHERE a.id IS NULL ORDER BY g.id
    """,
    "the change {} is not followed by the next one": """
        SELECT c.position FROM {schema}changes AS c
        LEFT JOIN {schema}changes AS d ON d.position = c.position + 1
        WHERE d.position IS NULL AND c.position < (SELECT max(position) FROM {schema}changes)
            AND NOT EXISTS (
                SELECT 1 FROM {schema}changes AS e
                WHERE e.position = (SELECT min(position) FROM {schema}changes WHERE position > c.position)
                    AND e.account IS NULL AND e.assumption IS NULL AND e.staff_issuer IS NULL
            )
        ORDER BY c.position
    """,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a look at a whole store has found."""

    counts: dict[str, int]
    """Rows by table."""
    position: int
    faults: tuple[str, ...]
    """Each a sentence; none if the store is whole. Not more than some of each kind."""


async def examine(reading: Reading) -> Condition:
    """Return the condition of a store; raises StoreError if it cannot be read at all."""
    counts: dict[str, int] = {}
    faults: list[str] = []
    for table in TABLES:
        counts[table.name], unread = await _read_all(reading, table)
        faults += unread
    for text, sql in _FAULTS.items():
        faults += [text.format(row[0]) async for row in reading.rows(sql)][:_MOST_FAULTS]
    newest = [row[0] async for row in reading.rows("SELECT max(position) FROM {schema}changes")]
    return Condition(counts=counts, position=newest[0] or 0, faults=tuple(faults))


async def _read_all(reading: Reading, table: Table) -> tuple[int, list[str]]:
    count = 0
    faults: list[str] = []
    async for row in reading.rows(table.select):
        count += 1
        try:
            table.read(row)
        except (ValueError, OverflowError, TypeError) as exc:
            if len(faults) < _MOST_FAULTS:
                faults.append(f"a row of {table.name} has no meaning: {exc}: {row[0]}")
    return count, faults
