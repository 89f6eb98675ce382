-- The id of each script upstream: it follows our own renames, and foreign ones that keep the content.
CREATE TABLE sieve_binding (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE) WITHOUT ROWID;
