-- Local: events whose own time lay ahead of this machine's clock when they came (see arrival.rs). Nearly always empty.
CREATE TABLE ahead (
    sequence   INTEGER PRIMARY KEY,
    origin     TEXT    NOT NULL,
    at         INTEGER NOT NULL,       -- the time that the event claims
    arrived_at INTEGER NOT NULL,       -- it came then, or before
    shown_at   INTEGER NOT NULL        -- where it is shown in place of its own time
) STRICT;
CREATE INDEX ahead_by_time ON ahead (origin, at);

-- What the clock showed when something was last written, and the latest instant that any event of ours has.
ALTER TABLE state ADD COLUMN clock_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN highest_at INTEGER NOT NULL DEFAULT 0;
UPDATE state SET highest_at = last_at;

-- Where a message and a session are shown: their own time, or an earlier one. Filled when the log is folded again, as the new
-- version of the fold asks. `at` of a mailbox is that of showing from now on.
ALTER TABLE messages ADD COLUMN shown_at INTEGER NOT NULL DEFAULT 0;
DROP INDEX messages_by_time;
CREATE INDEX messages_by_time ON messages (shown_at, sequence) WHERE deleted_at IS NULL;
DROP INDEX messages_by_author;
CREATE INDEX messages_by_author ON messages (agent_id, shown_at, sequence);
ALTER TABLE sessions ADD COLUMN shown_at INTEGER;
DROP INDEX sessions_by_agent;
CREATE INDEX sessions_by_agent ON sessions (agent_id, home, shown_at);
DROP INDEX sessions_open;
CREATE INDEX sessions_open ON sessions (agent_id, home, shown_at) WHERE ended_at IS NULL;

-- Part of the projection: what purges named, by the id of the message, the session or the event, although it claims a later time.
-- Of what everybody wrote where the origin is empty, else of what that origin wrote, which signs nothing.
CREATE TABLE purged_ahead (
    id     TEXT NOT NULL,
    origin TEXT NOT NULL,
    PRIMARY KEY (id, origin)
) STRICT, WITHOUT ROWID;
