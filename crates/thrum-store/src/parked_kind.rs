//! The reasons for which events are parked, as far as the store distinguishes them.

use rusqlite::{
    ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, Value, ValueRef},
};

/// The column `kind` of the table `parked`. The numbers are stored and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParkedKind {
    /// The event's type or content is not understood by this version.
    NotUnderstood = 0,
    /// The event's message is not in the log yet.
    MessageMissing = 1,
    /// The event's message is unlikely to arrive: a purge by a daemon that signs nothing, which removes only that
    /// daemon's own events, may have removed the message. If a message of this id does arrive, the event takes effect.
    MessageMayBePurged = 2,
    /// The event edits or deletes a message, and its daemon is neither the one that wrote the message nor the one to
    /// which the author moved. It takes effect if the author turns out to have moved to its daemon, or if a creation of
    /// the message by its daemon takes precedence.
    NotAllowed = 3,
    /// The event is a purge that is due within [`PURGE_AHEAD`](thrum_core::limits::PURGE_AHEAD). Until it is folded,
    /// the projections of peers may differ.
    PurgeAhead = 4,
    /// The event is a purge that is due later than [`PURGE_AHEAD`](thrum_core::limits::PURGE_AHEAD) from now.
    PurgeFarAhead = 5,
}

/// The kinds that [wait](ParkedKind::waits), as a list in SQL.
pub(crate) const WAITING_KINDS: &str = "(0, 1, 4, 5)";

// Each kind is at the index that is its number.
thrum_core::list_variants!(
    ParkedKind: NotUnderstood, MessageMissing, MessageMayBePurged, NotAllowed, PurgeAhead, PurgeFarAhead
);

impl ParkedKind {
    /// Returns `true` if an event of this kind is expected to take effect later, so that it counts as waiting. Such a
    /// kind is also in [`WAITING_KINDS`].
    pub(crate) const fn waits(self) -> bool {
        match self {
            Self::NotUnderstood | Self::MessageMissing | Self::PurgeAhead | Self::PurgeFarAhead => true,
            Self::MessageMayBePurged | Self::NotAllowed => false,
        }
    }
}

impl ToSql for ParkedKind {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Integer(*self as i64)))
    }
}

impl FromSql for ParkedKind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = value.as_i64()?;
        let kind = usize::try_from(number).ok().and_then(|number| Self::ALL.get(number));
        kind.copied().ok_or(FromSqlError::OutOfRange(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_in_sql_contains_the_kinds_that_wait() {
        for (number, kind) in ParkedKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number, "{kind:?}");
        }
        let waiting: Vec<String> =
            ParkedKind::ALL.into_iter().filter(|kind| kind.waits()).map(|kind| (kind as i64).to_string()).collect();
        assert_eq!(WAITING_KINDS, format!("({})", waiting.join(", ")));
    }
}
