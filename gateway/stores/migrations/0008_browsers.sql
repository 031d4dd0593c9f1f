-- Assumptions that a browser holds; of the cookie only its digest is kept. Whether one counts is said by the assumption.
CREATE TABLE browser_assumptions (
    digest BLOB PRIMARY KEY NOT NULL,
    assumption TEXT NOT NULL,
    -- A JSON object: what an assumption token would say.
    claims TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    -- A JSON list: the app's own cookies, which are kept from that browser.
    jar TEXT NOT NULL DEFAULT '[]',
    jar_version INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX browser_assumptions_by_end ON browser_assumptions (expires_at);

-- What the app has left with an assumption does not outlive it.
CREATE TRIGGER browser_assumptions_ended AFTER UPDATE OF ended_at ON assumptions WHEN new.ended_at IS NOT NULL BEGIN
    UPDATE browser_assumptions SET jar = '[]', jar_version = jar_version + 1 WHERE assumption = new.id AND jar <> '[]';
END;
CREATE INDEX browser_assumptions_of ON browser_assumptions (assumption);
