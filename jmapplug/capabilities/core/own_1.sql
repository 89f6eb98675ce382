-- PushSubscriptions (RFC 8620 §7.2) of the login whose account this is. Times in unix seconds.
CREATE TABLE core_push_subscription (
    id TEXT PRIMARY KEY,
    device_client_id TEXT NOT NULL,
    url TEXT NOT NULL,
    p256dh TEXT, auth TEXT,             -- as the client gave them; both or neither
    code TEXT NOT NULL,                 -- the verification code
    code_sent INTEGER NOT NULL,         -- 1 from right before the PushVerification's octets leave: never again
    verified INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    types TEXT,                         -- JSON array; null = all
    told TEXT NOT NULL,                 -- JSON {type: state} that the client has been told of, or began with
    vapid TEXT NOT NULL,                -- the service's public key that this subscription was made under (RFC 9749 §4)
    due_at REAL NOT NULL,               -- no post before
    gap REAL NOT NULL,                  -- seconds between two posts
    failures INTEGER NOT NULL,          -- posts that failed, in a row
    refusals INTEGER NOT NULL           -- … because the push service refused them for good
) WITHOUT ROWID;
-- When subscriptions were made, for the limit on their rate (RFC 8620 §8.6).
CREATE TABLE core_push_creation (at REAL NOT NULL);
