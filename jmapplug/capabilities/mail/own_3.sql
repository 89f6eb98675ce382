-- Moves in two steps (no MOVE upstream) that are under way: finished at the next start if the copies are there.
CREATE TABLE mail_move (
    entry INTEGER PRIMARY KEY AUTOINCREMENT,
    source INTEGER NOT NULL,            -- mid
    target INTEGER NOT NULL,            -- mid
    eids TEXT NOT NULL                  -- JSON object: UID in the source → eid
);
-- Keywords that an Email's folder refuses to keep (mail-rules 33).
CREATE TABLE mail_keyword (
    eid INTEGER NOT NULL,
    keyword TEXT NOT NULL,
    PRIMARY KEY (eid, keyword)
) WITHOUT ROWID;
