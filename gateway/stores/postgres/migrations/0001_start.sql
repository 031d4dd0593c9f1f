-- Every time is a whole number of microseconds since 1970 in UTC, as in the embedded store; see gateway/stores/rows.py.
-- Text is compared and sorted byte by byte, so that ids are alike only when they are equal; see text.py for its NULs.

CREATE TABLE locum.accounts (
    id text COLLATE "C" PRIMARY KEY,
    type text NOT NULL,
    suspended boolean NOT NULL,
    epoch bigint NOT NULL CHECK (epoch >= 0),
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
    signed_in_at bigint
);

-- Only what has not ended is looked for by whom it concerns.
CREATE INDEX assumptions_of_actor ON locum.assumptions (actor_issuer, actor_subject) WHERE ended_at IS NULL;
CREATE INDEX assumptions_of_account ON locum.assumptions (account, started_at, id) WHERE ended_at IS NULL;

CREATE TABLE locum.staff (
    issuer text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    name text NOT NULL,
    permissions text NOT NULL,
    -- A JSON list, because the identity provider's names of groups may hold spaces.
    groups text NOT NULL,
    disabled boolean NOT NULL,
    signed_out_at bigint,
    seen_at bigint NOT NULL,
    PRIMARY KEY (issuer, subject)
);

CREATE TABLE locum.clients (
    id text COLLATE "C" PRIMARY KEY,
    secret_digest bytea NOT NULL,
    roles text NOT NULL
);

CREATE TABLE locum.signing_keys (
    id text COLLATE "C" PRIMARY KEY,
    algorithm text NOT NULL,
    private_pem bytea NOT NULL,
    created_at bigint NOT NULL,
    retired_at bigint
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
-- Being seen again changes nobody's rights.
CREATE CONSTRAINT TRIGGER staff_changed_counted AFTER UPDATE ON locum.staff
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.name, OLD.permissions, OLD.groups, OLD.disabled, OLD.signed_out_at)
        IS DISTINCT FROM (NEW.name, NEW.permissions, NEW.groups, NEW.disabled, NEW.signed_out_at))
    EXECUTE FUNCTION locum.count_change();
CREATE CONSTRAINT TRIGGER kill_switch_first_counted AFTER INSERT OR DELETE ON locum.kill_switch
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION locum.count_change();
CREATE CONSTRAINT TRIGGER kill_switch_counted AFTER UPDATE ON locum.kill_switch
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.stopped, OLD.set_by, OLD.reason, OLD.set_at)
        IS DISTINCT FROM (NEW.stopped, NEW.set_by, NEW.reason, NEW.set_at))
    EXECUTE FUNCTION locum.count_change();
