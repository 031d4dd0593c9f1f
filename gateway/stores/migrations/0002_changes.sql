-- What a process needs to hear of: every change of a fact, counted in the transaction that makes it, whoever makes it.
-- Positions begin at 1, go up by one, and are never given twice; beyond the highest there is an error, not a lower one.

CREATE TABLE changes (
    position INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    -- What changed; everything may have, if nothing is named.
    account TEXT,
    assumption TEXT,
    staff_issuer TEXT,
    staff_subject TEXT
) STRICT;

CREATE TABLE kill_switch (
    id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    stopped INTEGER NOT NULL CHECK (stopped IN (0, 1)),
    set_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    set_at INTEGER
) STRICT;

-- What was here before the count began has no name in it.
INSERT INTO changes (position)
SELECT 1 WHERE EXISTS (SELECT 1 FROM accounts)
    OR EXISTS (SELECT 1 FROM assumptions)
    OR EXISTS (SELECT 1 FROM staff);

-- Only what has not ended is looked for by whom it concerns.
CREATE INDEX assumptions_of_actor ON assumptions (actor_issuer, actor_subject) WHERE ended_at IS NULL;
CREATE INDEX assumptions_of_account ON assumptions (account, started_at, id) WHERE ended_at IS NULL;

CREATE TRIGGER changes_kept AFTER INSERT ON changes BEGIN
    DELETE FROM changes WHERE position <= new.position - 4096;
END;

-- A grant changes with its account only, in one transaction, so the account's row speaks for both.
CREATE TRIGGER account_added AFTER INSERT ON accounts BEGIN
    INSERT INTO changes (account) VALUES (new.id);
END;
CREATE TRIGGER account_changed AFTER UPDATE ON accounts BEGIN
    INSERT INTO changes (account) VALUES (new.id);
END;

CREATE TRIGGER assumption_added AFTER INSERT ON assumptions BEGIN
    INSERT INTO changes (assumption) VALUES (new.id);
END;
CREATE TRIGGER assumption_changed AFTER UPDATE ON assumptions BEGIN
    INSERT INTO changes (assumption) VALUES (new.id);
END;

CREATE TRIGGER staff_added AFTER INSERT ON staff BEGIN
    INSERT INTO changes (staff_issuer, staff_subject) VALUES (new.issuer, new.subject);
END;
-- Being seen again changes nobody's rights.
CREATE TRIGGER staff_changed AFTER UPDATE ON staff
WHEN (old.name, old.permissions, old.groups, old.disabled) IS NOT (new.name, new.permissions, new.groups, new.disabled)
BEGIN
    INSERT INTO changes (staff_issuer, staff_subject) VALUES (new.issuer, new.subject);
END;

CREATE TRIGGER kill_switch_first_set AFTER INSERT ON kill_switch BEGIN
    INSERT INTO changes (account) VALUES (NULL);
END;
CREATE TRIGGER kill_switch_set AFTER UPDATE ON kill_switch
WHEN (old.stopped, old.set_by, old.reason, old.set_at) IS NOT (new.stopped, new.set_by, new.reason, new.set_at)
BEGIN
    INSERT INTO changes (account) VALUES (NULL);
END;
