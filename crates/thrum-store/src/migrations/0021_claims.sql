-- Files that agents ask others to leave alone, a part of the projection. The last event counts, per agent and path; the path '' stands
-- for all that were claimed before.
CREATE TABLE claims (
    agent_id TEXT    NOT NULL,
    home     TEXT    NOT NULL,
    path     TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    event_id TEXT    NOT NULL,
    until    INTEGER NOT NULL,         -- by the clock of its home; where it was released, the same as `at`
    PRIMARY KEY (agent_id, home, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_by_end ON claims (until);
