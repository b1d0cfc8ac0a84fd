//! Digests: over what is held, and over what was folded from it.
//!
//! The digest over the projection is computed from its rows whenever somebody asks, not kept beside them: a kept one would
//! agree with itself even where a rule went wrong.

use rusqlite::{Connection, types::ValueRef};
use sha2::{Digest, Sha256};
use thrum_core::{Head, Heads, Sum};

use crate::{Reader, StoreError, Tx};

/// Every table of the projection on which all daemons agree, without the numbers that mean something here only.
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
    "SELECT 'context', session_id, agent_id, home, at, event_id, context FROM contexts",
];

/// What each daemon has of its own agents alone. It follows from the tables above and from whose daemon it is.
const MAILBOXES: &str = "SELECT 'mailbox', g.agent_id, g.home, m.at, m.message_id, b.unread
     FROM mailbox b JOIN agents g USING (owner) JOIN messages m ON m.sequence = b.sequence";

/// The sum over all rows on which daemons with the same events agree.
pub(crate) fn projection(conn: &Connection) -> Result<Sum, StoreError> {
    sum(conn, VIEWS)
}

/// The sum over the mailboxes of this daemon's agents.
pub(crate) fn mailboxes(conn: &Connection) -> Result<Sum, StoreError> {
    sum(conn, &[MAILBOXES])
}

fn sum(conn: &Connection, views: &[&str]) -> Result<Sum, StoreError> {
    let mut total = Sum::default();
    for view in views {
        let mut statement = conn.prepare_cached(view)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let mut hash = Sha256::new();
            for column in 0..columns {
                // Type and length first, so that no two rows run together to the same text.
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
            total.add(Sum::from_bytes(hash.finalize().into()));
        }
    }
    Ok(total)
}

/// The heads as kept.
pub(crate) fn heads(conn: &Connection) -> Result<Heads, StoreError> {
    let mut statement = conn.prepare_cached("SELECT origin, log, count, highest, sum, purged, purged_sum FROM heads")?;
    let rows = statement.query_map([], |row| {
        Ok(Head {
            origin: row.get(0)?,
            log: row.get(1)?,
            count: row.get(2)?,
            highest: row.get(3)?,
            sum: Sum::from_bytes(row.get(4)?),
            purged: row.get(5)?,
            purged_sum: Sum::from_bytes(row.get(6)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The heads counted afresh from the rows, but for what was purged: that is known from the kept ones alone.
pub(crate) fn recount(conn: &Connection) -> Result<Heads, StoreError> {
    let gone = |head: Head| Head { count: head.purged, sum: head.purged_sum, ..head };
    let kept = heads(conn)?;
    let mut heads: Heads = kept.iter().filter(|head| head.purged > 0).cloned().map(gone).collect();
    let mut statement = conn.prepare("SELECT origin_daemon, origin_log, origin_seq, body FROM events")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (origin, log): (String, String) = (row.get(0)?, row.get(1)?);
        let mut head = heads.get(&origin, &log).cloned().unwrap_or(Head { origin, log, ..Head::default() });
        head.count += 1;
        head.highest = head.highest.max(row.get(2)?);
        head.sum.add(Sum::of(row.get_ref(3)?.as_bytes().map_err(rusqlite::Error::from)?));
        heads.insert(head);
    }
    Ok(heads)
}

impl Reader<'_> {
    /// Whether what is kept about the log is not what the log holds: the disk lost rows. Reads all of it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn lacks(&self) -> Result<bool, StoreError> {
        Ok(heads(self.conn)? != recount(self.conn)?)
    }
}

impl Tx<'_> {
    /// The same as [`mend`](Self::mend), but only where rows were lost; whether it was so. Who found that out looked at another
    /// moment, and to fold all again takes fifty times as long as to count it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn mend_losses(&mut self) -> Result<bool, StoreError> {
        // What others did in this transaction is among the rows already.
        self.progress.flush(self.conn)?;
        let lacks = self.reader().lacks()?;
        if lacks {
            self.mend()?;
        }
        Ok(lacks)
    }
}
