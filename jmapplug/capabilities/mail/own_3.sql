-- COPYs and MOVEs under way: at the next start they are finished, and tell which Email a copy is (mail-rules 28).
CREATE TABLE mail_transfer (
    entry INTEGER PRIMARY KEY AUTOINCREMENT,
    source INTEGER NOT NULL,            -- mid
    target INTEGER NOT NULL,            -- mid
    eids TEXT NOT NULL,                 -- JSON object: UID in the source → eid
    removes INTEGER NOT NULL            -- 1 = they are to leave the source
);
-- Keywords that an Email's folder refuses to keep (mail-rules 33).
CREATE TABLE mail_keyword (
    eid INTEGER NOT NULL,
    keyword TEXT NOT NULL,
    PRIMARY KEY (eid, keyword)
) WITHOUT ROWID;
