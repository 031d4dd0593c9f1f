-- Accounts of whose records nothing is taken away, whatever the terms of retention are and whoever asks for erasure.
CREATE TABLE legal_holds (
    account TEXT PRIMARY KEY NOT NULL,
    set_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    set_at INTEGER NOT NULL
) STRICT;
