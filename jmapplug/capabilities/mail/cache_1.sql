-- Everything that upstream can give again. Rows carry created_modseq, modseq and deleted (mail-rules 9, 10);
-- tombstones keep id, the modseqs and nothing else. Times are unix seconds.

CREATE TABLE mailbox (
    mid INTEGER PRIMARY KEY,            -- as in own.mail_mailbox
    id TEXT NOT NULL UNIQUE,
    key BLOB NOT NULL,
    name TEXT NOT NULL,
    parent INTEGER,                     -- mid
    role TEXT,
    sort_order INTEGER NOT NULL DEFAULT 0,
    rights INTEGER NOT NULL DEFAULT 511,-- bits in the order of backends.Rights, may_read_items = 1
    subscribed INTEGER NOT NULL DEFAULT 1,
    selectable INTEGER NOT NULL DEFAULT 1,
    total_emails INTEGER NOT NULL DEFAULT 0,
    unread_emails INTEGER NOT NULL DEFAULT 0,
    total_threads INTEGER NOT NULL DEFAULT 0,
    unread_threads INTEGER NOT NULL DEFAULT 0,
    uidvalidity INTEGER,                -- the sync point: moves at the end of a complete pass only (mail-rules 18)
    uidnext INTEGER,
    highestmodseq INTEGER,
    messages INTEGER,
    full_flags_at INTEGER NOT NULL DEFAULT 0,
    created_modseq INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    props_modseq INTEGER NOT NULL,      -- last change of anything but the four counts (mail-rules 10)
    deleted INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX mailbox_modseq ON mailbox(modseq);

CREATE TABLE thread (
    tid INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    emails INTEGER NOT NULL DEFAULT 0,
    unread INTEGER NOT NULL DEFAULT 0,       -- unread Emails that are in some Mailbox other than Trash
    unread_trash INTEGER NOT NULL DEFAULT 0, -- unread Emails that are in Trash
    revived INTEGER NOT NULL DEFAULT 0,      -- 1 = was a tombstone once: when it goes again, older states knew it too
    created_modseq INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX thread_modseq ON thread(modseq);

-- Hash of (message id, base subject) → thread: every id that a member names or has (mail-rules 8).
CREATE TABLE thread_ref (
    hash INTEGER PRIMARY KEY,
    tid INTEGER NOT NULL
);

CREATE TABLE email (
    eid INTEGER PRIMARY KEY,            -- as in own.mail_email
    id TEXT NOT NULL UNIQUE,
    tid INTEGER NOT NULL,
    thread_id TEXT,
    received_at INTEGER,
    size INTEGER,
    sent INTEGER,                       -- sentAt as unix seconds (sort), NULL where the Date is unreadable
    flags INTEGER NOT NULL DEFAULT 0,   -- 1 $seen, 2 $draft, 4 $flagged, 8 $answered, 16 hasAttachment, 32 server's structure
    keywords TEXT,                      -- JSON object, as answered
    mailbox_ids TEXT,                   -- JSON object, as answered
    -- JSON fragments as answered; NULL = null
    j_message_id TEXT, j_in_reply_to TEXT, j_references TEXT, j_sender TEXT, j_from TEXT, j_to TEXT, j_cc TEXT,
    j_bcc TEXT, j_reply_to TEXT,
    subject TEXT,
    sent_at TEXT,                       -- RFC 3339 with the sender's offset
    sort_subject TEXT, sort_from TEXT, sort_to TEXT,   -- i;unicode-casemap keys
    preview TEXT,                       -- NULL = not known yet
    structure BLOB,                     -- msgpack of mime.structure.Part; NULL = to be parsed from the message
    indexed INTEGER NOT NULL DEFAULT 0, -- 1 = in fts with its texts
    revived INTEGER NOT NULL DEFAULT 0, -- 1 = was a tombstone once: when it goes again, older states knew it too
    created_modseq INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX email_modseq ON email(modseq);
CREATE INDEX email_thread ON email(tid);
CREATE INDEX email_received ON email(received_at, id) WHERE deleted = 0;
CREATE INDEX email_unindexed ON email(received_at) WHERE deleted = 0 AND indexed = 0;

-- One upstream copy. eid NULL: listed, its details not yet fetched (the resumable work list of the first sync).
CREATE TABLE message (
    mid INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    eid INTEGER,
    flags TEXT NOT NULL,                -- upstream spelling, blank separated, sorted, never \Recent
    hidden INTEGER NOT NULL DEFAULT 0,  -- 1 = \Deleted: neither visible nor counted (mail-rules 13)
    received_at INTEGER NOT NULL,
    server_id TEXT,
    thread_hash INTEGER,                -- hash of the server's own thread id (THREADID, X-GM-THRID), as in thread_ref
    PRIMARY KEY (mid, uid)
) WITHOUT ROWID;
CREATE INDEX message_eid ON message(eid) WHERE eid IS NOT NULL;
CREATE INDEX message_pending ON message(mid, received_at) WHERE eid IS NULL AND hidden = 0;

-- Which visible Email is in which Mailbox, in list order.
CREATE TABLE email_mailbox (
    mid INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    id TEXT NOT NULL,
    eid INTEGER NOT NULL,
    tid INTEGER NOT NULL,
    PRIMARY KEY (mid, received_at, id)
) WITHOUT ROWID;
CREATE INDEX email_mailbox_eid ON email_mailbox(eid);

CREATE TABLE mailbox_thread (
    mid INTEGER NOT NULL,
    tid INTEGER NOT NULL,
    emails INTEGER NOT NULL,
    PRIMARY KEY (mid, tid)
) WITHOUT ROWID;
CREATE INDEX mailbox_thread_tid ON mailbox_thread(tid);

-- Every keyword of every visible Email but $seen; for $seen its absence is kept, as the keyword '!$seen'.
CREATE TABLE email_keyword (
    keyword TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    id TEXT NOT NULL,
    eid INTEGER NOT NULL,
    PRIMARY KEY (keyword, received_at, id)
) WITHOUT ROWID;
CREATE INDEX email_keyword_eid ON email_keyword(eid);

CREATE VIRTUAL TABLE fts USING fts5(
    "from", "to", cc, bcc, subject, body,
    content = '', contentless_delete = 1, tokenize = "unicode61 remove_diacritics 2", prefix = '3'
);
