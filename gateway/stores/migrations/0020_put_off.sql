-- How often a notice was refused by itself, and before when it is not tried again; what holds up no other of its target.
ALTER TABLE notices ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE notices ADD COLUMN not_before INTEGER NOT NULL DEFAULT 0;
-- What went wrong there last, in our own words.
ALTER TABLE notice_targets ADD COLUMN error TEXT NOT NULL DEFAULT '';
