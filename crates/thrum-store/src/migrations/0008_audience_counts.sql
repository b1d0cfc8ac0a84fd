-- How many messages were for everyone and for each role, which the team's view tells; kept as the counts of mailboxes are.
CREATE TABLE audience_counts (
    kind  INTEGER NOT NULL,
    value TEXT    NOT NULL,
    total INTEGER NOT NULL,
    PRIMARY KEY (kind, value)
) STRICT, WITHOUT ROWID;
INSERT INTO audience_counts SELECT kind, value, count(*) FROM audience WHERE kind > 0 GROUP BY kind, value;

CREATE TRIGGER audience_addressed AFTER INSERT ON audience WHEN new.kind > 0 BEGIN
    INSERT INTO audience_counts VALUES (new.kind, new.value, 1) ON CONFLICT DO UPDATE SET total = total + 1;
END;

CREATE TRIGGER audience_withdrawn AFTER DELETE ON audience WHEN old.kind > 0 BEGIN
    UPDATE audience_counts SET total = total - 1 WHERE kind = old.kind AND value = old.value;
END;
