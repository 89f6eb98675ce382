-- When each record of own.sqlite3 changed, for /changes. A cache that is lost makes old states unknown, and nothing else.
CREATE TABLE submission_log (
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_modseq INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    PRIMARY KEY (type, id)
);
CREATE INDEX submission_log_modseq ON submission_log (type, modseq);
