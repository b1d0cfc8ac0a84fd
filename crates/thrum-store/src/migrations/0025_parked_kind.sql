-- Why an event is parked, as a number (`ParkedKind`). Former formats have only the sentence in `reason`.
ALTER TABLE parked ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
UPDATE parked SET kind = CASE reason
    WHEN 'its message is not here' THEN 1
    WHEN 'its message is not here, and older than a purge by a daemon that signs nothing' THEN 2
    WHEN 'it edits a message of another daemon' THEN 3
    WHEN 'it deletes a message of another daemon' THEN 3
    WHEN 'it lies in the future' THEN 4
    WHEN 'it lies more than a day in the future' THEN 5
    ELSE 0
END;
