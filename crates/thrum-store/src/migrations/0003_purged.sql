-- How much of what was taken a purge has taken away again.
ALTER TABLE heads ADD COLUMN purged INTEGER NOT NULL DEFAULT 0;
ALTER TABLE heads ADD COLUMN purged_sum BLOB NOT NULL
    DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000';

-- Whether purged text may still be in a free corner of the file.
ALTER TABLE state ADD COLUMN scrub INTEGER NOT NULL DEFAULT 0;
