-- Part of the projection: the highest cutoff of a purge, for everything (origin empty), and for what one origin wrote that signs nothing.
-- It is worked out from the purges in the log when that is folded again, as the new version of the fold asks.
DROP TABLE purge;
CREATE TABLE cutoffs (
    origin TEXT PRIMARY KEY,
    cutoff INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
