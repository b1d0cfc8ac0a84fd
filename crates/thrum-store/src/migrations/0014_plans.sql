-- A clean-up takes away the contexts of one agent, however many others have some.
CREATE INDEX contexts_by_agent ON contexts (agent_id, home);

-- Events that may be too long for the journal of a Go daemon: LEGACY_LONG_BYTES of thrum-core. Few are.
CREATE INDEX events_long ON events (sequence) WHERE octet_length(body) > 170000;
