-- Whether somebody has wanted something there tried again since it was last taken in hand.
ALTER TABLE notice_targets ADD COLUMN retried INTEGER NOT NULL DEFAULT 0;
