-- A jar is sealed from now on, or '[]' for an empty one. Those that were not are emptied.
UPDATE browser_assumptions SET jar = '[]', jar_version = jar_version + 1 WHERE jar <> '[]';
CREATE INDEX browser_jars_by_end ON browser_assumptions (expires_at) WHERE jar <> '[]';

-- What the app has left does not outlive the grant either; what else changes of an account but its name ends it, too.
CREATE TRIGGER grant_revoked_empties_jars AFTER UPDATE OF revoked_at ON grants WHEN new.revoked_at IS NOT NULL BEGIN
    UPDATE browser_assumptions SET jar = '[]', jar_version = jar_version + 1
    WHERE jar <> '[]' AND EXISTS (SELECT 1 FROM assumptions a WHERE a.id = assumption AND a.grant_id = new.id);
END;
CREATE TRIGGER account_changed_empties_jars AFTER UPDATE OF type, suspended, grant_id ON accounts
WHEN (old.type, old.suspended, old.grant_id) IS NOT (new.type, new.suspended, new.grant_id)
BEGIN
    UPDATE browser_assumptions SET jar = '[]', jar_version = jar_version + 1
    WHERE jar <> '[]' AND EXISTS (SELECT 1 FROM assumptions a WHERE a.id = assumption AND a.account = new.id);
END;
