-- What the last look upstream saw; "hash" is the blob id of the content.
CREATE TABLE sieve_script (name TEXT PRIMARY KEY, hash TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX sieve_script_hash ON sieve_script(hash);
-- A digest of what clients see of each type: another one means another state.
CREATE TABLE sieve_seen (type TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;
