-- What nobody else has: Identities, and the queue of what is being sent (mail-rules 36, 39). Times in unix seconds.

CREATE TABLE submission_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE submission_identity (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL,                -- of the default one: the account's address
    reply_to TEXT,                      -- JSON EmailAddress[], NULL = null
    bcc TEXT,
    text_signature TEXT NOT NULL,
    html_signature TEXT NOT NULL,
    may_delete INTEGER NOT NULL,
    version INTEGER NOT NULL            -- moves with every change; the cache's log repeats it
) WITHOUT ROWID;

CREATE TABLE submission_email (
    id TEXT PRIMARY KEY,
    identity_id TEXT NOT NULL,
    email_id TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    envelope TEXT NOT NULL,             -- JSON, RFC 8621 section 7
    created_at INTEGER NOT NULL,
    send_at INTEGER NOT NULL,
    undo_status TEXT NOT NULL,
    delivery TEXT NOT NULL,             -- JSON deliveryStatus
    phase TEXT NOT NULL,                -- 'queued', 'sending', 'data', 'done': see outbox.py
    record TEXT NOT NULL,               -- 'new': its creation is not answered yet, 'live', 'gone': destroyed by the client
    due_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    settled_at INTEGER NOT NULL,        -- when it was done; 0 before
    version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX submission_email_due ON submission_email (due_at) WHERE phase != 'done';
