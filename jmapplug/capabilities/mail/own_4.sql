-- Which upstream (MailSource.identity) bindings are of: what was bound at another server means nothing here, and is there
-- again when the account comes back (mail-rules 4, 17). Names of one server share a number; none is current before the
-- first listing.
CREATE TABLE mail_upstream (
    identity TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    current INTEGER NOT NULL
) WITHOUT ROWID;

ALTER TABLE mail_binding RENAME TO mail_binding_3;
DROP INDEX mail_binding_eid;
CREATE TABLE mail_binding (
    mid INTEGER NOT NULL,
    uidvalidity INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    upstream INTEGER NOT NULL,          -- mail_upstream.number
    eid INTEGER NOT NULL,
    PRIMARY KEY (mid, uidvalidity, uid, upstream)
) WITHOUT ROWID;
INSERT INTO mail_binding (mid, uidvalidity, uid, upstream, eid) SELECT mid, uidvalidity, uid, 0, eid FROM mail_binding_3;
DROP TABLE mail_binding_3;
CREATE INDEX mail_binding_eid ON mail_binding(eid);

-- The Mailboxes of each upstream as they were when the account left it.
CREATE TABLE mail_mailbox_away (
    upstream INTEGER NOT NULL,
    mid INTEGER NOT NULL,
    key BLOB NOT NULL,
    server_id TEXT,
    uidvalidity INTEGER,
    uidnext INTEGER,
    role TEXT,
    role_source TEXT,
    PRIMARY KEY (upstream, mid)
) WITHOUT ROWID;
