//! Fills and prunes the mailbox of an agent that registers here or whose registrations change.
//!
//! Any number of messages may wait for a new agent. They are added to its mailbox in pieces (`pending.rs`), newest
//! first by their claimed time, and the first piece together with the registration itself, as far as there is room. So
//! the first page of an inbox is usually right at once; only the counts and older messages follow later. A message that
//! arrives meanwhile is delivered as usual.
//!
//! If the mailbox exists already, for example when the agent changes its role or turns out to have been registered
//! earlier, the missing messages are added to it and those that no longer belong there are removed. It is not emptied,
//! so no message that stays is missing in between.

use rusqlite::{Connection, OptionalExtension};

use super::{audience::AudienceKind, pending, receipt::read_at_home, residence};
use crate::{StoreError, Tx, cutoff};

/// Position of a row in `audience` or `mailbox`: its time in nanoseconds, then the sequence of its message.
type Position = (i64, i64);

struct Owner {
    agent_id: String,
    home: String,
    role: String,
    first_at: i64,
}

fn owner(conn: &Connection, owner: i64) -> Result<Option<Owner>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT agent_id, home, role, first_at FROM agents WHERE owner = ?1")?;
    let found = statement.query_row([owner], |row| {
        Ok(Owner { agent_id: row.get(0)?, home: row.get(1)?, role: row.get(2)?, first_at: row.get(3)? })
    });
    Ok(found.optional()?)
}

/// SQL condition: message `m` belongs in the mailbox of the agent `?3` at `?4` with the role `?5`, registered since
/// `?6`. Messages to roles and everyone belong there only from that time on, and not the agent's own.
fn belongs() -> String {
    let is_among = |kind: AudienceKind, value: &str| {
        format!(
            "EXISTS (SELECT 1 FROM audience u WHERE u.kind = {kind} AND u.value = {value} AND u.home = '' AND u.at = m.at AND u.sequence = m.sequence)"
        )
    };
    format!(
        "(EXISTS (SELECT 1 FROM audience a WHERE a.kind = {} AND a.value = ?3 AND a.at = m.at AND a.sequence = m.sequence AND {})
          OR m.at >= ?6 AND NOT (m.agent_id = ?3 AND m.home = ?4) AND ({} OR {}))",
        AudienceKind::Agent,
        residence::is_for("?3", "?4"),
        is_among(AudienceKind::Role, "?5"),
        is_among(AudienceKind::Everyone, "''")
    )
}

/// Begins to fill a mailbox: the newest messages are added at once, as far as there is room. An existing mailbox may
/// also hold messages that no longer belong there; their removal is scheduled.
pub(super) fn begin(tx: &mut Tx<'_>, number: i64, is_new: bool) -> Result<(), StoreError> {
    pending::fill(tx.conn, number)?;
    if !is_new {
        pending::prune(tx.conn, number)?;
    }
    if tx.room.is_left() {
        let left = fill(tx, number, (i64::MAX, i64::MAX))?;
        pending::keep(tx.conn, pending::FILL, &number.to_string(), left)?;
    }
    Ok(())
}

/// Adds the next messages before a position to a mailbox, newest first. Returns the position reached, if more may be
/// left.
pub(super) fn fill(tx: &mut Tx<'_>, number: i64, before: Position) -> Result<Option<Position>, StoreError> {
    let conn = tx.conn;
    let Some(of) = owner(conn, number)? else { return Ok(None) };
    let most = tx.room.piece();
    let mut positions = addressed(conn, &of, before, most)?;
    positions.sort_unstable_by(|one, other| other.cmp(one));
    positions.dedup();
    positions.truncate(most);
    let mut put = conn.prepare_cached(&format!(
        "INSERT INTO mailbox (owner, at, sequence, unread)
         SELECT ?1, m.shown_at, m.sequence, NOT (m.agent_id = ?3 AND m.home = ?4) AND NOT {}
         FROM messages m JOIN agents a ON a.owner = ?1 WHERE m.sequence = ?2 AND {}
         ON CONFLICT DO UPDATE SET unread = excluded.unread",
        read_at_home("m.message_id", "m.at"),
        belongs()
    ))?;
    let sweeping = pending::is_sweeping(conn)?;
    for (_, sequence) in &positions {
        // Do not deliver messages that a purge is about to remove.
        if !(sweeping && cutoff::takes_message(conn, *sequence, tx.cutoff()?)?) {
            put.execute((number, sequence, &of.agent_id, &of.home, &of.role, of.first_at))?;
        }
    }
    drop(put);
    tx.room.spend(positions.len());
    Ok(positions.last().copied().filter(|_| positions.len() == most))
}

/// The messages before a position that may be for an agent: at most `most` of each kind and home.
fn addressed(conn: &Connection, of: &Owner, before: Position, most: usize) -> Result<Vec<Position>, StoreError> {
    let mut homes = vec![String::new(), of.home.clone()];
    let mut former = conn.prepare_cached("SELECT former FROM former_homes WHERE agent_id = ?1 AND home = ?2")?;
    for home in former.query_map((&of.agent_id, &of.home), |row| row.get(0))? {
        homes.push(home?);
    }
    let direct = homes.iter().map(|home| (AudienceKind::Agent, of.agent_id.as_str(), home.as_str(), i64::MIN));
    let role = (AudienceKind::Role, of.role.as_str(), "", of.first_at);
    let everyone = (AudienceKind::Everyone, "", "", of.first_at);
    let mut statement = conn.prepare_cached(
        "SELECT at, sequence FROM audience WHERE kind = ?1 AND value = ?2 AND home = ?3 AND at >= ?4 AND (at, sequence) < (?5, ?6)
         ORDER BY at DESC, sequence DESC LIMIT ?7",
    )?;
    let mut positions = Vec::new();
    for (kind, value, home, since) in direct.chain([role, everyone]) {
        for position in statement
            .query_map((kind, value, home, since, before.0, before.1, most), |row| Ok((row.get(0)?, row.get(1)?)))?
        {
            positions.push(position?);
        }
    }
    Ok(positions)
}

/// Removes messages that do not belong in a mailbox, among the next rows behind a position. Returns the position
/// reached, if more rows may be left.
pub(super) fn prune(tx: &mut Tx<'_>, number: i64, after: Position) -> Result<Option<Position>, StoreError> {
    let (conn, most) = (tx.conn, tx.room.piece());
    let mut statement = conn
        .prepare_cached("SELECT at, sequence FROM mailbox WHERE owner = ?1 AND (at, sequence) > (?2, ?3) ORDER BY at, sequence LIMIT ?4")?;
    let positions: Vec<Position> = statement
        .query_map((number, after.0, after.1, most), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let of = owner(conn, number)?;
    let mut stays =
        conn.prepare_cached(&format!("SELECT 1 FROM messages m WHERE m.sequence = ?2 AND {}", belongs()))?;
    let mut take = conn.prepare_cached("DELETE FROM mailbox WHERE owner = ?1 AND at = ?2 AND sequence = ?3")?;
    for (at, sequence) in &positions {
        let stays = match &of {
            Some(of) => stays.exists((number, sequence, &of.agent_id, &of.home, &of.role, of.first_at))?,
            None => false,
        };
        if !stays {
            take.execute((number, at, sequence))?;
        }
    }
    tx.room.spend(positions.len());
    Ok(positions.last().copied().filter(|_| positions.len() == most))
}
