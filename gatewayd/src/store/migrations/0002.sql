-- Roster versions above 1 as they were sealed, and the papers that lead to them: proposals,
-- invites, host tokens. A paper's body is only a claim: signatures are verified again.
CREATE TABLE rosters (
    version   INTEGER PRIMARY KEY,
    digest    BLOB NOT NULL UNIQUE,
    envelope  BLOB NOT NULL,
    sealed_at INTEGER NOT NULL
);

CREATE TABLE papers (
    kind     TEXT NOT NULL,
    id       BLOB NOT NULL,
    -- Every change names the revision that it replaces.
    revision INTEGER NOT NULL,
    is_over  INTEGER NOT NULL,
    until    INTEGER NOT NULL,
    body     BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
