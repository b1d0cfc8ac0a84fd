-- The ids of daemons and logs, some 55 and 16 characters, stood in each event and again in its index entries. Now numbers stand for
-- them there. Numbers have no meaning outside of this database, and are not reused for another id while a row refers to them.
CREATE TABLE daemons (
    number INTEGER PRIMARY KEY,        -- 0, which is no row, stands for the empty id of `received_from` and `signer`
    id     TEXT    NOT NULL UNIQUE,
    -- By which a row is recognised where nothing but its page is left.
    what   TEXT    NOT NULL GENERATED ALWAYS AS ('daemon') STORED
) STRICT;
CREATE TABLE logs (
    number INTEGER PRIMARY KEY,
    origin INTEGER NOT NULL,           -- the daemon that writes the log
    log    TEXT    NOT NULL,           -- empty where the origin names none
    what   TEXT    NOT NULL GENERATED ALWAYS AS ('log') STORED,
    UNIQUE (origin, log)
) STRICT;
CREATE TABLE event_rows (
    sequence   INTEGER PRIMARY KEY,
    event_id   TEXT    NOT NULL,
    signer     INTEGER NOT NULL,       -- the daemon whose signature the event carries; 0 if its origin signs nothing
    type       TEXT    NOT NULL,
    at         INTEGER NOT NULL,       -- nanoseconds since 1970
    log        INTEGER NOT NULL,
    origin_seq INTEGER NOT NULL,       -- 0 where the origin names none
    source     INTEGER NOT NULL,       -- the peer that served it; 0 for our own
    target     TEXT,                   -- the message, session or agent it is about
    body       TEXT    NOT NULL,       -- RFC 8785, without `sequence`
    UNIQUE (event_id, signer)
) STRICT;

INSERT INTO daemons (id) SELECT origin_daemon FROM events UNION SELECT received_from FROM events WHERE received_from <> '';
INSERT INTO logs (origin, log)
    SELECT DISTINCT d.number, e.origin_log FROM events e JOIN daemons d ON d.id = e.origin_daemon ORDER BY d.number, e.origin_log;
INSERT INTO event_rows
    SELECT e.sequence, e.event_id, iif(e.signer = '', 0, d.number), e.type, e.at, l.number, e.origin_seq, coalesce(s.number, 0), e.target, e.body
    FROM events e JOIN daemons d ON d.id = e.origin_daemon JOIN logs l ON l.origin = d.number AND l.log = e.origin_log
         LEFT JOIN daemons s ON s.id = e.received_from AND e.received_from <> ''
    ORDER BY e.sequence;
DROP TABLE events;
CREATE INDEX events_by_target ON event_rows (target, type);
CREATE INDEX purges ON event_rows (type) WHERE type = 'purge.executed';
CREATE INDEX events_long ON event_rows (sequence) WHERE octet_length(body) > 170000;
CREATE INDEX events_by_origin ON event_rows (log, origin_seq);

-- The events with their ids. `log_number` leads to the events of a log by their origin sequences.
CREATE VIEW events AS
    SELECT sequence, event_id, type, at,
           (SELECT d.id FROM logs l JOIN daemons d ON d.number = l.origin WHERE l.number = e.log) AS origin_daemon,
           (SELECT l.log FROM logs l WHERE l.number = e.log) AS origin_log,
           origin_seq,
           coalesce((SELECT d.id FROM daemons d WHERE d.number = e.source), '') AS received_from,
           target, body,
           coalesce((SELECT d.id FROM daemons d WHERE d.number = e.signer), '') AS signer,
           log AS log_number
    FROM event_rows e;

UPDATE state SET scrub = 1;
