-- When a person last gave an agent a prompt, as its home says. Filled when the log is folded again.
ALTER TABLE presences ADD COLUMN person_at INTEGER NOT NULL DEFAULT 0;
