-- Assumptions that a browser has to take over by a time; what none has taken over then is ended, by whichever process.
CREATE TABLE hand_overs (
    assumption TEXT PRIMARY KEY NOT NULL,
    ends_at INTEGER NOT NULL
) STRICT;

CREATE INDEX hand_overs_by_end ON hand_overs (ends_at);
