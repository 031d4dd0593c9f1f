-- Who was told before, for what happened before it was changed and is read only afterwards: a JSON list of triples of
-- channel, address, and until when, in microseconds since 1970.
ALTER TABLE notice_contacts ADD COLUMN former TEXT NOT NULL DEFAULT '[]';
