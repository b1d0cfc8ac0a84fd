//! The rows of the log: the data stored with each event, its numbers, and the move of a row to another sequence.
//!
//! A row has a sequence, which gives the order of arrival here, and a `target`, by which the fold finds the events
//! about one message, session or agent. To other daemons, sequences are only positions in this log. But legacy peers
//! read rows in this order and drop an event that they cannot apply yet. So a row that arrived before its target moves
//! to the end.
//!
//! Example: an edit arrived as sequence 5 and its message as 9. [`Tx::move_to_end`] gives the edit sequence 10, so a
//! legacy peer is served the edit after the message.

use rusqlite::OptionalExtension;
use thrum_core::{Event, SetDigest};

use crate::{
    StoreError, Tx,
    numbers::{EventNumbers, Numbers, SOURCE_ID},
};

impl Tx<'_> {
    /// Stores an event under the next sequence, and returns that sequence. `source` is the peer that served it; empty
    /// for own events.
    pub(crate) fn insert(
        &mut self,
        event: &Event,
        sum: SetDigest,
        source: &str,
        target: Option<&str>,
    ) -> Result<u64, StoreError> {
        let sequence = self.progress.counters.next_sequence;
        let EventNumbers { signer, log } = self.progress.numbers.of_event(self.conn, event)?;
        let source_number = self.progress.numbers.source(self.conn, source)?;
        self.conn.prepare_cached("INSERT INTO event_rows VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?.execute(
            (
                sequence,
                &event.id,
                signer,
                &event.kind,
                event.at.nanos(),
                log,
                event.seq,
                source_number,
                target,
                &event.body,
            ),
        )?;
        self.progress.counters.next_sequence += 1;
        self.frontier = sequence;
        if !source.is_empty() {
            self.progress.received(source, &event.origin, 1, event.body.len() as i64);
        }
        if !source.is_empty() && self.restores(event)? {
            self.progress.restore(event, sum, source, sequence);
        } else {
            self.progress.count(event, sum, source, sequence);
        }
        self.record_if_ahead(event, sequence, target)?;
        Ok(sequence)
    }

    /// Removes a row from the log, and from what is counted as received from its peer.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn remove_row(&mut self, sequence: u64) -> Result<(), StoreError> {
        let removed: Option<(String, String, i64)> = self
            .conn
            .prepare_cached(&format!(
                "DELETE FROM event_rows WHERE sequence = ?1
                 RETURNING {SOURCE_ID},
                           (SELECT d.id FROM logs l JOIN daemons d ON d.number = l.origin WHERE l.number = event_rows.log),
                           octet_length(body)"
            ))?
            .query_row([sequence], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        if let Some((source, origin, bytes)) = removed.filter(|(source, ..)| !source.is_empty()) {
            self.progress.received(&source, &origin, -1, -bytes);
        }
        self.conn.prepare_cached("DELETE FROM ahead WHERE sequence = ?1")?.execute([sequence])?;
        Ok(())
    }

    /// Moves a row whose target arrived after it to a new sequence, behind the target, for peers that read rows in
    /// order and cannot keep a row that they cannot apply yet. Peers that already have the row skip it by its id;
    /// sequences have no other meaning.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn move_to_end(&mut self, sequence: u64) -> Result<u64, StoreError> {
        let end = self.progress.counters.next_sequence;
        let source: String = self
            .conn
            .prepare_cached(&format!("UPDATE event_rows SET sequence = ?2 WHERE sequence = ?1 RETURNING {SOURCE_ID}"))?
            .query_row((sequence, end), |row| row.get(0))?;
        self.conn.prepare_cached("UPDATE ahead SET sequence = ?2 WHERE sequence = ?1")?.execute((sequence, end))?;
        self.progress.counters.next_sequence += 1;
        self.frontier = end;
        self.progress.by_source.insert(source, end);
        Ok(end)
    }

    /// Removes the ids of logs and daemons to which no event refers any more, after events were forgotten. The peer's
    /// own id may stay until the next time, because the counts of received events are written at the end of the
    /// transaction.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn drop_unused_numbers(&mut self) -> Result<(), StoreError> {
        self.progress.numbers = Numbers::default();
        self.conn
            .execute("DELETE FROM logs WHERE NOT EXISTS (SELECT 1 FROM event_rows e WHERE e.log = logs.number)", [])?;
        self.conn.execute(
            "DELETE FROM daemons WHERE NOT EXISTS (SELECT 1 FROM logs WHERE origin = daemons.number)
             AND NOT EXISTS (SELECT 1 FROM received WHERE peer = daemons.id)",
            [],
        )?;
        Ok(())
    }
}
