-- Who of an account is told what happens there.
CREATE TABLE notice_contacts (
    account TEXT PRIMARY KEY,
    -- Two JSON lists of texts.
    mail TEXT NOT NULL,
    webhooks TEXT NOT NULL,
    set_by TEXT NOT NULL,
    set_at INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT;

-- One event for one recipient each. Nothing decides on what stands here, so it is no change of the store.
CREATE TABLE notices (
    -- Of the event and the recipient, so that an event which is read twice is told once.
    id TEXT PRIMARY KEY,
    about TEXT NOT NULL,
    event TEXT NOT NULL,
    account TEXT NOT NULL,
    channel TEXT NOT NULL,
    address TEXT NOT NULL,
    -- A JSON object. Facts and address are taken away once it is on the record what came of the notice.
    facts TEXT NOT NULL,
    happened_at INTEGER NOT NULL,
    -- Empty while it is to be sent.
    outcome TEXT NOT NULL,
    is_noted INTEGER NOT NULL
) STRICT;

CREATE INDEX notices_to_send ON notices (channel, address, happened_at) WHERE is_noted = 0;
CREATE INDEX notices_by_time ON notices (happened_at) WHERE is_noted = 1;

-- Where notices go, when next, and who is at it.
CREATE TABLE notice_targets (
    channel TEXT NOT NULL,
    address TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    held_until INTEGER NOT NULL,
    holder TEXT NOT NULL,
    failures INTEGER NOT NULL,
    PRIMARY KEY (channel, address)
) STRICT;
