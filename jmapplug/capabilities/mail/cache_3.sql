-- What PERMANENTFLAGS said at the last pass, lower case, blank separated; NULL = not told yet (mail-rules 33).
ALTER TABLE mailbox ADD COLUMN permanent_flags TEXT;
