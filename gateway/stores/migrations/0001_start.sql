-- Every time is a whole number of microseconds since 1970 in UTC; see gateway/stores/rows.py.
-- Sets of words are sorted and separated by one space, so that equal sets are equal text.

CREATE TABLE accounts (
    id TEXT PRIMARY KEY NOT NULL,
    type TEXT NOT NULL,
    suspended INTEGER NOT NULL CHECK (suspended IN (0, 1)),
    epoch INTEGER NOT NULL CHECK (epoch >= 0),
    -- The newest grant. NULL also after a conversion, whatever was stored before it.
    grant_id TEXT,
    -- Deferred, because account and grant change together and the account goes first.
    FOREIGN KEY (id, grant_id) REFERENCES grants (account, id) DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE TABLE grants (
    id TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL REFERENCES accounts (id),
    epoch INTEGER NOT NULL CHECK (epoch >= 0),
    duration TEXT NOT NULL,
    permissions TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    expires_at INTEGER,
    given_by TEXT NOT NULL,
    revoked_at INTEGER,
    UNIQUE (account, id)
) STRICT;

-- The history holds each grant as it was, so nothing in it is looked up in a table that changes.
CREATE TABLE grant_events (
    account TEXT NOT NULL REFERENCES accounts (id),
    epoch INTEGER NOT NULL,
    made_at INTEGER NOT NULL,
    made_by TEXT NOT NULL,
    change TEXT NOT NULL,
    grant_id TEXT,
    grant_epoch INTEGER,
    duration TEXT,
    permissions TEXT,
    not_before INTEGER,
    expires_at INTEGER,
    given_by TEXT,
    revoked_at INTEGER,
    PRIMARY KEY (account, epoch)
) STRICT;

-- No foreign keys here: a trial's grant is stored nowhere, and accounts may be kept by the app itself.
CREATE TABLE assumptions (
    id TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    subject TEXT NOT NULL,
    actor_issuer TEXT NOT NULL,
    actor_subject TEXT NOT NULL,
    grant_id TEXT NOT NULL,
    ticket TEXT NOT NULL,
    reason TEXT NOT NULL,
    scopes TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;

CREATE TABLE staff (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    name TEXT NOT NULL,
    permissions TEXT NOT NULL,
    -- A JSON list, because the identity provider's names of groups may hold spaces.
    groups TEXT NOT NULL,
    disabled INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT;

CREATE TABLE clients (
    id TEXT PRIMARY KEY NOT NULL,
    secret_digest BLOB NOT NULL,
    roles TEXT NOT NULL
) STRICT;

CREATE TABLE signing_keys (
    id TEXT PRIMARY KEY NOT NULL,
    algorithm TEXT NOT NULL,
    private_pem BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    retired_at INTEGER
) STRICT;
