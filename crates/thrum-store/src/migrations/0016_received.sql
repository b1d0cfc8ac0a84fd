-- Local: how much of what each peer served is kept, by who wrote it; the database itself keeps it.
CREATE TABLE received (
    peer   TEXT    NOT NULL,
    origin TEXT    NOT NULL,
    events INTEGER NOT NULL,
    bytes  INTEGER NOT NULL,
    -- By which a row is told from one of the index over places in logs, where nothing but its page is left.
    what   TEXT    NOT NULL GENERATED ALWAYS AS ('received') STORED,
    PRIMARY KEY (peer, origin)
) STRICT, WITHOUT ROWID;
INSERT INTO received
    SELECT received_from, origin_daemon, count(*), sum(octet_length(body)) FROM events WHERE received_from <> '' GROUP BY 1, 2;

CREATE TRIGGER event_received AFTER INSERT ON events WHEN new.received_from <> '' BEGIN
    INSERT INTO received VALUES (new.received_from, new.origin_daemon, 1, octet_length(new.body))
    ON CONFLICT DO UPDATE SET events = events + 1, bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER event_gone AFTER DELETE ON events WHEN old.received_from <> '' BEGIN
    UPDATE received SET events = events - 1, bytes = bytes - octet_length(old.body)
    WHERE peer = old.received_from AND origin = old.origin_daemon;
    DELETE FROM received WHERE peer = old.received_from AND origin = old.origin_daemon AND events <= 0;
END;

-- Local: removed peers whose events are still to go, up to which row that is done, and whether all is folded again at the end.
CREATE TABLE forgetting (
    peer   TEXT    PRIMARY KEY,
    after  INTEGER NOT NULL,
    refold INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
