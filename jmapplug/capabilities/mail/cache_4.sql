-- moved: 1 = this folder was not read through since the account moved to another server: what is known of it are ghosts.
ALTER TABLE mailbox ADD COLUMN moved INTEGER NOT NULL DEFAULT 0;
-- revived: 1 = was a tombstone once: when it goes again, older states knew it too.
ALTER TABLE mailbox ADD COLUMN revived INTEGER NOT NULL DEFAULT 0;
