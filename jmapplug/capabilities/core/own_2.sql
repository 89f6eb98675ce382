-- A subscription is tied to the credentials that made it (RFC 8620 §7.2). Of those from before nobody knows which these
-- were: they end, and the clients make new ones.
PRAGMA secure_delete=ON;
DELETE FROM core_push_subscription;
-- "told" is JSON {accountId: {type: state}} from now on.
ALTER TABLE core_push_subscription ADD COLUMN credential TEXT NOT NULL DEFAULT '';
ALTER TABLE core_push_subscription ADD COLUMN credential_ends INTEGER;  -- unix seconds; null = it has no end of its own
