-- A key is published before it signs, and counts for a while after it has signed for the last time.
ALTER TABLE signing_keys ADD COLUMN signs_from INTEGER NOT NULL DEFAULT 0;
-- From when on nothing counts that it has signed. What was the key itself is empty then.
ALTER TABLE signing_keys ADD COLUMN ended_at INTEGER;
UPDATE signing_keys SET signs_from = created_at;

-- Keys are few and change seldom: everything is looked at again then. The journal's key is nobody's but the journal's.
CREATE TRIGGER key_added AFTER INSERT ON signing_keys WHEN new.algorithm <> 'journal' BEGIN
    INSERT INTO changes (account) VALUES (NULL);
END;
CREATE TRIGGER key_changed AFTER UPDATE ON signing_keys BEGIN
    INSERT INTO changes (account) VALUES (NULL);
END;
CREATE TRIGGER key_removed AFTER DELETE ON signing_keys BEGIN
    INSERT INTO changes (account) VALUES (NULL);
END;
