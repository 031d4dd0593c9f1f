-- Who signed out has to sign in again: whoever is remembered here may never have been seen otherwise.
ALTER TABLE staff ADD COLUMN signed_out_at INTEGER;

DROP TRIGGER staff_changed;
-- Being seen again changes nobody's rights.
CREATE TRIGGER staff_changed AFTER UPDATE ON staff
WHEN (old.name, old.permissions, old.groups, old.disabled, old.signed_out_at)
    IS NOT (new.name, new.permissions, new.groups, new.disabled, new.signed_out_at)
BEGIN
    INSERT INTO changes (staff_issuer, staff_subject) VALUES (new.issuer, new.subject);
END;
