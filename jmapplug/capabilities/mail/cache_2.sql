-- Sizes of body parts after decoding, once they were answered: an answer never changes later (mail-rules 38).
CREATE TABLE part_size (
    eid INTEGER PRIMARY KEY,
    sizes BLOB NOT NULL                 -- msgpack {section: [octets, whether the transfer encoding was broken]}
);
CREATE TRIGGER part_size_gone AFTER UPDATE OF deleted ON email WHEN new.deleted = 1 BEGIN
    DELETE FROM part_size WHERE eid = new.eid;
END;
