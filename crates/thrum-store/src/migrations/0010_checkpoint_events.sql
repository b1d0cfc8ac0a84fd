-- The event at the checkpoint, by which a peer's log without id is known again. Empty where the log has an id.
ALTER TABLE checkpoints ADD COLUMN event_id TEXT NOT NULL DEFAULT '';
