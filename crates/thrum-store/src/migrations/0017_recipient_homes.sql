-- Where an agent lives that a message addresses, as far as the message says it; empty where it addresses the name alone. The rows come
-- back when the log is folded again, as the new version of the fold asks.
DROP TABLE audience;
DELETE FROM audience_counts;
CREATE TABLE audience (
    kind     INTEGER NOT NULL,         -- 0 an agent, 1 a role, 2 everyone
    value    TEXT    NOT NULL,
    home     TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    sequence INTEGER NOT NULL,         -- of the message
    PRIMARY KEY (kind, value, home, at, sequence)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER audience_addressed AFTER INSERT ON audience WHEN new.kind > 0 BEGIN
    INSERT INTO audience_counts VALUES (new.kind, new.value, 1) ON CONFLICT DO UPDATE SET total = total + 1;
END;

CREATE TRIGGER audience_withdrawn AFTER DELETE ON audience WHEN old.kind > 0 BEGIN
    UPDATE audience_counts SET total = total - 1 WHERE kind = old.kind AND value = old.value;
END;

-- Part of the projection: when a name was registered at which daemon.
CREATE TABLE residences (
    agent_id TEXT    NOT NULL,
    home     TEXT    NOT NULL,
    since    INTEGER NOT NULL,
    until    INTEGER NOT NULL,         -- when it was cleaned up; the largest number if it was not
    PRIMARY KEY (agent_id, home, until)
) STRICT, WITHOUT ROWID;
