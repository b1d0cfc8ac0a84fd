-- How far each reader of an agent's mail has got in our log. Beside the projection: folding again leaves it alone.
CREATE TABLE cursors (
    agent_id TEXT    NOT NULL,
    reader   TEXT    NOT NULL,             -- a name that the reader chose, such as the id of its session
    sequence INTEGER NOT NULL,             -- all that is later in our log is news to it
    moved_at INTEGER NOT NULL,
    PRIMARY KEY (agent_id, reader)
) STRICT, WITHOUT ROWID;
