-- What nobody else has: which id belongs to which upstream mailbox and message (mail-rules 2, 6, 39).
-- Ids are minted from the account's salt and the integer keys below, so a lost cache comes back with the same ids.

CREATE TABLE mail_mailbox (
    mid INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL,                  -- raw upstream name at the moment
    server_id TEXT,                     -- MAILBOXID or mailbox GUID
    uidvalidity INTEGER,
    uidnext INTEGER,
    role TEXT,                          -- a binding: a later candidate never takes it over (mail-rules 26)
    role_source TEXT,                   -- 'server' | 'name' | 'client'
    sort_order INTEGER,
    gone INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX mail_mailbox_key ON mail_mailbox(key) WHERE gone = 0;

CREATE TABLE mail_email (
    eid INTEGER PRIMARY KEY AUTOINCREMENT,
    tid INTEGER NOT NULL,
    received_at INTEGER NOT NULL,       -- unix seconds; at first sight, for good (mail-rules 7)
    size INTEGER NOT NULL
);

CREATE TABLE mail_binding (
    mid INTEGER NOT NULL,
    uidvalidity INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    eid INTEGER NOT NULL,
    PRIMARY KEY (mid, uidvalidity, uid)
) WITHOUT ROWID;
CREATE INDEX mail_binding_eid ON mail_binding(eid);

-- What can link a new UID to a known Email: a server's message id, or the hash of identifying headers.
CREATE TABLE mail_evidence (
    hash BLOB NOT NULL,
    eid INTEGER NOT NULL,
    PRIMARY KEY (hash, eid)
) WITHOUT ROWID;
CREATE INDEX mail_evidence_eid ON mail_evidence(eid);
