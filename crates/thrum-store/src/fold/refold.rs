//! Folds events of the log again after others have left it: all events of a message, or all work contexts and
//! presences.
//!
//! When a purge or the removal of a peer removes some of a message's events, the rest may have a different result:
//! another creation counts, or other edits. The message's rows are not patched. All of them are deleted, and its events
//! are passed to their rules again (`rules.rs`).
//!
//! Example: of two creations of `msg_1` the one that counts is purged, together with the receipts of its origin. The
//! other creation and an edit by its author remain: the creation is folded first, then the edit. If the edit precedes
//! the creation in the log, it moves behind it.

use std::sync::LazyLock;

use thrum_core::{
    Event, Payload, bounds,
    payload::{EventType, Subject},
};

use super::{events, message, pending, rank::precedence_of, rules};
use crate::{StoreError, Tx};

/// Selects the events about a message other than those that create it.
static ABOUT_A_MESSAGE: LazyLock<String> = LazyLock::new(|| {
    let is_about = |known: &&EventType| known.target == Some(Subject::Message) && known.kind != "message.create";
    let kinds: Vec<String> = Payload::TYPES.iter().filter(is_about).map(|known| format!("'{}'", known.kind)).collect();
    format!("target = ?1 AND type IN ({})", kinds.join(", "))
});

/// Folds a message and all its events again from the remaining log.
pub(crate) fn message(tx: &mut Tx<'_>, message_id: &str) -> Result<(), StoreError> {
    message::withdraw(tx, message_id)?;
    for table in ["receipts", "revisions", "wakes"] {
        tx.conn.prepare_cached(&format!("DELETE FROM {table} WHERE message_id = ?1"))?.execute([message_id])?;
    }
    tx.conn.prepare_cached("DELETE FROM parked WHERE target = ?1")?.execute([message_id])?;
    pending::gone(tx.conn, message_id)?;
    let mut counts: Option<(Event, u64)> = None;
    let mut created: Option<u64> = None;
    events::each(tx, "target = ?1 AND type = 'message.create'", message_id, |event, sequence| {
        // A creation that cannot be folded is parked and stays so.
        if Payload::read(&event.kind, &event.body).is_ok_and(|payload| !bounds::oversized_id(&payload)) {
            created = Some(created.map_or(sequence, |first| first.min(sequence)));
            if counts
                .as_ref()
                .is_none_or(|(best, _)| precedence_of(message_id, &event) < precedence_of(message_id, best))
            {
                counts = Some((event, sequence));
            }
        }
        Ok(())
    })?;
    if let Some((event, sequence)) = counts {
        rules::apply(tx, &event, sequence, Payload::read(&event.kind, &event.body))?;
    }
    for mut sequence in events::sequences(tx, &ABOUT_A_MESSAGE, message_id)? {
        let event = events::at(tx, sequence)?;
        // Move the event behind the creation with the lowest sequence, not behind the one that counts. Otherwise every
        // further creation that takes precedence would move all these events once more, here and at every daemon to
        // which they are served again.
        if EventType::waits_for_message(&event.kind) && sequence < created.unwrap_or_default() && !tx.rebuilds {
            sequence = message::move_behind(tx, &event, sequence)?;
        }
        rules::apply(tx, &event, sequence, Payload::read(&event.kind, &event.body))?;
    }
    Ok(())
}

/// Folds the work contexts and presences in the next rows of the log again. This is idempotent, so no rows are removed
/// first. Returns the position reached; `None` if no rows were left.
pub(super) fn contexts(tx: &mut Tx<'_>, after: i64) -> Result<Option<i64>, StoreError> {
    let rows: Vec<(u64, String)> = {
        let mut statement = tx
            .conn
            .prepare_cached("SELECT sequence, type FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?2")?;
        statement.query_map((after, tx.room.rows()), |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?
    };
    let (most, mut found, mut looked_at, mut last) = (tx.room.piece(), 0, 0, None);
    for (sequence, kind) in &rows {
        if found == most {
            break;
        }
        (last, looked_at) = (i64::try_from(*sequence).ok(), looked_at + 1);
        if matches!(kind.as_str(), "agent.update" | "agent.presence") {
            found += 1;
            let event = events::at(tx, *sequence)?;
            rules::apply(tx, &event, *sequence, Payload::read(&event.kind, &event.body))?;
        }
    }
    tx.room.spend_looking(found, looked_at);
    Ok(last)
}
