-- What staff have asked the administrators of accounts for, and what came of it; each change names the account.
CREATE TABLE grant_requests (
    id TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    actor_issuer TEXT NOT NULL,
    actor_subject TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    permissions TEXT NOT NULL,
    duration TEXT NOT NULL,
    ticket TEXT NOT NULL,
    reason TEXT NOT NULL,
    asked_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    answer TEXT NOT NULL CHECK (answer IN ('waiting', 'approved', 'declined', 'withdrawn')),
    answered_at INTEGER,
    answered_by TEXT
) STRICT;

CREATE INDEX grant_requests_of_account ON grant_requests (account, asked_at);
CREATE INDEX grant_requests_of_actor ON grant_requests (actor_issuer, actor_subject, asked_at);
CREATE INDEX grant_requests_by_end ON grant_requests (expires_at);

CREATE TRIGGER grant_request_added AFTER INSERT ON grant_requests BEGIN
    INSERT INTO changes (account) VALUES (new.account);
END;
CREATE TRIGGER grant_request_changed AFTER UPDATE ON grant_requests BEGIN
    INSERT INTO changes (account) VALUES (new.account);
END;
CREATE TRIGGER grant_request_taken_away AFTER DELETE ON grant_requests WHEN old.answer = 'waiting' BEGIN
    INSERT INTO changes (account) VALUES (old.account);
END;
