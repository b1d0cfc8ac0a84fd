//! The row of a message in the projection, as the rules read it.
//!
//! Events about a message take effect only if the message is present. Its row determines the daemons that may change
//! it: the one that wrote it, and the one to which its author moved.

use rusqlite::{Connection, OptionalExtension};
use thrum_core::Timestamp;

use crate::StoreError;

/// The data that the rules need about a message.
pub(super) struct MessageRow {
    pub(super) message_id: String,
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    pub(super) shown: Timestamp,
    pub(super) event_id: String,
    pub(super) origin: String,
    pub(super) home: String,
    pub(super) deletion: Option<(Timestamp, String)>,
}

impl MessageRow {
    /// Returns `true` if a daemon may edit and delete the message: the daemon that wrote it, or the one to which its
    /// author moved.
    pub(super) fn is_of(&self, daemon: &str) -> bool {
        self.origin == daemon || self.home == daemon
    }
}

/// Returns the row of a message, if it is present.
pub(super) fn held(conn: &Connection, message_id: &str) -> Result<Option<MessageRow>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT sequence, at, event_id, origin, home, deleted_at, delete_event, shown_at FROM messages WHERE message_id = ?1",
    )?;
    let found = statement.query_row([message_id], |row| {
        let (deleted_at, delete_event): (Option<i64>, Option<String>) = (row.get(5)?, row.get(6)?);
        Ok(MessageRow {
            message_id: message_id.to_owned(),
            sequence: row.get(0)?,
            at: Timestamp::from_nanos(row.get(1)?),
            shown: Timestamp::from_nanos(row.get(7)?),
            event_id: row.get(2)?,
            origin: row.get(3)?,
            home: row.get(4)?,
            deletion: deleted_at.map(Timestamp::from_nanos).zip(delete_event),
        })
    });
    Ok(found.optional()?)
}

/// Returns `true` if a message of this id is present.
pub(super) fn is_here(conn: &Connection, message_id: &str) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM messages WHERE message_id = ?1")?.exists([message_id])?)
}
