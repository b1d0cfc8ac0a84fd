//! Messages, their edits and deletions.
//!
//! A message, the events about it and the purge that removes it may arrive in any order. Therefore edits, deletions and
//! receipts are stored under the message's id even while the message is missing, and the state of the message follows
//! from all of them together. A rule here records what its event states and, if the message is present, updates the
//! message's row. `refold.rs` rebuilds a message from all its events; `receipt.rs` folds receipts.
//!
//! Example: an edit by the author's daemon arrives before its message. The edit is counted in `revisions` and parked.
//! When the message arrives, it has the edited text at once, and [`release`] removes the edit from the parked events.

use std::cmp::Ordering;

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{
    Event, Payload, Timestamp,
    audience::Audience,
    key,
    payload::{EventType, MessageCreate, MessageDelete, MessageEdit},
};

use super::{
    audience::{self, AudienceKind},
    events, former,
    message_row::{self, MessageRow, held},
    parked::{self, Folded, Parking},
    pending,
    rank::{At, precedence},
    receipt::read_at_home,
    residence,
};
use crate::{
    StoreError, Tx, arrival,
    cutoff::{self, Aged},
};

/// Folds the creation of a message. Of several creations with the same id, one counts: the creation by the daemon that
/// made the id, otherwise the first signed one, otherwise the first one (`rank.rs`). The others have no effect.
///
/// Edits, deletions and receipts are stored under the message's id (`receipt.rs`, [`edit`], [`delete`]). So a creation
/// that takes precedence replaces the rows of the previous one, but none of these.
pub(super) fn create(tx: &mut Tx<'_>, at: At<'_>, body: &MessageCreate) -> Result<Folded, StoreError> {
    let Some(known) = held(tx.conn, &body.message_id)? else {
        insert(tx, at, body)?;
        // Events that wait for a message are parked, and a lookup in `parked` is much cheaper than one in the log.
        if tx.conn.prepare_cached("SELECT 1 FROM parked WHERE target = ?1")?.exists([&body.message_id])? {
            pending::arrived(tx.conn, &body.message_id, at.sequence)?;
            return Ok(Folded::Awaited);
        }
        return Ok(Folded::Done);
    };
    let before = precedence(&body.message_id, &known.origin, (known.at, &known.event_id));
    if precedence(&body.message_id, &at.event.origin, at.rank()) < before {
        remove(tx, &known)?;
        insert(tx, at, body)?;
        if known.origin != at.event.origin {
            recheck_changes(tx, &body.message_id)?;
        }
    }
    Ok(Folded::Done)
}

/// Maximum number of edits, and of deletions, that are checked again when a message turns out to belong to another
/// daemon. Any others keep their parked state until the projection is rebuilt; the state of the message does not depend
/// on the list of parked events.
const MOST_RECHECKED: usize = 64;

/// Checks again which daemons may edit and delete a message: parks its edits and deletions by other daemons and unparks
/// the rest, at most [`MOST_RECHECKED`] of each type.
fn recheck_changes(tx: &Tx<'_>, message_id: &str) -> Result<(), StoreError> {
    let Some(message) = held(tx.conn, message_id)? else { return Ok(()) };
    for (kind, foreign) in FOREIGN_CHANGES {
        let mut statement = tx.conn.prepare_cached(
            "SELECT sequence FROM events WHERE target = ?1 AND type = ?2 AND sequence <= ?3 ORDER BY sequence LIMIT ?4",
        )?;
        let sequences: Vec<u64> = statement
            .query_map((message_id, kind, tx.frontier, MOST_RECHECKED), |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for sequence in sequences {
            let event = events::at(tx, sequence)?;
            if message.is_of(&event.origin) {
                parked::unpark(tx, &event)?;
            } else {
                parked::park(tx, &event, &Parking::not_allowed(foreign, message_id))?;
            }
        }
    }
    Ok(())
}

/// Rebuilds the rows of a message from the creation that counts. Needed when the author has moved, which changes the
/// daemons that may edit and delete the message. A message that a purge is about to remove is left alone, so that it
/// does not enter any mailbox again.
pub(super) fn replace(tx: &mut Tx<'_>, message_id: &str) -> Result<(), StoreError> {
    let Some(known) = held(tx.conn, message_id)? else { return Ok(()) };
    let event = events::at(tx, known.sequence)?;
    if pending::is_sweeping(tx.conn)? && cutoff::is_purged(tx.conn, Aged::of(&event, Some(message_id)), tx.cutoff()?)? {
        return Ok(());
    }
    if let Ok(Payload::MessageCreate(body)) = Payload::read(&event.kind, &event.body) {
        remove(tx, &known)?;
        insert(tx, At { event: &event, sequence: known.sequence }, &body)?;
    }
    Ok(())
}

/// Removes the rows of a message, if it is present.
pub(crate) fn withdraw(tx: &mut Tx<'_>, message_id: &str) -> Result<(), StoreError> {
    match held(tx.conn, message_id)? {
        Some(message) => remove(tx, &message),
        None => Ok(()),
    }
}

/// Removes the rows of a message, if the creation with this sequence is the one that counts.
pub(super) fn withdraw_creation(tx: &mut Tx<'_>, message_id: &str, sequence: u64) -> Result<(), StoreError> {
    match held(tx.conn, message_id)? {
        Some(message) if message.sequence == sequence => remove(tx, &message),
        _ => Ok(()),
    }
}

/// Removes the row that an event about a message shares with other events by the same daemon, because the event leaves
/// the log: all receipts or wake-ups of one agent, or all edits. If others of them stay, the caller folds them again.
pub(super) fn withdraw_reference(conn: &Connection, event: &Event) -> Result<(), StoreError> {
    let Ok(payload) = Payload::read(&event.kind, &event.body) else { return Ok(()) };
    match payload {
        Payload::MessageReceipt(body) => {
            let mut statement =
                conn.prepare_cached("DELETE FROM receipts WHERE message_id = ?1 AND agent_id = ?2 AND origin = ?3")?;
            statement.execute((&body.message_id, &body.agent_id, &event.origin))?;
        }
        Payload::AgentWoken(body) => {
            let mut statement =
                conn.prepare_cached("DELETE FROM wakes WHERE message_id = ?1 AND agent_id = ?2 AND origin = ?3")?;
            statement.execute((&body.message_id, &body.agent_id, &event.origin))?;
        }
        Payload::MessageEdit(body) => {
            let mut statement =
                conn.prepare_cached("DELETE FROM revisions WHERE message_id = ?1 AND kind = ?2 AND origin = ?3")?;
            statement.execute((&body.message_id, EDIT, &event.origin))?;
        }
        // Deletions stay in the log, and so do their rows. The other types are not about a message, or create it.
        Payload::MessageDelete(_)
        | Payload::MessageCreate(_)
        | Payload::AgentRegister(_)
        | Payload::AgentUpdate(_)
        | Payload::AgentCleanup(_)
        | Payload::AgentPresence(_)
        | Payload::SessionStart(_)
        | Payload::SessionEnd(_)
        | Payload::PurgeExecuted(_)
        | Payload::GroupCreate(_)
        | Payload::GroupUpdate(_)
        | Payload::GroupDelete(_)
        | Payload::GroupMemberAdd(_)
        | Payload::GroupMemberRemove(_)
        | Payload::FileClaim(_)
        | Payload::FileRelease(_)
        | Payload::Unknown => {}
    }
    Ok(())
}

/// Returns `true` if an event that waited for a message stays parked, because it is an edit or deletion by another
/// daemon. In that case, also stores this as the new reason.
pub(super) fn stays_parked(tx: &Tx<'_>, event: &Event, message_id: &str) -> Result<bool, StoreError> {
    let Some((_, reason)) = FOREIGN_CHANGES.into_iter().find(|(kind, _)| *kind == event.kind) else { return Ok(false) };
    let is_foreign = held(tx.conn, message_id)?.is_some_and(|message| !message.is_of(&event.origin));
    if is_foreign {
        parked::park(tx, event, &Parking::not_allowed(reason, message_id))?;
    }
    Ok(is_foreign)
}

/// Unparks the next events that arrived before their message, and moves them behind it in the log. Edits and deletions
/// by other daemons are moved, too, but stay parked. Returns the position reached, if more may be left.
pub(super) fn release(
    tx: &mut Tx<'_>,
    message_id: &str,
    after: i64,
    upto: i64,
) -> Result<Option<(i64, i64)>, StoreError> {
    // A purge may have removed the message meanwhile; then the events wait again.
    if !message_row::is_here(tx.conn, message_id)? {
        tx.room.spend(0);
        return Ok(None);
    }
    let mut sequences: Vec<u64> = Vec::new();
    let most = tx.room.piece();
    for EventType { kind, .. } in Payload::TYPES.iter().filter(|known| known.waits_for_message) {
        let mut statement = tx.conn.prepare_cached(
            "SELECT sequence FROM events WHERE target = ?1 AND type = ?2 AND sequence > ?3 AND sequence < ?4 ORDER BY sequence LIMIT ?5",
        )?;
        for sequence in statement.query_map((message_id, kind, after, upto, most), |row| row.get(0))? {
            sequences.push(sequence?);
        }
    }
    sequences.sort_unstable();
    sequences.truncate(most);
    for sequence in &sequences {
        let event = events::at(tx, *sequence)?;
        if !stays_parked(tx, &event, message_id)? {
            parked::unpark(tx, &event)?;
        }
        if !tx.rebuilds {
            move_behind(tx, &event, *sequence)?;
        }
    }
    tx.room.spend(sequences.len());
    Ok(sequences
        .last()
        .filter(|_| sequences.len() == most)
        .map(|last| (i64::try_from(*last).unwrap_or(i64::MAX), upto)))
}

/// Moves an event about a message to a new sequence at the end of the log, and updates the reference to it in the
/// message's row.
pub(super) fn move_behind(tx: &mut Tx<'_>, event: &Event, sequence: u64) -> Result<u64, StoreError> {
    let end = tx.move_to_end(sequence)?;
    if let Ok(Payload::MessageEdit(body)) = Payload::read(&event.kind, &event.body) {
        tx.conn
            .prepare_cached("UPDATE messages SET edit_sequence = ?3 WHERE message_id = ?1 AND edit_sequence = ?2")?
            .execute((&body.message_id, sequence, end))?;
    }
    Ok(end)
}

fn insert(tx: &mut Tx<'_>, at: At<'_>, body: &MessageCreate) -> Result<(), StoreError> {
    let (conn, event, time) = (tx.conn, at.event, at.event.at.nanos());
    let home = former::live(conn, &body.agent_id, &event.origin, event.at)?;
    let shown = arrival::shown(conn, at.sequence, event.at)?.nanos();
    conn.prepare_cached(
        "INSERT INTO messages (sequence, message_id, at, event_id, origin, home, agent_id, session_id, thread_id, reply_to, shown_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute((
        at.sequence,
        &body.message_id,
        time,
        &event.id,
        &event.origin,
        &home,
        &body.agent_id,
        &body.session_id,
        &body.thread_id,
        body.reply_to(),
        shown,
    ))?;
    tx.progress.counters.messages += 1;
    show(tx, at, body, &home, shown)?;
    if conn.prepare_cached("SELECT 1 FROM revisions WHERE message_id = ?1")?.exists([&body.message_id])?
        && let Some(message) = held(conn, &body.message_id)?
    {
        revise(tx, &message)?;
    }
    Ok(())
}

/// Adds a message to the indexes by which it is found: the table `audience`, and the mailboxes of those addressees that
/// are agents of this daemon. Agents of other daemons read their mail at those daemons.
fn show(tx: &Tx<'_>, at: At<'_>, body: &MessageCreate, author_home: &str, shown: i64) -> Result<(), StoreError> {
    let (conn, here, time) = (tx.conn, tx.home(), at.event.at.nanos());
    let audience = Audience::of(body);
    for (kind, value, home) in audience::rows(body, &audience) {
        let row = (kind, value, home, time, at.sequence);
        conn.prepare_cached("INSERT OR IGNORE INTO audience VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(row)?;
    }
    // Receipts may have arrived before the message.
    let is_read = conn
        .prepare_cached("SELECT 1 FROM receipts WHERE message_id = ?1 AND read_at IS NOT NULL")?
        .exists([&body.message_id])?;
    let mut read_by =
        conn.prepare_cached(&format!("SELECT 1 FROM agents a WHERE a.owner = ?1 AND {}", read_at_home("?2", "?3")))?;
    let mut put = conn.prepare_cached("INSERT OR IGNORE INTO mailbox VALUES (?1, ?2, ?3, ?4)")?;
    let mut deliver = |owner: i64, is_own: bool| -> Result<(), StoreError> {
        let unread = !(is_own || is_read && read_by.exists((owner, &body.message_id, time))?);
        put.execute((owner, shown, at.sequence, unread))?;
        Ok(())
    };
    // A named agent gets the message if the name means that agent (`residence.rs`). An agent that is addressed by its
    // role, or because the message is for everyone, gets it only if it was registered at the time and is not the
    // author. The author's own copy of mail to itself is stored as read.
    let author = if author_home == here { body.agent_id.as_str() } else { "" };
    let mut direct = conn.prepare_cached(&format!(
        "SELECT owner FROM agents WHERE agent_id = ?1 AND home = ?2
         AND EXISTS (SELECT 1 FROM audience a WHERE a.kind = {} AND a.value = ?1 AND a.at = ?3 AND a.sequence = ?4 AND {})",
        AudienceKind::Agent,
        residence::is_for("?1", "?2")
    ))?;
    for agent in &audience.agents {
        let owner: Option<i64> = direct.query_row((agent, here, time, at.sequence), |row| row.get(0)).optional()?;
        if let Some(owner) = owner {
            deliver(owner, *agent == author)?;
        }
    }
    let role = if audience.everyone { "" } else { " AND role = ?4" };
    let sql = format!("SELECT owner FROM agents WHERE home = ?1 AND first_at <= ?2 AND agent_id <> ?3{role}");
    let values: &[&str] = if audience.everyone { &[""] } else { &audience.roles };
    for value in values {
        let mut statement = conn.prepare_cached(&sql)?;
        let owners: Vec<i64> = if audience.everyone {
            statement.query_map((here, time, author), |row| row.get(0))?.collect::<Result<_, _>>()?
        } else {
            statement.query_map((here, time, author, value), |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        for owner in owners {
            deliver(owner, false)?;
        }
    }
    Ok(())
}

/// Removes a message from the table `audience` and the mailboxes, but keeps its own row.
fn hide(tx: &Tx<'_>, message: &MessageRow) -> Result<(), StoreError> {
    let (conn, sequence, time) = (tx.conn, message.sequence, message.at.nanos());
    conn.prepare_cached(
        "DELETE FROM mailbox WHERE at = ?1 AND sequence = ?2 AND owner IN (SELECT owner FROM agents WHERE home = ?3)",
    )?
    .execute((message.shown.nanos(), sequence, tx.home()))?;
    let body: Option<String> = conn
        .prepare_cached("SELECT body FROM events WHERE sequence = ?1")?
        .query_row([sequence], |row| row.get(0))
        .optional()?;
    let created = body.and_then(|body| Payload::read("message.create", &body).ok());
    if let Some(Payload::MessageCreate(created)) = created {
        for (kind, value, home) in audience::rows(&created, &Audience::of(&created)) {
            conn.prepare_cached(
                "DELETE FROM audience WHERE kind = ?1 AND value = ?2 AND home = ?3 AND at = ?4 AND sequence = ?5",
            )?
            .execute((kind, value, home, time, sequence))?;
        }
    }
    Ok(())
}

/// Removes the rows of a message. The rows of its edits, deletions and receipts stay.
fn remove(tx: &mut Tx<'_>, message: &MessageRow) -> Result<(), StoreError> {
    hide(tx, message)?;
    let removed = tx.conn.prepare_cached("DELETE FROM messages WHERE sequence = ?1")?.execute([message.sequence])?;
    tx.progress.counters.messages -= removed as u64;
    Ok(())
}

const EDIT: i64 = 0;
const DELETION: i64 = 1;

/// The combined result of edits, or of deletions: their number, and the one that counts.
struct Revision {
    origin: String,
    count: u64,
    rank: (Timestamp, String),
    reason: Option<String>,
}

/// Records an edit or a deletion by any daemon, whether or not the message is present. Of one daemon's edits the last
/// one counts, of its deletions the first one.
fn record_revision(
    conn: &Connection,
    kind: i64,
    message_id: &str,
    at: At<'_>,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let side = if kind == EDIT { ">" } else { "<" };
    let counts = format!("(excluded.at, excluded.event_id) {side} (at, event_id)");
    conn.prepare_cached(&format!(
        "INSERT INTO revisions VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET count = count + 1,
             at = iif({counts}, excluded.at, at), event_id = iif({counts}, excluded.event_id, event_id),
             reason = iif({counts}, excluded.reason, reason)"
    ))?
    .execute((message_id, kind, &at.event.origin, at.event.at.nanos(), &at.event.id, reason))?;
    Ok(())
}

/// The permitted edits or deletions of a message: their number, and the one that counts.
fn revision(conn: &Connection, kind: i64, message: &MessageRow) -> Result<Option<Revision>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT origin, count, at, event_id, reason FROM revisions WHERE message_id = ?1 AND kind = ?2 AND origin IN (?3, ?4)",
    )?;
    let revisions = statement.query_map((&message.message_id, kind, &message.origin, &message.home), |row| {
        let rank = (Timestamp::from_nanos(row.get(2)?), row.get(3)?);
        Ok(Revision { origin: row.get(0)?, count: row.get(1)?, rank, reason: row.get(4)? })
    })?;
    let mut counts: Option<Revision> = None;
    for revision in revisions {
        let revision = revision?;
        let count = revision.count + counts.as_ref().map_or(0, |other| other.count);
        let wins = counts.as_ref().is_none_or(|other| match revision.rank.cmp(&other.rank) {
            // If two revisions have the same rank, one is by the author's daemon, which signs nothing, and the other by
            // the daemon to which the author moved. The signed one counts.
            Ordering::Equal => key::is_signed_origin(&revision.origin),
            found => (found == Ordering::Greater) == (kind == EDIT),
        });
        counts =
            if wins { Some(Revision { count, ..revision }) } else { counts.map(|other| Revision { count, ..other }) };
    }
    Ok(counts)
}

/// Updates the row of a message from its edits and deletions.
fn revise(tx: &Tx<'_>, message: &MessageRow) -> Result<(), StoreError> {
    let conn = tx.conn;
    if let Some(edit) = revision(conn, EDIT, message)? {
        let signer = if key::is_signed_origin(&edit.origin) { edit.origin.as_str() } else { "" };
        conn.prepare_cached(
            "UPDATE messages SET edits = ?2, edited_at = ?3, edit_event = ?4,
                 edit_sequence = (SELECT sequence FROM events WHERE event_id = ?4 AND signer = ?5) WHERE sequence = ?1",
        )?
        .execute((message.sequence, edit.count, edit.rank.0.nanos(), &edit.rank.1, signer))?;
    }
    if let Some(deletion) = revision(conn, DELETION, message)?
        && message.deletion.as_ref() != Some(&deletion.rank)
    {
        if message.deletion.is_none() {
            hide(tx, message)?;
        }
        conn.prepare_cached(
            "UPDATE messages SET deleted_at = ?2, delete_event = ?3, delete_reason = ?4 WHERE sequence = ?1",
        )?
        .execute((message.sequence, deletion.rank.0.nanos(), &deletion.rank.1, &deletion.reason))?;
    }
    Ok(())
}

const FOREIGN_EDIT: &str = "it edits a message of another daemon";
const FOREIGN_DELETION: &str = "it deletes a message of another daemon";
/// The types of events that only the author's daemon, or the one to which the author moved, may write, with the reasons
/// for parking them if another daemon wrote them.
const FOREIGN_CHANGES: [(&str, &str); 2] = [("message.edit", FOREIGN_EDIT), ("message.delete", FOREIGN_DELETION)];

/// Folds an edit. Edits by the author's daemon, or by the one to which the author moved, count, and the last one
/// determines the text.
pub(super) fn edit(tx: &Tx<'_>, at: At<'_>, body: &MessageEdit) -> Result<Folded, StoreError> {
    record_revision(tx.conn, EDIT, &body.message_id, at, None)?;
    let Some(message) = held(tx.conn, &body.message_id)? else {
        return parked::waits_for_message(tx, at, &body.message_id);
    };
    if !message.is_of(&at.event.origin) {
        return Ok(Parking::not_allowed(FOREIGN_EDIT, &body.message_id).into());
    }
    revise(tx, &message)?;
    Ok(Folded::Done)
}

/// Folds a deletion. A deletion by the author's daemon, or by the one to which the author moved, is permanent; the time
/// and reason of the first one are shown.
pub(super) fn delete(tx: &Tx<'_>, at: At<'_>, body: &MessageDelete) -> Result<Folded, StoreError> {
    record_revision(tx.conn, DELETION, &body.message_id, at, body.reason.as_deref())?;
    let Some(message) = held(tx.conn, &body.message_id)? else {
        if cutoff::is_gone(tx.conn, &body.message_id)? {
            return Ok(Folded::Done);
        }
        return parked::waits_for_message(tx, at, &body.message_id);
    };
    if !message.is_of(&at.event.origin) {
        return Ok(Parking::not_allowed(FOREIGN_DELETION, &body.message_id).into());
    }
    revise(tx, &message)?;
    Ok(Folded::Done)
}
