-- Only what is shown is listed and counted; the whole table need not be looked at for it.
DROP INDEX messages_by_time;
CREATE INDEX messages_by_time ON messages (at, sequence) WHERE deleted_at IS NULL;
