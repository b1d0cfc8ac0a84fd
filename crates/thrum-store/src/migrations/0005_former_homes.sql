-- Part of the projection: agents that moved here from a daemon that signs nothing.
CREATE TABLE former_homes (
    agent_id TEXT    NOT NULL,
    former   TEXT    NOT NULL,         -- the daemon it lived at
    home     TEXT    NOT NULL,         -- the daemon it lives at, which was the first to say so
    until    INTEGER NOT NULL,         -- when that was last said: what is older of `former` is this agent's
    PRIMARY KEY (agent_id, former)
) STRICT, WITHOUT ROWID;

-- Where the author lives now: `origin`, unless it moved. Filled when the log is folded again, as the new version of the fold asks.
ALTER TABLE messages ADD COLUMN home TEXT NOT NULL DEFAULT '';
