//! Messages, their edits, deletions and receipts.

use std::cmp::Ordering;

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{
    Event, Payload, Stamp, bounds, key,
    payload::{MessageCreate, MessageDelete, MessageEdit, MessageReceipt, ReceiptType},
};

use super::{At, Audience, Claim, Folded, former, pending, purge, residence};
use crate::{StoreError, Tx, arrival};

/// What the rules need of a message that is here.
struct Held {
    message_id: String,
    sequence: u64,
    at: Stamp,
    shown: Stamp,
    event_id: String,
    origin: String,
    home: String,
    deletion: Option<(Stamp, String)>,
}

impl Held {
    /// Whether a daemon may edit and delete it: the one that wrote it, and the one that its author moved to.
    fn is_of(&self, daemon: &str) -> bool {
        self.origin == daemon || self.home == daemon
    }
}

fn held(conn: &Connection, message_id: &str) -> Result<Option<Held>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT sequence, at, event_id, origin, home, deleted_at, delete_event, shown_at FROM messages WHERE message_id = ?1",
    )?;
    let found = statement.query_row([message_id], |row| {
        let (deleted_at, delete_event): (Option<i64>, Option<String>) = (row.get(5)?, row.get(6)?);
        Ok(Held {
            message_id: message_id.to_owned(),
            sequence: row.get(0)?,
            at: Stamp::from_nanos(row.get(1)?),
            shown: Stamp::from_nanos(row.get(7)?),
            event_id: row.get(2)?,
            origin: row.get(3)?,
            home: row.get(4)?,
            deletion: deleted_at.map(Stamp::from_nanos).zip(delete_event),
        })
    });
    Ok(found.optional()?)
}

/// Whether a message of this id is here.
pub(super) fn is_here(conn: &Connection, message_id: &str) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM messages WHERE message_id = ?1")?.exists([message_id])?)
}

/// Of several creations of a message one counts: that of the daemon that made its id, else the first; the others are inert.
///
/// What is about the message is kept by the message's id ([`receipt`], [`edit`], [`delete`]), so that a creation that counts before
/// another one replaces one row and none of those.
pub(super) fn create(tx: &mut Tx<'_>, at: At<'_>, body: &MessageCreate) -> Result<Folded, StoreError> {
    let Some(known) = held(tx.conn, &body.message_id)? else {
        insert(tx, at, body)?;
        // What refers to a message that is not here is parked; looking there is much cheaper than in the log.
        if tx.conn.prepare_cached("SELECT 1 FROM parked WHERE target = ?1")?.exists([&body.message_id])? {
            pending::arrived(tx, &body.message_id, at.sequence)?;
        }
        return Ok(Folded::Done);
    };
    let before = super::claim(&body.message_id, &known.origin, (known.at, &known.event_id));
    if super::claim(&body.message_id, &at.event.origin, at.rank()) < before {
        remove(tx, &known)?;
        insert(tx, at, body)?;
        if known.origin != at.event.origin {
            judge_again(tx, &body.message_id)?;
        }
    }
    Ok(Folded::Done)
}

/// Most edits and deletions that are judged again when a message turns out to be another daemon's. Those beyond stay listed as they
/// were until the projection is made anew; what the message says does not depend on the list.
const JUDGED_AGAIN: usize = 64;

/// Sees to it that of the edits and deletions of a message those are parked that are not its author's.
fn judge_again(tx: &Tx<'_>, message_id: &str) -> Result<(), StoreError> {
    let Some(message) = held(tx.conn, message_id)? else { return Ok(()) };
    for (kind, foreign) in [("message.edit", FOREIGN_EDIT), ("message.delete", FOREIGN_DELETION)] {
        let mut statement = tx
            .conn
            .prepare_cached("SELECT sequence FROM events WHERE target = ?1 AND type = ?2 AND sequence <= ?3 ORDER BY sequence LIMIT ?4")?;
        let places: Vec<u64> =
            statement.query_map((message_id, kind, tx.frontier, JUDGED_AGAIN), |row| row.get(0))?.collect::<Result<_, _>>()?;
        for place in places {
            let event = super::at_place(tx, place)?;
            if message.is_of(&event.origin) {
                super::unpark(tx, &event)?;
            } else {
                super::park(tx, &event, foreign, Some(message_id), None)?;
            }
        }
    }
    Ok(())
}

/// Makes a message's row anew from the creation that counts: its author moved, which changes who may edit and delete it.
pub(super) fn replace(tx: &Tx<'_>, message_id: &str) -> Result<(), StoreError> {
    let Some(known) = held(tx.conn, message_id)? else { return Ok(()) };
    let event = super::at_place(tx, known.sequence)?;
    if let Ok(Payload::MessageCreate(body)) = Payload::read(&event.kind, &event.body) {
        remove(tx, &known)?;
        insert(tx, At { event: &event, sequence: known.sequence }, &body)?;
    }
    Ok(())
}

/// Takes the rows of a message away, if it is here.
pub(super) fn withdraw(tx: &Tx<'_>, message_id: &str) -> Result<(), StoreError> {
    match held(tx.conn, message_id)? {
        Some(message) => remove(tx, &message),
        None => Ok(()),
    }
}

/// Folds a message and all that is about it again from what is left in the log.
pub(super) fn refold(tx: &mut Tx<'_>, message_id: &str) -> Result<(), StoreError> {
    if let Some(message) = held(tx.conn, message_id)? {
        remove(tx, &message)?;
    }
    for table in ["receipts", "revisions"] {
        tx.conn.prepare_cached(&format!("DELETE FROM {table} WHERE message_id = ?1"))?.execute([message_id])?;
    }
    tx.conn.prepare_cached("DELETE FROM parked WHERE target = ?1")?.execute([message_id])?;
    pending::gone(tx, message_id)?;
    fn claim<'e>(message_id: &str, event: &'e Event) -> Claim<'e> {
        super::claim(message_id, &event.origin, (event.at, &event.id))
    }
    let mut counts: Option<(Event, u64)> = None;
    let mut created: Option<u64> = None;
    super::each(tx, "target = ?1 AND type = 'message.create'", message_id, |event, sequence| {
        // One that cannot be folded is parked and stays so.
        if Payload::read(&event.kind, &event.body).is_ok_and(|payload| !bounds::oversized_id(&payload)) {
            created = Some(created.map_or(sequence, |first| first.min(sequence)));
            if counts.as_ref().is_none_or(|(best, _)| claim(message_id, &event) < claim(message_id, best)) {
                counts = Some((event, sequence));
            }
        }
        Ok(())
    })?;
    if let Some((event, sequence)) = counts {
        super::fold(tx, &event, sequence, Payload::read(&event.kind, &event.body))?;
    }
    let about = super::places(tx, "target = ?1 AND type IN ('message.edit', 'message.delete', 'message.receipt')", message_id)?;
    for mut sequence in about {
        let event = super::at_place(tx, sequence)?;
        // Behind the first creation, not behind the one that counts: every earlier one that comes would move them all once more,
        // here and wherever they are served again.
        if sequence < created.unwrap_or_default() && !tx.rebuilds {
            sequence = move_behind(tx, &event, sequence)?;
        }
        super::fold(tx, &event, sequence, Payload::read(&event.kind, &event.body))?;
    }
    Ok(())
}

/// Whether an event that waited for a message stays parked: another daemon's edit or deletion.
pub(super) fn stays_parked(tx: &Tx<'_>, event: &Event, message_id: &str) -> Result<bool, StoreError> {
    let reason = match event.kind.as_str() {
        "message.edit" => FOREIGN_EDIT,
        "message.delete" => FOREIGN_DELETION,
        _ => return Ok(false),
    };
    let is_foreign = held(tx.conn, message_id)?.is_some_and(|message| !message.is_of(&event.origin));
    if is_foreign {
        super::park(tx, event, reason, Some(message_id), None)?;
    }
    Ok(is_foreign)
}

/// Gives an event about a message a new number, behind all others, and notes it where the message's text is looked up by it.
pub(super) fn move_behind(tx: &mut Tx<'_>, event: &Event, sequence: u64) -> Result<u64, StoreError> {
    let end = tx.move_to_end(sequence)?;
    if let Ok(Payload::MessageEdit(body)) = Payload::read(&event.kind, &event.body) {
        tx.conn.prepare_cached("UPDATE messages SET edit_sequence = ?3 WHERE message_id = ?1 AND edit_sequence = ?2")?.execute((
            &body.message_id,
            sequence,
            end,
        ))?;
    }
    Ok(end)
}

fn insert(tx: &Tx<'_>, at: At<'_>, body: &MessageCreate) -> Result<(), StoreError> {
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
    show(tx, at, body, &home, shown)?;
    if conn.prepare_cached("SELECT 1 FROM revisions WHERE message_id = ?1")?.exists([&body.message_id])?
        && let Some(message) = held(conn, &body.message_id)?
    {
        revise(tx, &message)?;
    }
    Ok(())
}

/// Lists a message where it is looked for: under those whom it addresses, and in the mailboxes of this daemon's agents. Others read
/// theirs at their own daemons.
fn show(tx: &Tx<'_>, at: At<'_>, body: &MessageCreate, author_home: &str, shown: i64) -> Result<(), StoreError> {
    let (conn, here, time) = (tx.conn, tx.home(), at.event.at.nanos());
    let audience = Audience::of(body);
    for (kind, value, home) in audience.rows() {
        let row = (kind, value, home, time, at.sequence);
        conn.prepare_cached("INSERT OR IGNORE INTO audience VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(row)?;
    }
    // Receipts may have come before the message.
    let is_read =
        conn.prepare_cached("SELECT 1 FROM receipts WHERE message_id = ?1 AND read_at IS NOT NULL")?.exists([&body.message_id])?;
    let mut read_by = conn.prepare_cached(&format!("SELECT 1 FROM agents a WHERE a.owner = ?1 AND {}", read_at_home("?2", "?3")))?;
    let mut put = conn.prepare_cached("INSERT OR IGNORE INTO mailbox VALUES (?1, ?2, ?3, ?4)")?;
    let mut deliver = |owner: i64, is_own: bool| -> Result<(), StoreError> {
        let unread = !(is_own || is_read && read_by.exists((owner, &body.message_id, time))?);
        put.execute((owner, shown, at.sequence, unread))?;
        Ok(())
    };
    // An agent that is named gets it if it is the one that is meant (`residence.rs`); roles and everyone only if they were there. The
    // author's own copy of mail to oneself is stored and read.
    let author = if author_home == here { body.agent_id.as_str() } else { "" };
    let mut direct = conn.prepare_cached(&format!(
        "SELECT owner FROM agents WHERE agent_id = ?1 AND home = ?2
         AND EXISTS (SELECT 1 FROM audience a WHERE a.kind = 0 AND a.value = ?1 AND a.at = ?3 AND a.sequence = ?4 AND {})",
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

/// SQL for whether the agent in row `a` has read a message, by its id and instant: as its home said, or a former home of what that
/// one could know, or the home itself where it is a former one.
pub(super) fn read_at_home(message_id: &str, at: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM receipts r
                 WHERE r.message_id = {message_id} AND r.agent_id = a.agent_id AND r.read_at IS NOT NULL
                 AND (r.origin = a.home
                      OR EXISTS (SELECT 1 FROM former_homes f
                                 WHERE f.agent_id = a.agent_id AND f.former = r.origin AND f.home = a.home
                                 AND f.until > max(r.read_at, {at}))))"
    )
}

/// Takes a message out of every view but its own row.
fn hide(tx: &Tx<'_>, message: &Held) -> Result<(), StoreError> {
    let (conn, sequence, time) = (tx.conn, message.sequence, message.at.nanos());
    conn.prepare_cached("DELETE FROM mailbox WHERE at = ?1 AND sequence = ?2 AND owner IN (SELECT owner FROM agents WHERE home = ?3)")?
        .execute((message.shown.nanos(), sequence, tx.home()))?;
    let body: Option<String> =
        conn.prepare_cached("SELECT body FROM events WHERE sequence = ?1")?.query_row([sequence], |row| row.get(0)).optional()?;
    let created = body.and_then(|body| Payload::read("message.create", &body).ok());
    if let Some(Payload::MessageCreate(created)) = created {
        for (kind, value, home) in Audience::of(&created).rows() {
            conn.prepare_cached("DELETE FROM audience WHERE kind = ?1 AND value = ?2 AND home = ?3 AND at = ?4 AND sequence = ?5")?
                .execute((kind, value, home, time, sequence))?;
        }
    }
    Ok(())
}

/// Takes its row away. What others did to it stays.
fn remove(tx: &Tx<'_>, message: &Held) -> Result<(), StoreError> {
    hide(tx, message)?;
    tx.conn.prepare_cached("DELETE FROM messages WHERE sequence = ?1")?.execute([message.sequence])?;
    Ok(())
}

const EDIT: i64 = 0;
const DELETION: i64 = 1;

/// What the edits, or the deletions, of one daemon come to.
struct Revision {
    origin: String,
    count: u64,
    rank: (Stamp, String),
    reason: Option<String>,
}

/// Writes down an edit or a deletion, whoever made it and whether or not the message is here. Of one daemon's edits the last one
/// counts, of its deletions the first one.
fn note(conn: &Connection, kind: i64, message_id: &str, at: At<'_>, reason: Option<&str>) -> Result<(), StoreError> {
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

/// What those did to a message who may: how often, and the one that counts.
fn revision(conn: &Connection, kind: i64, message: &Held) -> Result<Option<Revision>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT origin, count, at, event_id, reason FROM revisions WHERE message_id = ?1 AND kind = ?2 AND origin IN (?3, ?4)",
    )?;
    let revisions = statement.query_map((&message.message_id, kind, &message.origin, &message.home), |row| {
        let rank = (Stamp::from_nanos(row.get(2)?), row.get(3)?);
        Ok(Revision { origin: row.get(0)?, count: row.get(1)?, rank, reason: row.get(4)? })
    })?;
    let mut counts: Option<Revision> = None;
    for revision in revisions {
        let revision = revision?;
        let count = revision.count + counts.as_ref().map_or(0, |other| other.count);
        let wins = counts.as_ref().is_none_or(|other| match revision.rank.cmp(&other.rank) {
            // Two of one rank are one of the author's daemon that signs nothing, and one of the daemon to which the author moved.
            Ordering::Equal => key::is_signed_origin(&revision.origin),
            found => (found == Ordering::Greater) == (kind == EDIT),
        });
        counts = if wins { Some(Revision { count, ..revision }) } else { counts.map(|other| Revision { count, ..other }) };
    }
    Ok(counts)
}

/// Makes a message say what its edits and deletions come to.
fn revise(tx: &Tx<'_>, message: &Held) -> Result<(), StoreError> {
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
        conn.prepare_cached("UPDATE messages SET deleted_at = ?2, delete_event = ?3, delete_reason = ?4 WHERE sequence = ?1")?
            .execute((message.sequence, deletion.rank.0.nanos(), &deletion.rank.1, &deletion.reason))?;
    }
    Ok(())
}

const NOT_HERE: &str = "its message is not here";
const FOREIGN_EDIT: &str = "it edits a message of another daemon";
const FOREIGN_DELETION: &str = "it deletes a message of another daemon";

/// Edits of the author's own daemon count, and the last of them is the text.
pub(super) fn edit(tx: &Tx<'_>, at: At<'_>, body: &MessageEdit) -> Result<Folded, StoreError> {
    note(tx.conn, EDIT, &body.message_id, at, None)?;
    let Some(message) = held(tx.conn, &body.message_id)? else { return Ok(Folded::waits_for(&body.message_id, NOT_HERE)) };
    if !message.is_of(&at.event.origin) {
        return Ok(Folded::waits_for(&body.message_id, FOREIGN_EDIT));
    }
    revise(tx, &message)?;
    Ok(Folded::Done)
}

/// A deletion by the author's own daemon is for good; the first one is shown.
pub(super) fn delete(tx: &Tx<'_>, at: At<'_>, body: &MessageDelete) -> Result<Folded, StoreError> {
    note(tx.conn, DELETION, &body.message_id, at, body.reason.as_deref())?;
    let Some(message) = held(tx.conn, &body.message_id)? else {
        if purge::is_gone(tx.conn, &body.message_id)? {
            return Ok(Folded::Done);
        }
        return Ok(Folded::waits_for(&body.message_id, NOT_HERE));
    };
    if !message.is_of(&at.event.origin) {
        return Ok(Folded::waits_for(&body.message_id, FOREIGN_DELETION));
    }
    revise(tx, &message)?;
    Ok(Folded::Done)
}

/// The earliest receipt of each reader counts; it never makes the reader a recipient.
pub(super) fn receipt(conn: &Connection, at: At<'_>, body: &MessageReceipt) -> Result<Folded, StoreError> {
    let time = at.event.at.nanos();
    let read = (body.receipt_type == ReceiptType::Read).then_some(time);
    conn.prepare_cached(
        "INSERT INTO receipts VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET
             seen_at = min(seen_at, excluded.seen_at),
             read_at = min(coalesce(read_at, excluded.read_at), coalesce(excluded.read_at, read_at))",
    )?
    .execute((&body.message_id, &body.agent_id, &at.event.origin, time, read))?;
    let Some(message) = held(conn, &body.message_id)? else { return Ok(Folded::waits_for(&body.message_id, NOT_HERE)) };
    if read.is_some() {
        // Of a former home counts what it could know: a receipt from before the move, of a message from before the move. It
        // also counts where it was said: the agent may have been registered there again since.
        let home = former::live(conn, &body.agent_id, &at.event.origin, at.event.at.max(message.at))?;
        conn.prepare_cached(
            "UPDATE mailbox SET unread = 0 WHERE at = ?1 AND sequence = ?2
             AND owner IN (SELECT owner FROM agents WHERE agent_id = ?3 AND home IN (?4, ?5))",
        )?
        .execute((message.shown.nanos(), message.sequence, &body.agent_id, home, &at.event.origin))?;
    }
    Ok(Folded::Done)
}
