-- Requests and what became of them. Digests and serials are raw bytes; times are seconds since
-- 1970 unless a name says milliseconds.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE requests (
    id          BLOB PRIMARY KEY,
    grant_id    TEXT NOT NULL UNIQUE,
    host        TEXT NOT NULL,
    state       TEXT NOT NULL,
    is_final    INTEGER NOT NULL,
    -- Every change names the revision that it replaces.
    revision    INTEGER NOT NULL,
    admitted_at INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL,
    signed      BLOB NOT NULL,
    snapshot    BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX requests_open ON requests (is_final, admitted_at);

-- One approval and one denial of a person per request, whatever the code above thinks.
CREATE TABLE statements (
    request  BLOB NOT NULL REFERENCES requests (id),
    number   INTEGER NOT NULL,
    person   TEXT NOT NULL,
    decision TEXT NOT NULL,
    signed   BLOB NOT NULL,
    PRIMARY KEY (request, number),
    UNIQUE (request, person, decision)
) WITHOUT ROWID;

-- At most one issue per request (T4).
CREATE TABLE certificates (
    serial    BLOB PRIMARY KEY,
    request   BLOB NOT NULL UNIQUE REFERENCES requests (id),
    not_after INTEGER NOT NULL,
    der       BLOB NOT NULL,
    evidence  BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE revocations (
    serial     BLOB PRIMARY KEY REFERENCES certificates (serial),
    revoked_at INTEGER NOT NULL,
    because    TEXT NOT NULL,
    -- Carried by a list that was issued after not_after + 24 h: later lists leave it out.
    carried    INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE crls (
    number      INTEGER PRIMARY KEY,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    der         BLOB NOT NULL
);

-- What hosts reported: the GrantRecord, and how the session ended.
CREATE TABLE sessions (
    request BLOB PRIMARY KEY REFERENCES requests (id),
    record  BLOB,
    ended   BLOB
) WITHOUT ROWID;

-- Cookies are stored as hashes.
CREATE TABLE sign_ins (
    cookie     BLOB PRIMARY KEY,
    person     TEXT NOT NULL,
    device     TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit (
    number   INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    previous BLOB NOT NULL,
    event    TEXT NOT NULL,
    hash     BLOB NOT NULL
);
