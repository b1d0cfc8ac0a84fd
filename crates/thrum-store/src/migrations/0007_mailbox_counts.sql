-- How much each mailbox holds, kept by the database itself: counting a hundred thousand rows takes longer than all the rest of
-- showing an inbox. No part of the projection's digest, which looks at the rows.
CREATE TABLE mailbox_counts (
    owner  INTEGER PRIMARY KEY,
    total  INTEGER NOT NULL,
    unread INTEGER NOT NULL
) STRICT;
INSERT INTO mailbox_counts SELECT owner, count(*), sum(unread) FROM mailbox GROUP BY owner;

CREATE TRIGGER mailbox_delivered AFTER INSERT ON mailbox BEGIN
    INSERT INTO mailbox_counts VALUES (new.owner, 1, new.unread)
    ON CONFLICT DO UPDATE SET total = total + 1, unread = unread + excluded.unread;
END;

CREATE TRIGGER mailbox_read AFTER UPDATE OF unread ON mailbox WHEN old.unread <> new.unread BEGIN
    UPDATE mailbox_counts SET unread = unread + new.unread - old.unread WHERE owner = new.owner;
END;

CREATE TRIGGER mailbox_withdrawn AFTER DELETE ON mailbox BEGIN
    UPDATE mailbox_counts SET total = total - 1, unread = unread - old.unread WHERE owner = old.owner;
END;
