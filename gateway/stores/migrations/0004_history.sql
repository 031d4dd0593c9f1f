-- Each change has a tag by chance, so that the same position in a copy that has gone on by itself is another change.
-- Made anew, because a column of chance cannot be added; the triggers of other tables find the new one by its name.
CREATE TABLE changes_before AS SELECT * FROM changes;
DROP TABLE changes;
CREATE TABLE changes (
    position INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    -- What changed; everything may have, if nothing is named.
    account TEXT,
    assumption TEXT,
    staff_issuer TEXT,
    staff_subject TEXT,
    tag TEXT NOT NULL DEFAULT (lower(hex(randomblob(8))))
) STRICT;
INSERT INTO changes (position, account, assumption, staff_issuer, staff_subject)
SELECT position, account, assumption, staff_issuer, staff_subject FROM changes_before ORDER BY position;
DROP TABLE changes_before;

CREATE TRIGGER changes_kept AFTER INSERT ON changes BEGIN
    DELETE FROM changes WHERE position <= new.position - 4096;
END;

-- A grant changes with its account, whose row says so as well; by hand it may change alone.
CREATE TRIGGER grant_added AFTER INSERT ON grants BEGIN
    INSERT INTO changes (account) VALUES (new.account);
END;
CREATE TRIGGER grant_changed AFTER UPDATE ON grants BEGIN
    INSERT INTO changes (account) VALUES (new.account);
END;
CREATE TRIGGER grant_removed AFTER DELETE ON grants BEGIN
    INSERT INTO changes (account) VALUES (old.account);
END;

CREATE TRIGGER account_removed AFTER DELETE ON accounts BEGIN
    INSERT INTO changes (account) VALUES (old.id);
END;
CREATE TRIGGER assumption_removed AFTER DELETE ON assumptions BEGIN
    INSERT INTO changes (assumption) VALUES (old.id);
END;
CREATE TRIGGER staff_removed AFTER DELETE ON staff BEGIN
    INSERT INTO changes (staff_issuer, staff_subject) VALUES (old.issuer, old.subject);
END;
CREATE TRIGGER kill_switch_removed AFTER DELETE ON kill_switch BEGIN
    INSERT INTO changes (account) VALUES (NULL);
END;
