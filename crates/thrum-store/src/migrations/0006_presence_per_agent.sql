-- Local: the last sign of life of each agent that lives here, whatever it called. Not of sessions: most calls name no session.
DROP TABLE presence;
CREATE TABLE presence (
    agent_id     TEXT PRIMARY KEY,
    last_seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
