-- One row. What only a COMMIT may move on.
CREATE TABLE state (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    log_id          TEXT    NOT NULL,  -- one per life of the database
    next_sequence   INTEGER NOT NULL,
    next_origin_seq INTEGER NOT NULL,  -- within log_id
    last_at         INTEGER NOT NULL,  -- instant of our last event
    open_counter    INTEGER NOT NULL,
    fold_version    INTEGER NOT NULL   -- the projection was made by this version of the fold
) STRICT;

-- The only truth about mail and agents.
CREATE TABLE events (
    sequence      INTEGER PRIMARY KEY,
    event_id      TEXT    NOT NULL UNIQUE,
    type          TEXT    NOT NULL,
    at            INTEGER NOT NULL,    -- nanoseconds since 1970
    origin_daemon TEXT    NOT NULL,
    origin_log    TEXT    NOT NULL,    -- empty where the origin names none
    origin_seq    INTEGER NOT NULL,    -- 0 where the origin names none
    received_from TEXT    NOT NULL,    -- the peer that served it; empty for our own
    target        TEXT,                -- the message, session or agent it is about
    body          TEXT    NOT NULL     -- RFC 8785, without `sequence`
) STRICT;
CREATE INDEX events_by_target ON events (target, type);

-- What is held, per log of each origin.
CREATE TABLE heads (
    origin  TEXT    NOT NULL,
    log     TEXT    NOT NULL,
    count   INTEGER NOT NULL,
    highest INTEGER NOT NULL,
    sum     BLOB    NOT NULL,          -- of SHA-256 over bodies, modulo 2^256
    PRIMARY KEY (origin, log)
) STRICT, WITHOUT ROWID;

-- How far each peer's log was read. `at` tells which of a peer's logs was the last one.
CREATE TABLE checkpoints (
    peer     TEXT    NOT NULL,
    log      TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (peer, log)
) STRICT, WITHOUT ROWID;

-- In the log, but not folded (yet).
CREATE TABLE parked (
    event_id TEXT PRIMARY KEY,
    reason   TEXT NOT NULL,
    target   TEXT,
    due      INTEGER                   -- instant at which it folds
) STRICT, WITHOUT ROWID;
CREATE INDEX parked_by_target ON parked (target) WHERE target IS NOT NULL;
CREATE INDEX parked_by_due ON parked (due) WHERE due IS NOT NULL;

-- Not in the log: malformed, badly signed, or an id that is here with other content.
CREATE TABLE rejected (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    peer     TEXT    NOT NULL,
    event_id TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    sample   TEXT    NOT NULL,
    UNIQUE (peer, event_id, reason)
) STRICT;

-- Local: what a repeated request answers.
CREATE TABLE idempotency (
    agent_id   TEXT NOT NULL,
    key        TEXT NOT NULL,
    message_id TEXT NOT NULL,
    digest     BLOB NOT NULL,          -- of the request, so that a reused key is noticed
    PRIMARY KEY (agent_id, key)
) STRICT, WITHOUT ROWID;

-- Local: heartbeats.
CREATE TABLE presence (
    session_id   TEXT PRIMARY KEY,
    last_seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- From here on: the projection, a pure fold of the set of events.

CREATE TABLE purge (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    cutoff INTEGER NOT NULL
) STRICT;

CREATE TABLE messages (
    sequence      INTEGER PRIMARY KEY, -- of the event that created it: its text is there
    message_id    TEXT    NOT NULL UNIQUE,
    at            INTEGER NOT NULL,
    event_id      TEXT    NOT NULL,
    origin        TEXT    NOT NULL,    -- the author's home
    agent_id      TEXT    NOT NULL,
    session_id    TEXT    NOT NULL,
    thread_id     TEXT,
    reply_to      TEXT,
    edit_sequence INTEGER,             -- of the last edit: the text is there now
    edited_at     INTEGER,
    edit_event    TEXT,
    edits         INTEGER NOT NULL DEFAULT 0,
    deleted_at    INTEGER,
    delete_event  TEXT,
    delete_reason TEXT
) STRICT;
CREATE INDEX messages_by_time ON messages (at, sequence);
CREATE INDEX messages_by_author ON messages (agent_id, at, sequence);
CREATE INDEX messages_by_thread ON messages (thread_id) WHERE thread_id IS NOT NULL;
CREATE INDEX messages_by_parent ON messages (reply_to) WHERE reply_to IS NOT NULL;

-- Whom a message that is not deleted addresses. kind: 0 an agent, 1 a role, 2 everyone.
CREATE TABLE audience (
    kind     INTEGER NOT NULL,
    value    TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    sequence INTEGER NOT NULL,         -- of the message
    PRIMARY KEY (kind, value, at, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
    owner         INTEGER PRIMARY KEY, -- of mailbox rows; says nothing elsewhere
    agent_id      TEXT    NOT NULL,
    home          TEXT    NOT NULL,    -- the daemon that registered it
    event_id      TEXT    NOT NULL,
    registered_at INTEGER NOT NULL,    -- last
    first_at      INTEGER NOT NULL,    -- first since it was last cleaned up
    kind          TEXT    NOT NULL,
    role          TEXT    NOT NULL,
    module        TEXT    NOT NULL,
    display       TEXT    NOT NULL,
    hostname      TEXT    NOT NULL,
    worktree      TEXT    NOT NULL,
    UNIQUE (agent_id, home)
) STRICT;
CREATE INDEX agents_by_role ON agents (role);

CREATE TABLE cleanups (
    agent_id TEXT    NOT NULL,
    home     TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    event_id TEXT    NOT NULL,
    PRIMARY KEY (agent_id, home)
) STRICT, WITHOUT ROWID;

-- What each registered agent finds in its inbox.
CREATE TABLE mailbox (
    owner    INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    unread   INTEGER NOT NULL,
    PRIMARY KEY (owner, at, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX mailbox_unread ON mailbox (owner, at, sequence) WHERE unread;

CREATE TABLE receipts (
    sequence INTEGER NOT NULL,         -- of the message
    agent_id TEXT    NOT NULL,
    origin   TEXT    NOT NULL,
    seen_at  INTEGER NOT NULL,
    read_at  INTEGER,
    PRIMARY KEY (sequence, agent_id, origin)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    session_id  TEXT PRIMARY KEY,
    agent_id    TEXT    NOT NULL,      -- empty while only its end is known
    home        TEXT    NOT NULL,
    started_at  INTEGER,
    start_event TEXT,
    ended_at    INTEGER,
    end_event   TEXT,
    end_reason  TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_agent ON sessions (agent_id, home, started_at);

CREATE TABLE contexts (
    session_id TEXT    NOT NULL,
    agent_id   TEXT    NOT NULL,
    home       TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    event_id   TEXT    NOT NULL,
    context    TEXT    NOT NULL,       -- one element of work_contexts
    PRIMARY KEY (session_id, agent_id, home)
) STRICT, WITHOUT ROWID;
