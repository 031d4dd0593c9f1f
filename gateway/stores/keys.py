"""The embedded store's part about signing keys."""

ADD = """
    INSERT INTO signing_keys (id, algorithm, private_pem, created_at, signs_from, retired_at, ended_at)
    SELECT ?, ?, ?, ?, ?, ?, ? WHERE ? IS (
        SELECT id FROM signing_keys WHERE algorithm = ? ORDER BY signs_from DESC, id DESC LIMIT 1
    )
    ON CONFLICT DO NOTHING
"""
"""The row of a key, what was the newest of its algorithm, and that algorithm."""
START = """
    UPDATE signing_keys SET signs_from = ?1
    WHERE id = ?2 AND signs_from > ?1 AND retired_at IS NULL AND ended_at IS NULL
"""
RETIRE = "UPDATE signing_keys SET retired_at = ? WHERE id = ? AND retired_at IS NULL AND ended_at IS NULL"
END = "UPDATE signing_keys SET ended_at = ?, private_pem = x'' WHERE id = ? AND ended_at IS NULL"
