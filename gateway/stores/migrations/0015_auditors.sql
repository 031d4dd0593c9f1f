-- A client that reads the log may be limited to one account's records. NULL: it reads all.
ALTER TABLE clients ADD COLUMN account TEXT;
