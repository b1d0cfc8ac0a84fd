//! Messages, their edits, deletions and receipts.

use std::cmp::Ordering;

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{
    Event, Payload, Stamp, bounds,
    payload::{MessageCreate, MessageDelete, MessageEdit, MessageReceipt, ReceiptType},
};

use super::{At, Audience, Claim, Folded, former, purge};
use crate::{StoreError, Tx};

/// What the rules need of a message that is here.
struct Held {
    sequence: u64,
    at: Stamp,
    event_id: String,
    origin: String,
    home: String,
    edit: Option<(Stamp, String)>,
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
        "SELECT sequence, at, event_id, origin, home, edited_at, edit_event, deleted_at, delete_event FROM messages WHERE message_id = ?1",
    )?;
    let pair = |at: Option<i64>, id: Option<String>| at.map(Stamp::from_nanos).zip(id);
    let found = statement.query_row([message_id], |row| {
        Ok(Held {
            sequence: row.get(0)?,
            at: Stamp::from_nanos(row.get(1)?),
            event_id: row.get(2)?,
            origin: row.get(3)?,
            home: row.get(4)?,
            edit: pair(row.get(5)?, row.get(6)?),
            deletion: pair(row.get(7)?, row.get(8)?),
        })
    });
    Ok(found.optional()?)
}

/// Of several creations of a message one counts: that of the daemon that made its id, else the first; the others are inert.
pub(super) fn create(tx: &mut Tx<'_>, at: At<'_>, body: &MessageCreate) -> Result<Folded, StoreError> {
    if let Some(known) = held(tx.conn, &body.message_id)? {
        let before = super::claim(&body.message_id, &known.origin, (known.at, &known.event_id));
        if super::claim(&body.message_id, &at.event.origin, at.rank()) < before {
            tx.later.messages.insert(body.message_id.clone());
        }
        return Ok(Folded::Done);
    }
    insert(tx, at, body)?;
    // What refers to a message that is not here is parked; looking there is much cheaper than in the log.
    if tx.conn.prepare_cached("SELECT 1 FROM parked WHERE target = ?1")?.exists([&body.message_id])? {
        refold_dependents(tx, &body.message_id, at.sequence)?;
    }
    Ok(Folded::Done)
}

/// Folds a message and all that is about it again from what is left in the log.
pub(super) fn refold(tx: &mut Tx<'_>, message_id: &str) -> Result<(), StoreError> {
    if let Some(message) = held(tx.conn, message_id)? {
        remove(tx, message.sequence, message.at)?;
    }
    // A creation folds what is parked for its message, and it would be folded twice.
    tx.conn.prepare_cached("DELETE FROM parked WHERE target = ?1")?.execute([message_id])?;
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
    refold_dependents(tx, message_id, created.unwrap_or_default())
}

/// Folds the edits, deletions and receipts of a message again: into the one that is here now, or, if none is, to be parked.
///
/// Those that stand before the first creation, `created`, move behind it. Not behind the one that counts: every earlier one that
/// comes would move them all once more, here and wherever they are served again.
fn refold_dependents(tx: &mut Tx<'_>, message_id: &str, created: u64) -> Result<(), StoreError> {
    let dependents = super::places(tx, "target = ?1 AND type IN ('message.edit', 'message.delete', 'message.receipt')", message_id)?;
    for mut sequence in dependents {
        let event = super::at_place(tx, sequence)?;
        tx.conn.prepare_cached("DELETE FROM parked WHERE event_id = ?1 AND signer = ?2")?.execute((&event.id, event.signer()))?;
        if sequence < created && !tx.rebuilds {
            sequence = tx.move_to_end(sequence)?;
        }
        super::fold(tx, &event, sequence, Payload::read(&event.kind, &event.body))?;
    }
    Ok(())
}

fn insert(tx: &Tx<'_>, at: At<'_>, body: &MessageCreate) -> Result<(), StoreError> {
    let (conn, event, time) = (tx.conn, at.event, at.event.at.nanos());
    let home = former::live(conn, &body.agent_id, &event.origin, event.at)?;
    conn.prepare_cached(
        "INSERT INTO messages (sequence, message_id, at, event_id, origin, home, agent_id, session_id, thread_id, reply_to)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
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
    ))?;
    let audience = Audience::of(&body.recipients, &body.scopes, &body.refs);
    for (kind, value) in audience.rows() {
        conn.prepare_cached("INSERT INTO audience VALUES (?1, ?2, ?3, ?4)")?.execute((kind, value, time, at.sequence))?;
    }
    deliver(tx, at, body, &audience, &home)
}

/// Puts a message into the mailboxes of this daemon's agents. Others read theirs at their own daemons.
fn deliver(tx: &Tx<'_>, at: At<'_>, body: &MessageCreate, audience: &Audience<'_>, author_home: &str) -> Result<(), StoreError> {
    let (conn, here, time) = (tx.conn, tx.home(), at.event.at.nanos());
    let mut deliver = conn.prepare_cached("INSERT OR IGNORE INTO mailbox VALUES (?1, ?2, ?3, ?4)")?;
    // Named ones get it whenever they registered; roles and everyone only if they were there. The author's own copy of mail
    // to oneself is stored and read.
    let author = if author_home == here { body.agent_id.as_str() } else { "" };
    let mut direct = conn.prepare_cached("SELECT owner FROM agents WHERE agent_id = ?1 AND home = ?2")?;
    for agent in &audience.agents {
        let owner: Option<i64> = direct.query_row((agent, here), |row| row.get(0)).optional()?;
        if let Some(owner) = owner {
            deliver.execute((owner, time, at.sequence, *agent != author))?;
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
            deliver.execute((owner, time, at.sequence, true))?;
        }
    }
    Ok(())
}

/// Takes a message out of every view but its own row.
fn hide(tx: &Tx<'_>, sequence: u64, at: Stamp) -> Result<(), StoreError> {
    let (conn, time) = (tx.conn, at.nanos());
    conn.prepare_cached("DELETE FROM mailbox WHERE at = ?1 AND sequence = ?2 AND owner IN (SELECT owner FROM agents WHERE home = ?3)")?
        .execute((time, sequence, tx.home()))?;
    let body: Option<String> =
        conn.prepare_cached("SELECT body FROM events WHERE sequence = ?1")?.query_row([sequence], |row| row.get(0)).optional()?;
    let created = body.and_then(|body| Payload::read("message.create", &body).ok());
    if let Some(Payload::MessageCreate(created)) = created {
        for (kind, value) in Audience::of(&created.recipients, &created.scopes, &created.refs).rows() {
            conn.prepare_cached("DELETE FROM audience WHERE kind = ?1 AND value = ?2 AND at = ?3 AND sequence = ?4")?
                .execute((kind, value, time, sequence))?;
        }
    }
    Ok(())
}

/// Takes it away altogether, with its receipts.
fn remove(tx: &Tx<'_>, sequence: u64, at: Stamp) -> Result<(), StoreError> {
    hide(tx, sequence, at)?;
    let conn = tx.conn;
    conn.prepare_cached("DELETE FROM receipts WHERE sequence = ?1")?.execute([sequence])?;
    conn.prepare_cached("DELETE FROM messages WHERE sequence = ?1")?.execute([sequence])?;
    Ok(())
}

/// Whether an event takes the place of the one that counted, which is on this side of it. Two of one rank are one of the author's
/// daemon that signs nothing, and one of the daemon to which the author moved: the signed one counts.
fn wins((time, id): &(Stamp, String), at: At<'_>, side: Ordering) -> bool {
    match (*time, id.as_str()).cmp(&at.rank()) {
        Ordering::Equal => !at.event.signer().is_empty(),
        found => found == side,
    }
}

/// Edits of the author's own daemon count, and the last of them is the text.
pub(super) fn edit(conn: &Connection, at: At<'_>, body: &MessageEdit) -> Result<Folded, StoreError> {
    let Some(message) = held(conn, &body.message_id)? else {
        return Ok(Folded::waits_for(&body.message_id, "its message is not here"));
    };
    if !message.is_of(&at.event.origin) {
        return Ok(Folded::waits_for(&body.message_id, "it edits a message of another daemon"));
    }
    conn.prepare_cached("UPDATE messages SET edits = edits + 1 WHERE sequence = ?1")?.execute([message.sequence])?;
    if message.edit.as_ref().is_none_or(|edit| wins(edit, at, Ordering::Less)) {
        conn.prepare_cached("UPDATE messages SET edit_sequence = ?2, edited_at = ?3, edit_event = ?4 WHERE sequence = ?1")?.execute((
            message.sequence,
            at.sequence,
            at.event.at.nanos(),
            &at.event.id,
        ))?;
    }
    Ok(Folded::Done)
}

/// A deletion by the author's own daemon is for good; the first one is shown.
pub(super) fn delete(tx: &Tx<'_>, at: At<'_>, body: &MessageDelete) -> Result<Folded, StoreError> {
    let conn = tx.conn;
    let Some(message) = held(conn, &body.message_id)? else {
        if purge::is_gone(conn, &body.message_id)? {
            return Ok(Folded::Done);
        }
        return Ok(Folded::waits_for(&body.message_id, "its message is not here"));
    };
    if !message.is_of(&at.event.origin) {
        return Ok(Folded::waits_for(&body.message_id, "it deletes a message of another daemon"));
    }
    if message.deletion.is_none() {
        hide(tx, message.sequence, message.at)?;
    }
    if message.deletion.as_ref().is_none_or(|deletion| wins(deletion, at, Ordering::Greater)) {
        conn.prepare_cached("UPDATE messages SET deleted_at = ?2, delete_event = ?3, delete_reason = ?4 WHERE sequence = ?1")?
            .execute((message.sequence, at.event.at.nanos(), &at.event.id, &body.reason))?;
    }
    Ok(Folded::Done)
}

/// The earliest receipt of each reader counts; it never makes the reader a recipient.
pub(super) fn receipt(conn: &Connection, at: At<'_>, body: &MessageReceipt) -> Result<Folded, StoreError> {
    let Some(message) = held(conn, &body.message_id)? else {
        return Ok(Folded::waits_for(&body.message_id, "its message is not here"));
    };
    let time = at.event.at.nanos();
    let read = (body.receipt_type == ReceiptType::Read).then_some(time);
    conn.prepare_cached(
        "INSERT INTO receipts VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET
             seen_at = min(seen_at, excluded.seen_at),
             read_at = min(coalesce(read_at, excluded.read_at), coalesce(excluded.read_at, read_at))",
    )?
    .execute((message.sequence, &body.agent_id, &at.event.origin, time, read))?;
    if read.is_some() {
        // Of a former home counts what it could know: a receipt from before the move, of a message from before the move. It
        // also counts where it was said: the agent may have been registered there again since.
        let home = former::live(conn, &body.agent_id, &at.event.origin, at.event.at.max(message.at))?;
        conn.prepare_cached(
            "UPDATE mailbox SET unread = 0 WHERE at = ?1 AND sequence = ?2
             AND owner IN (SELECT owner FROM agents WHERE agent_id = ?3 AND home IN (?4, ?5))",
        )?
        .execute((message.at.nanos(), message.sequence, &body.agent_id, home, &at.event.origin))?;
    }
    Ok(Folded::Done)
}
