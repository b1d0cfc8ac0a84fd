-- The sessions of an agent grow in number, the open ones do not.
CREATE INDEX sessions_open ON sessions (agent_id, home, started_at) WHERE ended_at IS NULL;
