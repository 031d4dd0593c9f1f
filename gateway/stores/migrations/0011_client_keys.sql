-- A client may authenticate with a key of its own, whose public half is kept here as a JWK set, and not with a secret.
ALTER TABLE clients ADD COLUMN jwks TEXT;
-- Whether tokens are issued to it only for the holder of a key (RFC 9449).
ALTER TABLE clients ADD COLUMN dpop INTEGER NOT NULL DEFAULT 0;
