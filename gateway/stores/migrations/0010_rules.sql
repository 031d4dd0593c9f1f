-- What the vendor's rules speak of, beside what was kept before.
ALTER TABLE accounts ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';
-- A JSON list of pairs, because some claims have several values.
ALTER TABLE staff ADD COLUMN claims TEXT NOT NULL DEFAULT '[]';
-- A JSON list. NULL: the app was not asked.
ALTER TABLE assumptions ADD COLUMN agent_roles TEXT;

DROP TRIGGER staff_changed;
-- Being seen again changes nobody's rights.
CREATE TRIGGER staff_changed AFTER UPDATE ON staff
WHEN (old.name, old.permissions, old.groups, old.claims, old.disabled, old.signed_out_at)
    IS NOT (new.name, new.permissions, new.groups, new.claims, new.disabled, new.signed_out_at)
BEGIN
    INSERT INTO changes (staff_issuer, staff_subject) VALUES (new.issuer, new.subject);
END;
