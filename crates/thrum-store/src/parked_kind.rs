//! The reasons for which events are parked, as far as the store distinguishes them.

use rusqlite::{
    ToSql,
    types::{ToSqlOutput, Value},
};

/// The column `kind` of the table `parked`. The numbers are stored and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParkedKind {
    /// The event's type or content is not understood by this version.
    NotUnderstood = 0,
    /// The event's message is not in the log yet.
    MessageMissing = 1,
    /// The event's message is unlikely to arrive: a purge of one daemon's messages, which leaves the events of other
    /// daemons about them, may have removed it. If a message of this id does arrive, the event takes effect.
    MessageMayBePurged = 2,
    /// The event edits or deletes a message of another daemon, and only the author's daemon may do so. If a creation of
    /// the message by the event's own daemon arrives and takes precedence, the event takes effect.
    NotAllowed = 3,
    /// The event is a purge that is due within [`PURGE_AHEAD`](thrum_core::limits::PURGE_AHEAD). Until it is folded,
    /// the projections of peers may differ.
    PurgeAhead = 4,
    /// The event is a purge that is due later than [`PURGE_AHEAD`](thrum_core::limits::PURGE_AHEAD) from now.
    PurgeFarAhead = 5,
}

impl ToSql for ParkedKind {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Integer(*self as i64)))
    }
}
