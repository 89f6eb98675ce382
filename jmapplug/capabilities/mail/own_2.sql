-- Changes of folders of our own: ids survive a crash in between, and listings that do not know them yet (mail-rules 6, 28).
CREATE TABLE mail_folder_intent (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,     -- 'create', 'rename': begun upstream; 'park': has a passing name; 'made': done lately
    mid INTEGER,            -- of which box; NULL while it is being created
    old_key BLOB,           -- 'rename': its key before
    parent BLOB,            -- key of the level above where it goes, NULL at the top
    name TEXT,              -- its name there; 'park': the name that it had
    wish_mid INTEGER,       -- 'park': the parent that it shall get, NULL at the top
    wish_name TEXT,         -- 'park': its name there
    role TEXT,              -- 'create'
    at INTEGER NOT NULL     -- unix seconds
);
