-- Numbered, so that the oldest keys can be let go.
DROP TABLE idempotency;
CREATE TABLE idempotency (
    number     INTEGER PRIMARY KEY,
    agent_id   TEXT NOT NULL,
    key        TEXT NOT NULL,
    message_id TEXT NOT NULL,
    digest     BLOB NOT NULL,          -- of the request, so that a reused key is noticed
    UNIQUE (agent_id, key)
) STRICT;

-- Local: what a peer itself said to have of our log, durably, and when it first said so.
CREATE TABLE acknowledged (
    peer     TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (peer, sequence)
) STRICT, WITHOUT ROWID;

-- Which messages somebody has not read yet.
CREATE INDEX mailbox_unread_by_message ON mailbox (sequence) WHERE unread;
