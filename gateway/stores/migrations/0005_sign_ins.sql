-- From which sign-in an assumption began, so that a sign-out that is told late ends none that a newer sign-in began.
-- NULL: it is not known, and any sign-out ends it.
ALTER TABLE assumptions ADD COLUMN signed_in_at INTEGER;
