-- An id is its origin's: whoever has no key of the origin cannot keep an event out by serving another one under its id first.
-- So events are the same by id and signer; those that nobody signed have the empty one. SQLite cannot take a constraint back.
CREATE TABLE events_by_signer (
    sequence      INTEGER PRIMARY KEY,
    event_id      TEXT    NOT NULL,
    type          TEXT    NOT NULL,
    at            INTEGER NOT NULL,    -- nanoseconds since 1970
    origin_daemon TEXT    NOT NULL,
    origin_log    TEXT    NOT NULL,    -- empty where the origin names none
    origin_seq    INTEGER NOT NULL,    -- 0 where the origin names none
    received_from TEXT    NOT NULL,    -- the peer that served it; empty for our own
    target        TEXT,                -- the message, session or agent it is about
    body          TEXT    NOT NULL,    -- RFC 8785, without `sequence`
    signer        TEXT    NOT NULL GENERATED ALWAYS AS (
        -- SQLite ends texts at U+0000, but for the bytes.
        CASE WHEN length(origin_daemon) = 55 AND length(CAST(origin_daemon AS BLOB)) = 55 AND substr(origin_daemon, 1, 3) = 'd_k'
                  AND substr(origin_daemon, 4) NOT GLOB '*[^a-z2-7]*'
             THEN origin_daemon ELSE '' END) VIRTUAL,
    UNIQUE (event_id, signer)
) STRICT;
INSERT INTO events_by_signer
    SELECT sequence, event_id, type, at, origin_daemon, origin_log, origin_seq, received_from, target, body FROM events ORDER BY sequence;
DROP TABLE events;
ALTER TABLE events_by_signer RENAME TO events;
CREATE INDEX events_by_target ON events (target, type);
CREATE INDEX purges ON events (type) WHERE type = 'purge.executed';

DROP TABLE parked;
CREATE TABLE parked (
    event_id TEXT NOT NULL,
    signer   TEXT NOT NULL,
    reason   TEXT NOT NULL,
    target   TEXT,
    due      INTEGER,                  -- instant at which it folds
    PRIMARY KEY (event_id, signer)
) STRICT, WITHOUT ROWID;
CREATE INDEX parked_by_target ON parked (target) WHERE target IS NOT NULL;
CREATE INDEX parked_by_due ON parked (due) WHERE due IS NOT NULL;

-- How often a peer served what was rejected, and what was wrong the last time: rows of `rejected` go, this stays.
CREATE TABLE rejections (
    peer     TEXT    PRIMARY KEY,
    times    INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    event_id TEXT    NOT NULL,
    reason   TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
-- Of peers that were removed, nothing was read.
DELETE FROM rejected WHERE peer NOT IN (SELECT peer FROM checkpoints);
INSERT INTO rejections
    SELECT peer, (SELECT count(*) FROM rejected of WHERE of.peer = r.peer), at, event_id, reason FROM rejected r
    WHERE number = (SELECT max(number) FROM rejected of WHERE of.peer = r.peer);

-- The texts stood somewhere else before, and half the file is free now.
UPDATE state SET scrub = 1;
