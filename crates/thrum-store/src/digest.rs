//! Digests of the log and of the projection.
//!
//! The digest of the projection is computed from its rows on each request and not stored: a stored digest could not
//! reveal a faulty fold rule.

use rusqlite::{Connection, types::ValueRef};
use sha2::{Digest, Sha256};
use thrum_core::{Head, Heads, SetDigest};

use crate::{Reader, StoreError, Tx};

/// The tables of the projection on which all daemons agree, without the columns that are only meaningful locally.
const VIEWS: &[&str] = &[
    "SELECT 'purge', origin, cutoff FROM cutoffs",
    "SELECT 'purged ahead', id, origin FROM purged_ahead",
    "SELECT 'message', message_id, at, event_id, origin, home, agent_id, session_id, thread_id, reply_to,
            edited_at, edit_event, edits, deleted_at, delete_event, delete_reason FROM messages",
    "SELECT 'audience', kind, value, a.home, a.at, m.message_id FROM audience a JOIN messages m USING (sequence)",
    "SELECT 'agent', agent_id, home, event_id, registered_at, first_at, kind, role, module, display, hostname, worktree FROM agents",
    "SELECT 'former', agent_id, former, home, until FROM former_homes",
    "SELECT 'residence', agent_id, home, since, until FROM residences",
    "SELECT 'cleanup', agent_id, home, at, event_id FROM cleanups",
    "SELECT 'receipt', message_id, agent_id, origin, seen_at, read_at FROM receipts",
    "SELECT 'revision', message_id, kind, origin, count, at, event_id, reason FROM revisions",
    "SELECT 'session', session_id, agent_id, home, started_at, start_event, ended_at, end_event, end_reason FROM sessions",
    "SELECT 'presence', agent_id, home, at, event_id, state, wakeable, since, person_at FROM presences",
    "SELECT 'woken', message_id, agent_id, origin, at FROM wakes",
    "SELECT 'context', session_id, agent_id, home, at, event_id, context FROM contexts",
    "SELECT 'claim', agent_id, home, path, at, event_id, until FROM claims",
];

/// The mailboxes, which each daemon has only for its own agents. They follow from the tables above and the daemon's id.
const MAILBOXES: &str = "SELECT 'mailbox', g.agent_id, g.home, m.at, m.message_id, b.unread
     FROM mailbox b JOIN agents g USING (owner) JOIN messages m ON m.sequence = b.sequence";

/// The digest of all rows on which daemons with the same events agree.
pub(crate) fn projection(conn: &Connection) -> Result<SetDigest, StoreError> {
    sum(conn, VIEWS)
}

/// The digest of the mailboxes of this daemon's agents.
pub(crate) fn mailboxes(conn: &Connection) -> Result<SetDigest, StoreError> {
    sum(conn, &[MAILBOXES])
}

fn sum(conn: &Connection, views: &[&str]) -> Result<SetDigest, StoreError> {
    let mut total = SetDigest::default();
    for view in views {
        let mut statement = conn.prepare_cached(view)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let mut hash = Sha256::new();
            for column in 0..columns {
                // Type and length come first, so that different rows never hash the same bytes.
                let (kind, bytes) = match row.get_ref(column)? {
                    ValueRef::Null => (0u8, Vec::new()),
                    ValueRef::Integer(number) => (1, number.to_le_bytes().to_vec()),
                    ValueRef::Real(number) => (2, number.to_le_bytes().to_vec()),
                    ValueRef::Text(text) => (3, text.to_vec()),
                    ValueRef::Blob(blob) => (4, blob.to_vec()),
                };
                hash.update([kind]);
                hash.update((bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
            }
            total.add(SetDigest::from_bytes(hash.finalize().into()));
        }
    }
    Ok(total)
}

/// The stored heads.
pub(crate) fn heads(conn: &Connection) -> Result<Heads, StoreError> {
    let mut statement =
        conn.prepare_cached("SELECT origin, log, count, highest, sum, purged, purged_sum FROM heads")?;
    let rows = statement.query_map([], |row| {
        Ok(Head {
            origin: row.get(0)?,
            log: row.get(1)?,
            count: row.get(2)?,
            highest: row.get(3)?,
            sum: SetDigest::from_bytes(row.get(4)?),
            purged: row.get(5)?,
            purged_sum: SetDigest::from_bytes(row.get(6)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Recounts the heads from the rows, except for purged events, which only the stored heads know.
pub(crate) fn recount(conn: &Connection) -> Result<Heads, StoreError> {
    let gone = |head: Head| Head { count: head.purged, sum: head.purged_sum, ..head };
    let kept = heads(conn)?;
    let mut heads: Heads = kept.iter().filter(|head| head.purged > 0).cloned().map(gone).collect();
    let mut statement = conn.prepare(
        "SELECT d.id, l.log, e.origin_seq, e.body
         FROM event_rows e CROSS JOIN logs l ON l.number = e.log CROSS JOIN daemons d ON d.number = l.origin",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (origin, log): (String, String) = (row.get(0)?, row.get(1)?);
        let mut head = heads.get(&origin, &log).cloned().unwrap_or(Head { origin, log, ..Head::default() });
        head.count += 1;
        head.highest = head.highest.max(row.get(2)?);
        head.sum.add(SetDigest::of(row.get_ref(3)?.as_bytes().map_err(rusqlite::Error::from)?));
        heads.insert(head);
    }
    Ok(heads)
}

impl Reader<'_> {
    /// Returns `true` if the stored heads differ from the log, for example because the disk lost rows. Reads the whole
    /// log.
    ///
    /// # Errors
    /// SQLite's.
    pub fn has_losses(&self) -> Result<bool, StoreError> {
        Ok(heads(self.conn)? != recount(self.conn)?)
    }
}

impl Tx<'_> {
    /// Rebuilds heads and projection (see [`repair`](Self::repair)) if the stored heads differ from the log, and then
    /// returns `true`. Repeats the check of [`Reader::has_losses`], because the caller's result may be outdated, and
    /// folding everything again takes fifty times as long as counting.
    ///
    /// # Errors
    /// SQLite's.
    pub fn repair_losses(&mut self) -> Result<bool, StoreError> {
        // Write out what other jobs in this transaction counted, because their rows are already in the log.
        self.progress.flush(self.conn)?;
        let has_losses = self.reader().has_losses()?;
        if has_losses {
            self.repair()?;
        }
        Ok(has_losses)
    }
}
