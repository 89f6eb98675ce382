CREATE TABLE quota (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    resource TEXT NOT NULL,          -- as upstream names it: STORAGE, MESSAGE, MAILBOX
    used INTEGER NOT NULL,
    hard_limit INTEGER NOT NULL,
    created_modseq INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    props_modseq INTEGER NOT NULL,   -- when anything but "used" changed last
    deleted INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX quota_modseq ON quota (modseq);
