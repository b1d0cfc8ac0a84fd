-- Files that an agent of this daemon and another agent changed at nearly the same time, and whether the first has heard of it. Beside the
-- projection: folding again leaves it alone.
CREATE TABLE collisions (
    agent_id TEXT    NOT NULL,
    other    TEXT    NOT NULL,
    home     TEXT    NOT NULL,             -- of the other one
    path     TEXT    NOT NULL,
    own_at   INTEGER NOT NULL,             -- when the file was changed last, by the clock of each machine
    other_at INTEGER NOT NULL,
    noted_at INTEGER NOT NULL,
    told     INTEGER NOT NULL,
    PRIMARY KEY (agent_id, other, home, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX collisions_by_time ON collisions (noted_at);
