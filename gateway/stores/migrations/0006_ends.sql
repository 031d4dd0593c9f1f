-- When an assumption ends by itself, so that what nobody has ended is not looked at for ever.
-- Of those that are here it is no later than their token's end, 15 minutes behind their start.
ALTER TABLE assumptions ADD COLUMN expires_at INTEGER NOT NULL DEFAULT 0;

-- That changes nobody's rights.
DROP TRIGGER assumption_changed;
UPDATE assumptions SET expires_at = started_at + 900000000;
CREATE TRIGGER assumption_changed AFTER UPDATE ON assumptions BEGIN
    INSERT INTO changes (assumption) VALUES (new.id);
END;

-- Only what has not ended is looked for, from now on.
DROP INDEX assumptions_of_account;
CREATE INDEX assumptions_of_account ON assumptions (account, expires_at) WHERE ended_at IS NULL;
CREATE INDEX assumptions_open ON assumptions (expires_at) WHERE ended_at IS NULL;
