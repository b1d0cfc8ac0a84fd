-- Receipts, edits and deletions are kept by their message's id, whether or not the message is here, so that each costs the same
-- whatever comes first, and another creation of the message moves none of them. Filled when the log is folded again.
DROP TABLE receipts;
CREATE TABLE receipts (
    message_id TEXT    NOT NULL,
    agent_id   TEXT    NOT NULL,
    origin     TEXT    NOT NULL,
    seen_at    INTEGER NOT NULL,
    read_at    INTEGER,
    PRIMARY KEY (message_id, agent_id, origin)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_by_reader ON receipts (agent_id, origin, read_at) WHERE read_at IS NOT NULL;

-- What each daemon did to a message: its edits, of which the last one counts, or its deletions, of which the first one does.
-- kind: 0 edits, 1 deletions.
CREATE TABLE revisions (
    message_id TEXT    NOT NULL,
    kind       INTEGER NOT NULL,
    origin     TEXT    NOT NULL,
    count      INTEGER NOT NULL,
    at         INTEGER NOT NULL,       -- of the one that counts, as all that follows
    event_id   TEXT    NOT NULL,
    reason     TEXT,
    PRIMARY KEY (message_id, kind, origin)
) STRICT, WITHOUT ROWID;

-- Work that one transaction left for the next ones. `after` tells how far it got.
CREATE TABLE pending (
    work   TEXT    NOT NULL,
    target TEXT    NOT NULL,
    after  INTEGER NOT NULL,
    upto   INTEGER NOT NULL,
    PRIMARY KEY (work, target)
) STRICT, WITHOUT ROWID;
