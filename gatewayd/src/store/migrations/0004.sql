-- A sign-in names the device's record as it was in the roster: a device whose key was restored is
-- another one, and its old key's sign-ins are over. Those made before say nothing of it and end.
DROP TABLE sign_ins;
CREATE TABLE sign_ins (
    cookie     BLOB PRIMARY KEY,
    person     TEXT NOT NULL,
    device     TEXT NOT NULL,
    record     BLOB NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
