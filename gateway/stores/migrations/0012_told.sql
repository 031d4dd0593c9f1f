-- When the provider issued the token that a person's groups and claims come from. NULL: not known, older than any.
ALTER TABLE staff ADD COLUMN told_at INTEGER;

DROP TRIGGER staff_changed;
-- Being seen again changes nobody's rights; of two tokens the newer counts, so its time does.
CREATE TRIGGER staff_changed AFTER UPDATE ON staff
WHEN (old.name, old.permissions, old.groups, old.claims, old.disabled, old.signed_out_at, old.told_at)
    IS NOT (new.name, new.permissions, new.groups, new.claims, new.disabled, new.signed_out_at, new.told_at)
BEGIN
    INSERT INTO changes (staff_issuer, staff_subject) VALUES (new.issuer, new.subject);
END;
