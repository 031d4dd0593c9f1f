-- Every time is a whole number of microseconds since 1970 in UTC, as in the embedded store; see gateway/stores/rows.py.
-- Text is compared and sorted byte by byte, so that ids are alike only when they are equal; see text.py for its NULs.

CREATE TABLE locum.accounts (
    id text COLLATE "C" PRIMARY KEY,
    type text NOT NULL,
    suspended boolean NOT NULL,
    epoch bigint NOT NULL CHECK (epoch >= 0),
    -- A JSON object of texts.
    attributes text NOT NULL DEFAULT '{}',
    -- The newest grant. NULL also after a conversion, whatever was stored before it.
    grant_id text COLLATE "C"
);

CREATE TABLE locum.grants (
    id text COLLATE "C" PRIMARY KEY,
    account text COLLATE "C" NOT NULL REFERENCES locum.accounts (id),
    epoch bigint NOT NULL CHECK (epoch >= 0),
    duration text NOT NULL,
    permissions text NOT NULL,
    not_before bigint NOT NULL,
    expires_at bigint,
    given_by text NOT NULL,
    revoked_at bigint,
    UNIQUE (account, id)
);

-- Deferred, because account and grant change together and the account goes first.
ALTER TABLE locum.accounts ADD CONSTRAINT accounts_own_grant
    FOREIGN KEY (id, grant_id) REFERENCES locum.grants (account, id) DEFERRABLE INITIALLY DEFERRED;

-- The history holds each grant as it was, so nothing in it is looked up in a table that changes.
CREATE TABLE locum.grant_events (
    account text COLLATE "C" NOT NULL REFERENCES locum.accounts (id),
    epoch bigint NOT NULL,
    made_at bigint NOT NULL,
    made_by text NOT NULL,
    change text NOT NULL,
    grant_id text,
    grant_epoch bigint,
    duration text,
    permissions text,
    not_before bigint,
    expires_at bigint,
    given_by text,
    revoked_at bigint,
    PRIMARY KEY (account, epoch)
);

-- No foreign keys here: a trial's grant is stored nowhere, and accounts may be kept by the app itself.
CREATE TABLE locum.assumptions (
    id text COLLATE "C" PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    subject text NOT NULL,
    actor_issuer text COLLATE "C" NOT NULL,
    actor_subject text COLLATE "C" NOT NULL,
    grant_id text NOT NULL,
    ticket text NOT NULL,
    reason text NOT NULL,
    scopes text NOT NULL,
    started_at bigint NOT NULL,
    ended_at bigint,
    -- NULL: it is not known, and any sign-out ends it.
    signed_in_at bigint,
    -- When it ends by itself.
    expires_at bigint NOT NULL,
    -- A JSON list. NULL: the app was not asked.
    agent_roles text
);

-- Only what has not ended is looked for, by whom it concerns.
CREATE INDEX assumptions_of_actor ON locum.assumptions (actor_issuer, actor_subject) WHERE ended_at IS NULL;
CREATE INDEX assumptions_of_account ON locum.assumptions (account, expires_at) WHERE ended_at IS NULL;
CREATE INDEX assumptions_open ON locum.assumptions (expires_at) WHERE ended_at IS NULL;

CREATE TABLE locum.staff (
    issuer text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    name text NOT NULL,
    permissions text NOT NULL,
    -- A JSON list, because the identity provider's names of groups may hold spaces.
    groups text NOT NULL,
    -- A JSON list of pairs, because some claims have several values.
    claims text NOT NULL DEFAULT '[]',
    disabled boolean NOT NULL,
    signed_out_at bigint,
    -- When the provider issued the token that groups and claims come from. NULL: not known, older than any.
    told_at bigint,
    seen_at bigint NOT NULL,
    PRIMARY KEY (issuer, subject)
);

-- Staff who are signed in with a browser; of the cookie only its digest is kept.
CREATE TABLE locum.staff_sessions (
    digest bytea PRIMARY KEY,
    issuer text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    -- A JSON object: what the ID token said, to be judged anew at each request.
    claims text NOT NULL,
    signed_in_at bigint NOT NULL,
    seen_at bigint NOT NULL,
    ends_at bigint NOT NULL
);

CREATE INDEX sessions_of_staff ON locum.staff_sessions (issuer, subject);
CREATE INDEX sessions_by_end ON locum.staff_sessions (ends_at);

-- Whoever locks somebody out or signs them out, by whatever way, ends their sessions in the same step.
CREATE FUNCTION locum.end_sessions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM locum.staff_sessions WHERE issuer = OLD.issuer AND subject = OLD.subject;
    ELSE
        DELETE FROM locum.staff_sessions WHERE issuer = NEW.issuer AND subject = NEW.subject
            AND (NEW.disabled OR signed_in_at <= NEW.signed_out_at);
    END IF;
    RETURN NULL;
END;
$$;

CREATE TRIGGER staff_sessions_ended AFTER DELETE OR UPDATE OF disabled, signed_out_at ON locum.staff
    FOR EACH ROW EXECUTE FUNCTION locum.end_sessions();

-- Values that count once: of each only its digest is kept, and it goes when it is redeemed.
CREATE TABLE locum.one_time_values (
    digest bytea PRIMARY KEY,
    payload text NOT NULL,
    expires_at bigint NOT NULL
);

CREATE INDEX one_time_values_by_end ON locum.one_time_values (expires_at);

-- Assumptions that a browser holds; of the cookie only its digest is kept. Whether one counts is said by the assumption.
CREATE TABLE locum.browser_assumptions (
    digest bytea PRIMARY KEY,
    assumption text COLLATE "C" NOT NULL,
    -- A JSON object: what an assumption token would say.
    claims text NOT NULL,
    expires_at bigint NOT NULL,
    seen_at bigint NOT NULL,
    -- The app's own cookies, which are kept from that browser: sealed, or '[]' for none.
    jar text NOT NULL DEFAULT '[]',
    jar_version bigint NOT NULL DEFAULT 0
);

CREATE INDEX browser_assumptions_by_end ON locum.browser_assumptions (expires_at);
CREATE INDEX browser_assumptions_of ON locum.browser_assumptions (assumption);
CREATE INDEX browser_jars_by_end ON locum.browser_assumptions (expires_at) WHERE jar <> '[]';

-- Assumptions that a browser has to take over by a time; what none has taken over then is ended, by whichever process.
CREATE TABLE locum.hand_overs (
    assumption text COLLATE "C" PRIMARY KEY,
    ends_at bigint NOT NULL
);

CREATE INDEX hand_overs_by_end ON locum.hand_overs (ends_at);

-- What the app has left with an assumption does not outlive it.
CREATE FUNCTION locum.empty_jar() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE locum.browser_assumptions SET jar = '[]', jar_version = jar_version + 1
        WHERE assumption = NEW.id AND jar <> '[]';
    RETURN NULL;
END;
$$;

CREATE TRIGGER browser_assumptions_ended AFTER UPDATE OF ended_at ON locum.assumptions
    FOR EACH ROW WHEN (NEW.ended_at IS NOT NULL) EXECUTE FUNCTION locum.empty_jar();

-- Nor does it outlive the grant; what else changes of an account but its name ends it, too. Nothing may keep a customer's
-- no waiting: a jar that somebody is writing to is passed over, and emptied when it is tidied.
CREATE FUNCTION locum.empty_jars() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE locum.browser_assumptions SET jar = '[]', jar_version = jar_version + 1 WHERE digest IN (
        SELECT b.digest FROM locum.browser_assumptions b JOIN locum.assumptions a ON a.id = b.assumption
        WHERE b.jar <> '[]' AND CASE TG_TABLE_NAME WHEN 'accounts' THEN a.account ELSE a.grant_id END = NEW.id
        FOR UPDATE OF b SKIP LOCKED
    );
    RETURN NULL;
END;
$$;

CREATE TRIGGER grant_revoked_empties_jars AFTER UPDATE OF revoked_at ON locum.grants
    FOR EACH ROW WHEN (NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION locum.empty_jars();
CREATE TRIGGER account_changed_empties_jars AFTER UPDATE OF type, suspended, grant_id ON locum.accounts
    FOR EACH ROW WHEN ((OLD.type, OLD.suspended, OLD.grant_id) IS DISTINCT FROM (NEW.type, NEW.suspended, NEW.grant_id))
    EXECUTE FUNCTION locum.empty_jars();

CREATE TABLE locum.clients (
    id text COLLATE "C" PRIMARY KEY,
    secret_digest bytea NOT NULL,
    roles text NOT NULL,
    -- The public keys of a client that authenticates without a secret, as a JWK set.
    jwks text,
    -- Whether its tokens are only for the holder of a key.
    dpop boolean NOT NULL DEFAULT false,
    -- The one account whose records it may read. NULL: it reads all.
    account text
);

-- Accounts of whose records nothing is taken away, whatever the terms of retention are and whoever asks for erasure.
CREATE TABLE locum.legal_holds (
    account text COLLATE "C" PRIMARY KEY,
    set_by text NOT NULL,
    reason text NOT NULL,
    set_at bigint NOT NULL
);

CREATE TABLE locum.signing_keys (
    id text COLLATE "C" PRIMARY KEY,
    algorithm text NOT NULL,
    private_pem bytea NOT NULL,
    created_at bigint NOT NULL,
    -- A key is published before it signs, and counts for a while after it has signed for the last time.
    signs_from bigint NOT NULL,
    retired_at bigint,
    -- From when on nothing counts that it has signed. What was the key itself is empty then.
    ended_at bigint
);

CREATE TABLE locum.kill_switch (
    id integer PRIMARY KEY CHECK (id = 1),
    stopped boolean NOT NULL,
    set_by text NOT NULL,
    reason text NOT NULL,
    set_at bigint
);

-- Whoever raises the position holds this row until the commit, so positions are in the order of the commits.
CREATE TABLE locum.position (
    id integer PRIMARY KEY CHECK (id = 1),
    position bigint NOT NULL CHECK (position >= 0)
) WITH (fillfactor = 10);
INSERT INTO locum.position (id, position) VALUES (1, 0);

-- What a node needs to hear of: every change of a fact, counted in the transaction that makes it, whoever makes it.
CREATE TABLE locum.changes (
    position bigint PRIMARY KEY,
    -- What changed; everything may have, if nothing is named.
    account text,
    assumption text,
    staff_issuer text,
    staff_subject text,
    -- By chance, so that the same position in a copy that has gone on by itself is another change.
    tag text NOT NULL DEFAULT gen_random_uuid()
);

CREATE FUNCTION locum.raise_position(beyond bigint, account text, assumption text, issuer text, subject text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    raised bigint;
BEGIN
    UPDATE locum.position AS p SET position = greatest(p.position, beyond) + 1 WHERE p.id = 1
    RETURNING p.position INTO STRICT raised;
    INSERT INTO locum.changes (position, account, assumption, staff_issuer, staff_subject)
    VALUES (raised, account, assumption, issuer, subject);
    DELETE FROM locum.changes AS c WHERE c.position <= raised - 4096;
    -- Says only that there is something to read; sent at the commit.
    PERFORM pg_notify('locum_changes', '');
END;
$$;

CREATE FUNCTION locum.count_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE TG_TABLE_NAME
        WHEN 'accounts' THEN PERFORM locum.raise_position(0, coalesce(NEW.id, OLD.id), NULL, NULL, NULL);
        WHEN 'assumptions' THEN PERFORM locum.raise_position(0, NULL, coalesce(NEW.id, OLD.id), NULL, NULL);
        WHEN 'staff' THEN
            PERFORM locum.raise_position(
                0, NULL, NULL, coalesce(NEW.issuer, OLD.issuer), coalesce(NEW.subject, OLD.subject)
            );
        ELSE PERFORM locum.raise_position(0, NULL, NULL, NULL, NULL);
    END CASE;
    RETURN NULL;
END;
$$;

-- A grant changes with its account, whose row then speaks for both; by hand it may change alone.
CREATE FUNCTION locum.count_grant() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    whose text := coalesce(NEW.account, OLD.account);
BEGIN
    IF NOT EXISTS (SELECT 1 FROM locum.accounts WHERE id = whose AND xmin = pg_current_xact_id()::xid) THEN
        PERFORM locum.raise_position(0, whose, NULL, NULL, NULL);
    END IF;
    RETURN NULL;
END;
$$;

-- Deferred to the commit, so that nobody holds the position while they wait for anything else, a client least of all.
CREATE CONSTRAINT TRIGGER account_counted AFTER INSERT OR UPDATE OR DELETE ON locum.accounts
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION locum.count_change();
CREATE CONSTRAINT TRIGGER grant_counted AFTER INSERT OR UPDATE OR DELETE ON locum.grants
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION locum.count_grant();
CREATE CONSTRAINT TRIGGER assumption_counted AFTER INSERT OR UPDATE OR DELETE ON locum.assumptions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION locum.count_change();
CREATE CONSTRAINT TRIGGER staff_counted AFTER INSERT OR DELETE ON locum.staff
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION locum.count_change();
-- Being seen again changes nobody's rights; of two tokens the newer counts, so its time does.
CREATE CONSTRAINT TRIGGER staff_changed_counted AFTER UPDATE ON locum.staff
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.name, OLD.permissions, OLD.groups, OLD.claims, OLD.disabled, OLD.signed_out_at, OLD.told_at)
        IS DISTINCT FROM (NEW.name, NEW.permissions, NEW.groups, NEW.claims, NEW.disabled, NEW.signed_out_at, NEW.told_at))
    EXECUTE FUNCTION locum.count_change();
CREATE CONSTRAINT TRIGGER kill_switch_first_counted AFTER INSERT OR DELETE ON locum.kill_switch
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION locum.count_change();
CREATE CONSTRAINT TRIGGER kill_switch_counted AFTER UPDATE ON locum.kill_switch
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.stopped, OLD.set_by, OLD.reason, OLD.set_at)
        IS DISTINCT FROM (NEW.stopped, NEW.set_by, NEW.reason, NEW.set_at))
    EXECUTE FUNCTION locum.count_change();

-- Keys are few and change seldom: everything is looked at again then. The journal's key is nobody's but the journal's.
CREATE CONSTRAINT TRIGGER key_added_counted AFTER INSERT ON locum.signing_keys
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.algorithm <> 'journal')
    EXECUTE FUNCTION locum.count_change();
CREATE CONSTRAINT TRIGGER key_counted AFTER UPDATE OR DELETE ON locum.signing_keys
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION locum.count_change();

-- What staff have asked the administrators of accounts for, and what came of it; each change names the account.
CREATE TABLE locum.grant_requests (
    id text COLLATE "C" PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    actor_issuer text COLLATE "C" NOT NULL,
    actor_subject text COLLATE "C" NOT NULL,
    actor_name text NOT NULL,
    permissions text NOT NULL,
    duration text NOT NULL,
    ticket text NOT NULL,
    reason text NOT NULL,
    asked_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    answer text NOT NULL CHECK (answer IN ('waiting', 'approved', 'declined', 'withdrawn')),
    answered_at bigint,
    answered_by text
);

CREATE INDEX grant_requests_of_account ON locum.grant_requests (account, asked_at);
CREATE INDEX grant_requests_of_actor ON locum.grant_requests (actor_issuer, actor_subject, asked_at);
CREATE INDEX grant_requests_by_end ON locum.grant_requests (expires_at);

CREATE FUNCTION locum.count_request() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM locum.raise_position(0, coalesce(NEW.account, OLD.account), NULL, NULL, NULL);
    RETURN NULL;
END;
$$;

CREATE CONSTRAINT TRIGGER grant_request_counted AFTER INSERT OR UPDATE ON locum.grant_requests
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION locum.count_request();
CREATE CONSTRAINT TRIGGER grant_request_gone_counted AFTER DELETE ON locum.grant_requests
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.answer = 'waiting')
    EXECUTE FUNCTION locum.count_request();

-- The journals of all nodes, line by line as their files hold them: to search all of them, and to verify each. Nothing
-- decides on what stands here, so it is no change of the store.
CREATE TABLE locum.journal_segments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Where the file is: nodes name their origins alike.
    node text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    -- Which file of that name it was, and how much of it is here.
    inode bigint NOT NULL,
    bytes bigint NOT NULL DEFAULT 0,
    lines bigint NOT NULL DEFAULT 0,
    -- So many of them cannot be found, for they could not be read.
    unread bigint NOT NULL DEFAULT 0,
    -- What tells the last of these lines from all others: see gateway/audit/position.py.
    mark text NOT NULL DEFAULT '',
    UNIQUE (node, name)
);

CREATE TABLE locum.journal_lines (
    segment bigint NOT NULL REFERENCES locum.journal_segments (id) ON DELETE CASCADE,
    -- Counted from 0; with the number in the segment's name it is the record's.
    number bigint NOT NULL,
    line bytea NOT NULL,
    -- In the order of time, and for all that has one place here the same: see gateway/audit/index/places.py. NULL: the
    -- line has no content that can be read.
    id bigint,
    account text COLLATE "C",
    actor text,
    decision text,
    kind text,
    method text,
    reason text,
    rule text,
    -- What it can be found by: see gateway/audit/search/words.py.
    marks tsvector,
    PRIMARY KEY (segment, number)
);

CREATE INDEX journal_lines_by_time ON locum.journal_lines (id) WHERE id IS NOT NULL;
-- An entry of an index has a longest length, and a name has none.
CREATE INDEX journal_lines_of_account ON locum.journal_lines (left(account, 200), id) WHERE id IS NOT NULL;
CREATE INDEX journal_lines_by_marks ON locum.journal_lines USING gin (marks);

-- How far each node has shipped: whatever happened there before has its lines here.
CREATE TABLE locum.journal_nodes (
    node text COLLATE "C" PRIMARY KEY,
    -- By the node's own clock, in microseconds since 1970.
    through bigint NOT NULL DEFAULT 0,
    -- By this server's.
    heard_at timestamptz NOT NULL DEFAULT now()
);

-- The signed checkpoints of each node's origins.
CREATE TABLE locum.journal_notes (
    node text COLLATE "C" NOT NULL,
    origin text COLLATE "C" NOT NULL,
    size bigint NOT NULL,
    note bytea NOT NULL,
    PRIMARY KEY (node, origin, size)
);

-- Who of an account is told what happens there.
CREATE TABLE locum.notice_contacts (
    account text COLLATE "C" PRIMARY KEY,
    -- Two JSON lists of texts.
    mail text NOT NULL,
    webhooks text NOT NULL,
    set_by text NOT NULL,
    set_at bigint NOT NULL,
    version bigint NOT NULL,
    -- Who was told before, for what happened before it was changed and is read only afterwards: a JSON list of triples
    -- of channel, address, and until when, in microseconds since 1970.
    former text NOT NULL DEFAULT '[]'
);

-- One event for one recipient each. Nothing decides on what stands here, so it is no change of the store.
CREATE TABLE locum.notices (
    -- Of the event and the recipient, so that an event which is read twice is told once.
    id text COLLATE "C" PRIMARY KEY,
    about text NOT NULL,
    event text NOT NULL,
    account text NOT NULL,
    channel text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    -- A JSON object. Facts and address are taken away once it is on the record what came of the notice.
    facts text NOT NULL,
    happened_at bigint NOT NULL,
    -- Empty while it is to be sent.
    outcome text NOT NULL,
    is_noted bigint NOT NULL,
    -- How often it was refused by itself, and before when it is not tried again; what holds up no other of its target.
    tries bigint NOT NULL DEFAULT 0,
    not_before bigint NOT NULL DEFAULT 0
);

CREATE INDEX notices_to_send ON locum.notices (channel, address, happened_at) WHERE is_noted = 0;
CREATE INDEX notices_by_time ON locum.notices (happened_at) WHERE is_noted = 1;

-- Where notices go, when next, and who is at it.
CREATE TABLE locum.notice_targets (
    channel text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    not_before bigint NOT NULL,
    held_until bigint NOT NULL,
    holder text NOT NULL,
    failures bigint NOT NULL,
    -- What went wrong there last, in our own words.
    error text NOT NULL DEFAULT '',
    -- Whether somebody has wanted something there tried again since it was last taken in hand.
    retried bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel, address)
);
