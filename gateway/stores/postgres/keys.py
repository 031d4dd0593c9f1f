"""The shared store's part about signing keys."""

from gateway.stores import rows
from gateway.stores.postgres.writes import Fetch
from gateway.stores.store import StoreConflict, StoredKey

START = """
    UPDATE locum.signing_keys SET signs_from = $1
    WHERE id = $2 AND signs_from > $1 AND retired_at IS NULL AND ended_at IS NULL RETURNING 1
"""
RETIRE = """
    UPDATE locum.signing_keys SET retired_at = $1
    WHERE id = $2 AND retired_at IS NULL AND ended_at IS NULL RETURNING 1
"""
END = """
    UPDATE locum.signing_keys SET ended_at = $1, private_pem = '' WHERE id = $2 AND ended_at IS NULL RETURNING 1
"""
# Or two who come at the same time would both find the same one to be the newest.
_ALONE = "LOCK TABLE locum.signing_keys IN SHARE ROW EXCLUSIVE MODE"
_ADD = """
    INSERT INTO locum.signing_keys (id, algorithm, private_pem, created_at, signs_from, retired_at, ended_at)
    SELECT $1::text, $2::text, $3::bytea, $4::bigint, $5::bigint, $6::bigint, $7::bigint
    WHERE $8::text IS NOT DISTINCT FROM (
        SELECT id FROM locum.signing_keys WHERE algorithm = $2::text ORDER BY signs_from DESC, id DESC LIMIT 1
    )
    ON CONFLICT DO NOTHING RETURNING 1
"""


async def add(fetch: Fetch, *, key: StoredKey, after: str | None) -> None:
    """Store a key behind the newest of its algorithm; raises StoreConflict."""
    await fetch(_ALONE, ())
    if not await fetch(_ADD, (*rows.key_row(key), after)):
        raise StoreConflict(f"the signing key `{key.id}`, or a newer one, exists already: look again")
