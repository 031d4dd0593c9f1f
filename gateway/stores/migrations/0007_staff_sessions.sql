-- Staff who are signed in with a browser; of the cookie only its digest is kept.
CREATE TABLE staff_sessions (
    digest BLOB PRIMARY KEY NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- A JSON object: what the ID token said, to be judged anew at each request.
    claims TEXT NOT NULL,
    signed_in_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_of_staff ON staff_sessions (issuer, subject);
CREATE INDEX sessions_by_end ON staff_sessions (ends_at);

-- Whoever locks somebody out or signs them out, by whatever way, ends their sessions in the same step.
CREATE TRIGGER staff_sessions_ended AFTER UPDATE OF disabled, signed_out_at ON staff BEGIN
    DELETE FROM staff_sessions WHERE issuer = new.issuer AND subject = new.subject
        AND (new.disabled OR signed_in_at <= new.signed_out_at);
END;
CREATE TRIGGER staff_sessions_of_nobody AFTER DELETE ON staff BEGIN
    DELETE FROM staff_sessions WHERE issuer = old.issuer AND subject = old.subject;
END;

-- Values that count once: of each only its digest is kept, and it goes when it is redeemed.
CREATE TABLE one_time_values (
    digest BLOB PRIMARY KEY NOT NULL,
    payload TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX one_time_values_by_end ON one_time_values (expires_at);
