-- The daemon whose agents have mailboxes here: only at its home a mailbox is read. The projection is made anew where it is another.
ALTER TABLE state ADD COLUMN mailboxes_of TEXT NOT NULL DEFAULT '';

-- Who lives here, of all or of a role.
CREATE INDEX agents_by_home ON agents (home, role);

-- When an agent last read something, which shows that it is alive.
CREATE INDEX receipts_by_reader ON receipts (agent_id, origin, read_at) WHERE read_at IS NOT NULL;

-- Asked of mailboxes that are not here any more.
DROP INDEX mailbox_unread_by_message;
