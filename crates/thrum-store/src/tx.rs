//! What a job may do inside a transaction: look, append events of ours, apply a peer's.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{
    Ambient, DaemonId, DaemonKey, Draft, ErrorKind, Event, Fault, Payload, Runs, Stamp, Sum, bounds,
    exchange::{Applied, Batch, Rejected},
    ids::{self, IdKind, IdSource},
    limits,
};

use crate::{Reader, StoreError, fold, origin::Counters};

/// What a transaction has moved on so far; becomes the store's only at COMMIT (I2), and a job's only if the job succeeds.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) counters: Counters,
    pub(crate) by_source: BTreeMap<String, u64>,
    heads: BTreeMap<(String, String), Growth>,
    /// Places in logs that a purge keeps empty.
    gone: BTreeMap<(String, String), Runs>,
    /// Places that were empty because they were forgotten, and are not any more.
    restored: BTreeMap<(String, String), Runs>,
    /// Places that it kept empty, on a peer's word.
    kept_out: BTreeMap<(String, String), Runs>,
    /// Whether text was purged that may still lie in a free corner of the file.
    pub(crate) scrub: bool,
}

#[derive(Clone, Debug, Default)]
struct Growth {
    count: u64,
    highest: u64,
    sum: Sum,
    purged: u64,
    purged_sum: Sum,
    /// Forgotten events that came back, which counted as purged.
    restored: u64,
    restored_sum: Sum,
    /// Events that leave without a trace.
    dropped: u64,
    dropped_sum: Sum,
}

impl Progress {
    /// All that is there counts as ours at first, so that every peer is told once.
    pub(crate) fn new(counters: Counters) -> Self {
        let by_source = BTreeMap::from([(String::new(), counters.next_sequence - 1)]);
        Self {
            counters,
            by_source,
            heads: BTreeMap::new(),
            gone: BTreeMap::new(),
            restored: BTreeMap::new(),
            kept_out: BTreeMap::new(),
            scrub: false,
        }
    }

    fn count(&mut self, event: &Event, source: &str, sequence: u64) {
        let growth = self.heads.entry((event.origin.clone(), event.log.clone())).or_default();
        growth.count += 1;
        growth.highest = growth.highest.max(event.seq);
        growth.sum.add(Sum::of(event.body.as_bytes()));
        match self.by_source.get_mut(source) {
            Some(latest) => *latest = sequence,
            None => {
                self.by_source.insert(source.to_owned(), sequence);
            }
        }
    }

    /// Counts an event that leaves the log.
    pub(crate) fn uncount(&mut self, origin: String, log: String, number: u64, sum: Sum) {
        let growth = self.heads.entry((origin.clone(), log.clone())).or_default();
        growth.purged += 1;
        growth.purged_sum.add(sum);
        self.gone.entry((origin, log)).or_default().add(number);
        self.scrub = true;
    }

    /// Counts an event that is forgotten: as purged if its place says which it was, else not at all.
    pub(crate) fn forget(&mut self, origin: &str, log: &str, number: u64, sum: Sum) {
        let of = (origin.to_owned(), log.to_owned());
        let growth = self.heads.entry(of.clone()).or_default();
        if number > 0 {
            growth.purged += 1;
            growth.purged_sum.add(sum);
            self.gone.entry(of).or_default().add(number);
        } else {
            growth.dropped += 1;
            growth.dropped_sum.add(sum);
        }
    }

    /// Whether an event left the log in this very transaction.
    pub(crate) fn is_gone(&self, event: &Event) -> bool {
        self.gone.get(&(event.origin.clone(), event.log.clone())).is_some_and(|gone| gone.contains(event.seq))
    }

    /// Counts an event that was forgotten and comes back.
    fn restore(&mut self, event: &Event, source: &str, sequence: u64) {
        let of = (event.origin.clone(), event.log.clone());
        let growth = self.heads.entry(of.clone()).or_default();
        growth.restored += 1;
        growth.restored_sum.add(Sum::of(event.body.as_bytes()));
        self.restored.entry(of).or_default().add(event.seq);
        self.by_source.insert(source.to_owned(), sequence);
    }

    /// Notes an event that a purge keeps out of the log, so that nobody asks for it.
    fn keep_out(&mut self, event: &Event) {
        if event.seq > 0 {
            self.kept_out.entry((event.origin.clone(), event.log.clone())).or_default().add(event.seq);
        }
    }

    /// Writes counters and heads; the last thing before COMMIT.
    pub(crate) fn flush(&mut self, conn: &Connection) -> Result<(), StoreError> {
        if self.scrub {
            conn.execute("UPDATE state SET scrub = 1", [])?;
        }
        // In order, so that the same work writes the same pages: a simulated disk counts them.
        for ((origin, log), growth) in std::mem::take(&mut self.heads) {
            let known = conn
                .prepare_cached("SELECT count, highest, sum, purged, purged_sum FROM heads WHERE origin = ?1 AND log = ?2")?
                .query_row((&origin, &log), |row| {
                    let sum = |column| row.get(column).map(Sum::from_bytes);
                    let (sum, purged_sum) = (sum(2)?, sum(4)?);
                    Ok(Growth { count: row.get(0)?, highest: row.get(1)?, sum, purged: row.get(3)?, purged_sum, ..Growth::default() })
                });
            let mut now = known.optional()?.unwrap_or_default();
            now.sum.add(growth.sum);
            now.purged_sum.add(growth.purged_sum);
            now.sum.subtract(growth.dropped_sum);
            now.purged_sum.subtract(growth.restored_sum);
            let count = (now.count + growth.count).saturating_sub(growth.dropped);
            if count == 0 {
                conn.prepare_cached("DELETE FROM heads WHERE origin = ?1 AND log = ?2")?.execute((&origin, &log))?;
                continue;
            }
            conn.prepare_cached("INSERT OR REPLACE INTO heads VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute((
                &origin,
                &log,
                count,
                now.highest.max(growth.highest),
                now.sum.to_bytes(),
                (now.purged + growth.purged).saturating_sub(growth.restored),
                now.purged_sum.to_bytes(),
            ))?;
        }
        for ((origin, log), gone) in std::mem::take(&mut self.gone) {
            keep_empty(conn, &origin, &log, &gone, usize::MAX)?;
        }
        for ((origin, log), restored) in std::mem::take(&mut self.restored) {
            fill_again(conn, &origin, &log, &restored)?;
        }
        for ((origin, log), kept_out) in std::mem::take(&mut self.kept_out) {
            if has_head(conn, &origin, &log)? && has_room(conn)? {
                keep_empty(conn, &origin, &log, &kept_out, limits::MAX_KEPT_OUT_RUNS)?;
            }
        }
        self.counters.save(conn)
    }
}

/// The places of a log that purges took or kept out.
pub(crate) fn purged(conn: &Connection, origin: &str, log: &str) -> Result<Runs, StoreError> {
    let mut statement = conn.prepare_cached("SELECT first, last FROM purged WHERE origin = ?1 AND log = ?2")?;
    let mut rows = statement.query((origin, log))?;
    let mut runs = Runs::default();
    while let Some(row) = rows.next()? {
        runs.insert(row.get(0)?..=row.get(1)?);
    }
    Ok(runs)
}

/// Notes that places of a log are not empty any more.
fn fill_again(conn: &Connection, origin: &str, log: &str, restored: &Runs) -> Result<(), StoreError> {
    for run in restored.iter() {
        let (first, last) = run.into_inner();
        let overlapping: Vec<(u64, u64)> = conn
            .prepare_cached("DELETE FROM purged WHERE origin = ?1 AND log = ?2 AND last >= ?3 AND first <= ?4 RETURNING first, last")?
            .query_map((origin, log, first, last), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (from, to) in overlapping {
            for (from, to) in [(from, first.saturating_sub(1)), (last + 1, to)].into_iter().filter(|(from, to)| from <= to) {
                conn.prepare_cached("INSERT INTO purged VALUES (?1, ?2, ?3, ?4)")?.execute((origin, log, from, to))?;
            }
        }
    }
    Ok(())
}

/// Whether anything is, or was, held of a log: a peer may make up as many others as it likes.
fn has_head(conn: &Connection, origin: &str, log: &str) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM heads WHERE origin = ?1 AND log = ?2")?.exists((origin, log))?)
}

fn has_room(conn: &Connection) -> Result<bool, StoreError> {
    let rows: usize = conn
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM purged LIMIT ?1)")?
        .query_row([limits::MAX_KEPT_OUT_ROWS], |row| row.get(0))?;
    Ok(rows < limits::MAX_KEPT_OUT_ROWS)
}

/// Notes places of a log that are empty, as long as all of it are at most `most` runs. Writes what is new, not what is known.
pub(crate) fn keep_empty(conn: &Connection, origin: &str, log: &str, gone: &Runs, most: usize) -> Result<(), StoreError> {
    let known = purged(conn, origin, log)?;
    let mut all = known.clone();
    for run in gone.clone().without(&known).iter() {
        let before = all.len();
        all.insert(run.clone());
        if all.len() > before.max(most) {
            // It touches none of the others, so nothing else goes with it.
            let mut beyond = Runs::default();
            beyond.insert(run);
            all.subtract(&beyond);
        }
    }
    let places = |runs: &Runs| -> BTreeSet<(u64, u64)> { runs.iter().map(|run| run.into_inner()).collect() };
    let (known, all) = (places(&known), places(&all));
    for (first, _) in known.difference(&all) {
        conn.prepare_cached("DELETE FROM purged WHERE origin = ?1 AND log = ?2 AND first = ?3")?.execute((origin, log, first))?;
    }
    for (first, last) in all.difference(&known) {
        conn.prepare_cached("INSERT INTO purged VALUES (?1, ?2, ?3, ?4)")?.execute((origin, log, first, last))?;
    }
    Ok(())
}

/// A transaction as a job sees it.
pub struct Tx<'s> {
    pub(crate) conn: &'s Connection,
    key: &'s DaemonKey,
    id: &'s DaemonId,
    ambient: &'s mut dyn Ambient,
    pub(crate) ids: &'s mut IdSource,
    pub(crate) progress: &'s mut Progress,
    /// The purge's cutoff, once somebody asked.
    pub(crate) cutoff: Cell<Option<Stamp>>,
    /// The same for [`floor`](Self::floor).
    pub(crate) floor: Cell<Option<Stamp>>,
    /// What has to be worked out before the transaction ends.
    pub(crate) later: fold::Later,
    /// How much of what was left by others it may do besides.
    pub(crate) room: fold::Room,
    /// What purges took away in this transaction.
    pub(crate) swept: fold::Purged,
    /// The sequence up to which the log is folded: the last one, but while the log is folded again.
    pub(crate) frontier: u64,
    /// Whether the log is folded again from its start; its rows stay where they are then.
    pub(crate) rebuilds: bool,
}

impl<'s> Tx<'s> {
    pub(crate) fn new(
        conn: &'s Connection,
        key: &'s DaemonKey,
        id: &'s DaemonId,
        ambient: &'s mut dyn Ambient,
        ids: &'s mut IdSource,
        progress: &'s mut Progress,
    ) -> Self {
        let frontier = progress.counters.next_sequence - 1;
        Self {
            conn,
            key,
            id,
            ambient,
            ids,
            progress,
            cutoff: Cell::new(None),
            floor: Cell::new(None),
            later: fold::Later::default(),
            room: fold::Room::default(),
            swept: fold::Purged::default(),
            frontier,
            rebuilds: false,
        }
    }

    /// Whose store this is; the home of the agents registered here.
    pub fn home(&self) -> &str {
        self.id.as_str()
    }

    /// Questions about the state as this transaction sees it.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(self.conn, self.id.as_str())
    }

    /// Before what all is purged; read from its row once, because every event is held against it.
    pub(crate) fn cutoff(&self) -> Result<Stamp, StoreError> {
        if let Some(known) = self.cutoff.get() {
            return Ok(known);
        }
        let cutoff = fold::cutoff(self.conn)?;
        self.cutoff.set(Some(cutoff));
        Ok(cutoff)
    }

    /// Before what nothing of ours may be stamped, or it would be taken for purged mail: the cutoff, and that of purges which
    /// are heard of, but lie ahead of our clock, because it is behind. Not of those far ahead: their clock must not become ours.
    fn floor(&mut self) -> Result<Stamp, StoreError> {
        if let Some(known) = self.floor.get() {
            return Ok(known);
        }
        let believed = self.now().plus(limits::CLOCK_OFF);
        let floor = fold::announced(self.conn, believed)?.max(self.cutoff()?);
        self.floor.set(Some(floor));
        Ok(floor)
    }

    /// The time now. A clock that is not set, or goes back by minutes, stands where it stood when something was last written.
    pub(crate) fn now(&mut self) -> Stamp {
        let (shown, known) = (self.ambient.now(), self.progress.counters.clock_at);
        if shown < Stamp::PLAUSIBLE || known <= shown.plus(limits::CLOCK_OFF) { shown.max(known) } else { shown }
    }

    /// A new id. Its time is never before what was purged: an id tells how old a message or session is.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn new_id(&mut self, kind: IdKind) -> Result<String, StoreError> {
        let floor = self.floor()?.max(self.now());
        loop {
            let id = self.ids.next(kind, &mut NotBefore { ambient: self.ambient, floor });
            // After a clock that was ahead was put right, it may come to a millisecond a second time.
            let Counters { last_at, highest_at, .. } = self.progress.counters;
            if last_at == highest_at || !self.is_taken(kind, &id)? {
                return Ok(id);
            }
        }
    }

    fn is_taken(&self, kind: IdKind, id: &str) -> Result<bool, StoreError> {
        let sql = match kind {
            IdKind::Event => "SELECT 1 FROM events WHERE event_id = ?1",
            IdKind::Message | IdKind::Session => "SELECT 1 FROM events WHERE target = ?1",
        };
        Ok(self.conn.prepare_cached(sql)?.exists([id])?)
    }

    /// Stamps, signs, numbers, stores and folds an event of ours. `after` is the instant of what it answers or confirms: the event
    /// is later than that, if that clock can be believed, and later than all of ours before.
    ///
    /// # Errors
    /// SQLite's; [`ErrorKind::Invalid`] if the event would be too large, or a field of it exceeds the [`bounds`].
    pub fn append(&mut self, payload: Payload, after: Option<Stamp>) -> Result<Event, StoreError> {
        let believed = self.now().plus(limits::CLOCK_OFF);
        // A clock that is far ahead elsewhere must not become ours: what we write would look new for ever.
        self.append_at(payload, after.filter(|after| *after <= believed))
    }

    /// The same for an event that takes the place of an earlier one of ours, or hides it, whose instant is `after`. It is later
    /// than that one even if that one lies ahead, because our clock was wrong then: else it would not count. The events
    /// after it are stamped by the clock again.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    pub(crate) fn append_over(&mut self, payload: Payload, after: Option<Stamp>) -> Result<Event, StoreError> {
        self.append_at(payload, after)
    }

    fn append_at(&mut self, mut payload: Payload, after: Option<Stamp>) -> Result<Event, StoreError> {
        bounds::check(&mut payload)?;
        self.heed_clock()?;
        let now = self.now();
        let after = after.map_or(Stamp::ZERO, Stamp::next);
        // A clock that was set back, or is behind, must not make what is new look purged.
        let clock = now.max(self.progress.counters.last_at.next()).max(self.floor()?);
        let id = self.new_id(IdKind::Event)?;
        // Ids run ahead where many are made while the clock stands. The next run's begin after the last instant.
        let at = clock.max(after).max(ids::ulid_time(&id).unwrap_or_default());
        let Counters { log_id, next_origin_seq, .. } = &self.progress.counters;
        let event = Draft { id, at, payload: &payload }
            .seal(self.key, log_id, *next_origin_seq)
            .map_err(|error| Fault::new(ErrorKind::Invalid, format!("the event cannot be stored: {error}")))?;
        let sequence = self.insert(&event, "", target(&payload))?;
        self.progress.counters.next_origin_seq += 1;
        self.progress.counters.last_at = if at <= clock.plus(limits::CLOCK_OFF) { at } else { clock };
        self.progress.counters.highest_at = self.progress.counters.highest_at.max(at);
        fold::fold(self, &event, sequence, Ok(payload))?;
        fold::finish(self)?;
        Ok(event)
    }

    /// Stores what a pull brought, together with how far the peer's log was read (I4). Events that are here already or that a
    /// purge forbids are skipped; one that cannot be folded is parked and stops nothing (I5).
    ///
    /// # Errors
    /// Only the disk's: then nothing of the batch is stored and the same pull may be repeated.
    pub fn apply(&mut self, batch: &Batch) -> Result<Applied, StoreError> {
        self.heed_clock()?;
        let mut outcome = Applied { rejected: batch.rejected.len(), ..Applied::default() };
        for rejected in &batch.rejected {
            self.reject(&batch.peer, rejected)?;
        }
        for event in &batch.events {
            if let Some(held) = self.held(event)? {
                outcome.skipped += 1;
                if held != event.body {
                    outcome.collided += 1;
                    let reason = "an event with this id and other content is here already".to_owned();
                    let sample = event.body[..event.body.floor_char_boundary(limits::MAX_REJECTED_SAMPLE_BYTES)].to_owned();
                    self.reject(&batch.peer, &Rejected { id: event.id.clone(), reason, sample })?;
                }
                continue;
            }
            let payload = Payload::read(&event.kind, &event.body);
            let target = payload.as_ref().map_or(None, target);
            let aged = fold::Aged { id: &event.id, origin: &event.origin, kind: &event.kind, at: event.at, target };
            let is_purged = fold::is_purged(self.conn, aged, self.cutoff()?)?;
            let Counters { log_id, next_origin_seq, .. } = &self.progress.counters;
            let is_ours = event.origin == self.id.as_str() && event.log == **log_id;
            // Its number was given out here, and its row is gone: purged, or lost to the disk. Then it comes back.
            let is_known = is_ours && event.seq < *next_origin_seq && (is_purged || !self.holds_number(event)?);
            if is_ours && !is_known {
                // We signed it and do not have it: this database is older than the log it claims to be, also if it has
                // given out the same number again meanwhile.
                tracing::warn!(event = %event.id, "a peer holds an event of ours that this database never assigned: a new log begins");
                self.progress.counters.begin_log(self.ambient);
            }
            if is_purged {
                self.progress.keep_out(event);
                outcome.skipped += 1;
                continue;
            }
            let sequence = self.insert(event, &batch.peer, target)?;
            fold::fold(self, event, sequence, payload)?;
            outcome.applied += 1;
        }
        outcome.purged = self.later.purges();
        fold::finish(self)?;
        if outcome.rejected + outcome.collided > 0 {
            self.trim_rejected(&batch.peer)?;
        }
        if batch.checkpoint > 0 {
            let now = self.now().nanos();
            self.conn
                .prepare_cached("INSERT OR REPLACE INTO checkpoints (peer, log, sequence, at, event_id) VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute((&batch.peer, &batch.log, batch.checkpoint, now, &batch.checkpoint_event))?;
        }
        Ok(outcome)
    }

    /// Sees to it that what is written from now on is later than these, as far as they are ours: they come from a database of ours
    /// whose clock is lost.
    pub(crate) fn keep_clock(&mut self, events: &[Event]) {
        let now = self.now();
        let ours = events.iter().filter(|event| event.origin == self.id.as_str()).map(|event| event.at);
        let counters = &mut self.progress.counters;
        counters.highest_at = ours.fold(counters.highest_at, Stamp::max);
        // A clock that was far ahead must not be believed again.
        counters.last_at = counters.highest_at.min(now.plus(limits::CLOCK_OFF));
    }

    /// Forgets how far a removed peer's logs were read, and how much of what it served was rejected.
    ///
    /// # Errors
    /// SQLite's.
    pub fn forget(&mut self, peer: &str) -> Result<(), StoreError> {
        self.conn.execute("DELETE FROM checkpoints WHERE peer = ?1", [peer])?;
        self.conn.execute("DELETE FROM rejections WHERE peer = ?1", [peer])?;
        // Paired again, what it serves then would be no news.
        self.conn.execute("DELETE FROM rejected WHERE peer = ?1", [peer])?;
        Ok(())
    }

    /// What is here under the id and the signer of an event.
    fn held(&self, event: &Event) -> Result<Option<String>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT body FROM events WHERE event_id = ?1 AND signer = ?2")?;
        Ok(statement.query_row((&event.id, event.signer()), |row| row.get(0)).optional()?)
    }

    /// Whether there is an event at this one's place in its log.
    fn holds_number(&self, event: &Event) -> Result<bool, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT 1 FROM events WHERE origin_daemon = ?1 AND origin_log = ?2 AND origin_seq = ?3")?;
        Ok(statement.exists((&event.origin, &event.log, event.seq))?)
    }

    fn insert(&mut self, event: &Event, source: &str, target: Option<&str>) -> Result<u64, StoreError> {
        let sequence = self.progress.counters.next_sequence;
        self.conn.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?.execute((
            sequence,
            &event.id,
            &event.kind,
            event.at.nanos(),
            &event.origin,
            &event.log,
            event.seq,
            source,
            target,
            &event.body,
        ))?;
        self.progress.counters.next_sequence += 1;
        self.frontier = sequence;
        if !source.is_empty() && self.restores(event)? {
            self.progress.restore(event, source, sequence);
        } else {
            self.progress.count(event, source, sequence);
        }
        self.note_arrival(event, sequence, target)?;
        Ok(sequence)
    }

    /// Gives a row that waited for its target a new number, behind it: a peer that reads rows in order and cannot keep one
    /// that it cannot apply yet gets it now. Those that have it skip it by its id; numbers say nothing else.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn move_to_end(&mut self, sequence: u64) -> Result<u64, StoreError> {
        let end = self.progress.counters.next_sequence;
        let source: String = self
            .conn
            .prepare_cached("UPDATE events SET sequence = ?2 WHERE sequence = ?1 RETURNING received_from")?
            .query_row((sequence, end), |row| row.get(0))?;
        self.conn.prepare_cached("UPDATE ahead SET sequence = ?2 WHERE sequence = ?1")?.execute((sequence, end))?;
        self.progress.counters.next_sequence += 1;
        self.frontier = end;
        self.progress.by_source.insert(source, end);
        Ok(end)
    }

    fn reject(&mut self, peer: &str, rejected: &Rejected) -> Result<(), StoreError> {
        let now = self.now().nanos();
        let news = self
            .conn
            .prepare_cached(
                "INSERT INTO rejected (at, peer, event_id, reason, sample) SELECT ?1, ?2, ?3, ?4, ?5
                 WHERE NOT EXISTS (SELECT 1 FROM rejected WHERE peer = ?2 AND event_id = ?3 AND reason = ?4)",
            )?
            .execute((now, peer, &rejected.id, &rejected.reason, &rejected.sample))?;
        // Served once more it is no news.
        if news == 0 {
            return Ok(());
        }
        self.conn
            .prepare_cached(
                "INSERT INTO rejections VALUES (?1, 1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET
                     times = times + 1, at = excluded.at, event_id = excluded.event_id, reason = excluded.reason",
            )?
            .execute((peer, now, &rejected.id, &rejected.reason))?;
        Ok(())
    }

    /// Lets go of rejected rows beyond the bounds. Once per batch.
    fn trim_rejected(&self, peer: &str) -> Result<(), StoreError> {
        let half = limits::MAX_REJECTED_OF_PEER / 2;
        self.conn
            .prepare_cached(
                "DELETE FROM rejected WHERE peer = ?1
                 AND number NOT IN (SELECT number FROM rejected WHERE peer = ?1 ORDER BY number LIMIT ?2)
                 AND number NOT IN (SELECT number FROM rejected WHERE peer = ?1 ORDER BY number DESC LIMIT ?2)",
            )?
            .execute((peer, half))?;
        self.conn
            .prepare_cached(
                "DELETE FROM rejected WHERE number IN (
                     SELECT number FROM (SELECT number, row_number() OVER (PARTITION BY peer ORDER BY number DESC) AS nth FROM rejected)
                     ORDER BY nth DESC, number LIMIT max(0, (SELECT count(*) FROM rejected) - ?1))",
            )?
            .execute([limits::MAX_REJECTED_ROWS])?;
        Ok(())
    }
}

/// A clock that shows nothing before an instant.
struct NotBefore<'a> {
    ambient: &'a mut dyn Ambient,
    floor: Stamp,
}

impl Ambient for NotBefore<'_> {
    fn now(&mut self) -> Stamp {
        self.ambient.now().max(self.floor)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        self.ambient.fill(buffer);
    }
}

/// What an event is about, where the fold may have to find it again by that.
pub(crate) fn target(payload: &Payload) -> Option<&str> {
    match payload {
        Payload::MessageCreate(body) => Some(&body.message_id),
        Payload::MessageEdit(body) => Some(&body.message_id),
        Payload::MessageDelete(body) => Some(&body.message_id),
        Payload::MessageReceipt(body) => Some(&body.message_id),
        Payload::SessionStart(body) => Some(&body.session_id),
        Payload::SessionEnd(body) => Some(&body.session_id),
        Payload::AgentRegister(body) => Some(&body.agent_id),
        _ => None,
    }
}
