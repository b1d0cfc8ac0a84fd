-- What the program of an agent does, as its home said it last. Part of the projection. Filled when the log is folded again, as all
-- that follows but the last table.
CREATE TABLE presences (
    agent_id TEXT    NOT NULL,
    home     TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    event_id TEXT    NOT NULL,
    state    TEXT    NOT NULL,
    wakeable INTEGER NOT NULL,
    since    INTEGER NOT NULL,
    PRIMARY KEY (agent_id, home)
) STRICT, WITHOUT ROWID;

-- When a waiter of an agent was first given a message, as each daemon says. Part of the projection.
CREATE TABLE wakes (
    message_id TEXT    NOT NULL,
    agent_id   TEXT    NOT NULL,
    origin     TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (message_id, agent_id, origin)
) STRICT, WITHOUT ROWID;

-- Local: the sessions that programs have told the daemon of, so that a daemon that is restarted knows them.
CREATE TABLE program_sessions (
    session  TEXT    PRIMARY KEY,          -- the program's own id
    agent_id TEXT    NOT NULL,
    state    TEXT    NOT NULL,
    since    INTEGER NOT NULL,
    program  INTEGER,                      -- the process that runs it
    begun    INTEGER                       -- when that process began, as the system counts, to tell it from a later one
) STRICT, WITHOUT ROWID;
