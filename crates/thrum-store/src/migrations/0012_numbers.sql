-- By their place in their origin's log, events are found that are missing, and those that a peer asks for. A row of it is also
-- all that is left to say which event stood on a page that cannot be read any more.
CREATE INDEX events_by_origin ON events (origin_daemon, origin_log, origin_seq);

-- The places whose events a purge took away here, or kept out: nobody asks for them again. Of purges before this table was
-- made, nothing is known here.
CREATE TABLE purged (
    origin TEXT    NOT NULL,
    log    TEXT    NOT NULL,
    first  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    -- By which a row is told from one of that index, where nothing but its page is left.
    what   TEXT    NOT NULL GENERATED ALWAYS AS ('purged') STORED,
    PRIMARY KEY (origin, log, first)
) STRICT, WITHOUT ROWID;
