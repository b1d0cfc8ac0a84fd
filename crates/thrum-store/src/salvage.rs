//! Salvages the events of a damaged database into a new one.
//!
//! The file is read page by page, independently of SQLite: a page with rows of the log is recognised by its own
//! contents, so a broken header or parent page does not hide its rows. A row is accepted if its text is an event in
//! canonical form that agrees with the columns beside it and, if its origin signs, if the signature is valid. Altered
//! rows are left out; peers that have the original serve it again. Rows of formats before 27, which have ids in place of
//! numbers, are read as well.
//!
//! The new database begins a new log, because it is unknown which sequences the old one assigned. It has no
//! checkpoints, because lost events may lie before the old checkpoints in the peers' logs. So every peer is read from
//! its start, and events that are present are skipped. The projection is folded anew. The ranges of purged origin
//! sequences are copied, so that these events are not requested again; cutoffs are folded again from the purges in the
//! log. All other data (acknowledgements, idempotency keys, signs of life) is left behind.

mod pages;

use std::{collections::BTreeMap, ops::RangeInclusive, path::Path};

use thrum_core::{
    Ambient, Event, RangeSet,
    compare::LogOf,
    event::{self, Candidate},
    exchange::Batch,
    limits,
};

use crate::{OpenOptions, Store, StoreError, migrate, numbers::NOBODY, purged_ranges};
use pages::{Cell, Pages, Value};

/// The result of salvaging a damaged database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Number of events salvaged.
    pub events: u64,
    /// Number of rows that could be read but not accepted.
    pub altered: u64,
    /// Number of events of the damaged database that were not salvaged, as far as the rest of the file shows.
    pub lost: u64,
    /// The lost events with known origin sequences, by log.
    pub missing: BTreeMap<LogOf, RangeSet>,
    /// Whether the file has rows but none of a log, and its header does not mark it as a database of ours in a known
    /// version. It may belong to another program.
    pub is_foreign: bool,
}

/// Everything recognised in a file.
#[derive(Default)]
struct Survey {
    rows: Vec<RowPosition>,
    /// The origin sequences that the index over them lists, by log, in a format before 27.
    indexed: BTreeMap<LogOf, RangeSet>,
    /// The origin sequences that the index over them lists, by the number of the log.
    numbered: BTreeMap<i64, RangeSet>,
    ids: Ids,
    /// The origin sequences that purges removed or kept out.
    purged: BTreeMap<LogOf, RangeSet>,
    /// Whether there are any other rows or entries.
    has_others: bool,
}

/// The ids for which numbers stand, as far as they were found.
#[derive(Default)]
struct Ids {
    daemons: BTreeMap<i64, String>,
    /// The number of the origin, and the id of the log.
    logs: BTreeMap<i64, (i64, String)>,
    /// Logs whose ids were taken from an event.
    of_events: BTreeMap<i64, LogOf>,
}

impl Ids {
    fn log(&self, number: i64) -> Option<LogOf> {
        let named = self
            .logs
            .get(&number)
            .and_then(|(origin, log)| Some(LogOf { origin: self.daemons.get(origin)?.clone(), log: log.clone() }));
        named.or_else(|| self.of_events.get(&number).cloned())
    }

    fn is_empty(&self) -> bool {
        self.daemons.is_empty() && self.logs.is_empty()
    }
}

/// The position of a row of the log.
struct RowPosition {
    sequence: u64,
    page: u32,
    cell: usize,
}

/// Copies every readable event of the file at `from` (and of the write-ahead log beside it) into a new database at
/// `to`. Does not change the file at `from`.
///
/// # Errors
/// The file cannot be opened, or the new one cannot be written. The file at `to` is then useless.
pub fn salvage(
    from: &Path,
    to: &Path,
    options: OpenOptions,
    ambient: Box<dyn Ambient>,
) -> Result<Salvaged, StoreError> {
    let mut pages = Pages::open(from).map_err(|error| StoreError::ReadOnly(format!("{}: {error}", from.display())))?;
    let mut seen = survey(&pages);
    // Trust the page size in the header only if more rows are found with it.
    if let Some(by_header) = Pages::of_header_size(from) {
        let by_header_seen = survey(&by_header);
        if by_header_seen.rows.len() > seen.rows.len() {
            (pages, seen) = (by_header, by_header_seen);
        }
    }
    let Survey { mut rows, mut indexed, numbered, mut ids, purged, has_others } = seen;
    rows.sort_unstable_by_key(|row| row.sequence);
    let mut store = Store::open(to, OpenOptions { new_log: true, ..options }, ambient)?;
    let is_foreign =
        has_others && !is_ours(&pages) && rows.is_empty() && indexed.is_empty() && ids.is_empty() && purged.is_empty();
    let mut salvaged = Salvaged { is_foreign, ..Salvaged::default() };
    for chunk in rows.chunks(limits::MAX_BATCH_EVENTS) {
        let (batches, altered) = read_events(&pages, chunk, &mut ids);
        salvaged.altered += altered;
        let applied = store.write(|tx| {
            let mut applied = 0;
            for batch in &batches {
                tx.keep_clock(&batch.events);
                applied += tx.apply(batch)?.applied;
            }
            Ok(applied)
        })?;
        salvaged.events += applied as u64;
    }
    store.write(|tx| {
        purged
            .iter()
            .try_for_each(|(of, sequences)| purged_ranges::add(tx.conn, &of.origin, &of.log, sequences, usize::MAX))
    })?;
    for (log, sequences) in numbered {
        match ids.log(log) {
            Some(of) => indexed.entry(of).or_default().extend(&sequences),
            // Neither the id of the log nor any event of it could be read.
            None => salvaged.lost = salvaged.lost.saturating_add(sequences.count()),
        }
    }
    for (of, had) in indexed {
        let numbers = store.reader().numbers(&of, 0, usize::MAX)?;
        let missing = had.without(&numbers.held).without(&numbers.purged);
        if !missing.is_empty() {
            salvaged.lost = salvaged.lost.saturating_add(missing.count());
            salvaged.missing.insert(of, missing);
        }
    }
    salvaged.lost = salvaged.lost.max(salvaged.altered);
    store.close()?;
    Ok(salvaged)
}

/// Returns `true` if the header marks the database as ours, and as a version that this program knows.
fn is_ours(pages: &Pages) -> bool {
    let Some(page) = pages.page(1) else { return false };
    let word =
        |at: usize| page.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes).map(i64::from);
    word(68) == Some(migrate::APPLICATION_ID)
        && word(60).is_some_and(|version| (1..=migrate::newest()).contains(&version))
}

fn survey(pages: &Pages) -> Survey {
    let mut seen = Survey::default();
    for number in pages.numbers() {
        let Some(page) = pages.page(number) else { continue };
        for (at, cell) in pages.cells(&page, number == 1).iter().enumerate() {
            if row(cell).is_some() {
                seen.rows.push(RowPosition { sequence: cell.row, page: number, cell: at });
            } else if let Some((of, sequence)) = entry(cell) {
                seen.indexed.entry(of).or_default().add(sequence);
            } else if let Some((log, sequence)) = numbered_entry(cell) {
                seen.numbered.entry(log).or_default().add(sequence);
                // Databases of other programs may have entries of the same shape.
                seen.has_others = true;
            } else if let Some([Value::Null, Value::Text(id), Value::Text("daemon")]) = cell.values::<3>() {
                seen.ids.daemons.insert(cell.row.cast_signed(), id.to_owned());
            } else if let Some([Value::Null, Value::Integer(origin), Value::Text(log), Value::Text("log")]) =
                cell.values::<4>()
            {
                seen.ids.logs.insert(cell.row.cast_signed(), (origin, log.to_owned()));
            } else if let Some((of, range)) = purged_range(cell) {
                seen.purged.entry(of).or_default().insert(range);
            } else {
                seen.has_others |= cell.is_record();
            }
        }
    }
    seen
}

/// The columns of a row of the log.
struct Columns<'a> {
    id: &'a str,
    kind: &'a str,
    attribution: Attribution<'a>,
    body: &'a str,
}

/// The log to which an event belongs, and the peer that served it.
enum Attribution<'a> {
    /// As ids, in a format before 27.
    Ids {
        origin: &'a str,
        log: &'a str,
        source: &'a str,
    },
    Numbers {
        log: i64,
        source: i64,
    },
}

fn row(cell: &Cell) -> Option<Columns<'_>> {
    let (id, kind, attribution, number, target, body) = match cell.values::<10>()? {
        [
            Value::Null,
            id,
            Value::Integer(_),
            kind,
            Value::Integer(_),
            Value::Integer(log),
            number,
            Value::Integer(source),
            target,
            body,
        ] => (id, kind, Attribution::Numbers { log, source }, number, target, body),
        [Value::Null, id, kind, Value::Integer(_), origin, log, number, source, target, body] => {
            let attribution = Attribution::Ids { origin: origin.text()?, log: log.text()?, source: source.text()? };
            (id, kind, attribution, number, target, body)
        }
        _ => return None,
    };
    if !matches!(target, Value::Null | Value::Text(_)) {
        return None;
    }
    number.number()?;
    let body = body.text().filter(|body| body.starts_with('{'))?;
    Some(Columns { id: id.text()?, kind: kind.text()?, attribution, body })
}

/// Parses an entry of the index over origin sequences: the number of the log, and the origin sequence.
fn numbered_entry(cell: &Cell) -> Option<(i64, u64)> {
    let [log, number, sequence] = cell.values::<3>()?;
    // An entry of the index over messages by time has the same shape, but a timestamp in the first column, and one of the
    // index over unread mail in the second.
    let log = log.number().filter(|log| (1..LATEST).contains(log))?;
    let number = number.number().filter(|number| (1..LATEST).contains(number))?;
    sequence.number().filter(|sequence| *sequence < LATEST)?;
    Some((log.cast_signed(), number))
}

/// Parses an entry of the index over origin sequences in a format before 27.
fn entry(cell: &Cell) -> Option<(LogOf, u64)> {
    let [origin, log, number, sequence] = cell.values::<4>()?;
    let (origin, log) = (origin.text()?, log.text()?);
    // A row of `residences`, and an entry of an early version's index over readers, has the same shape, but a timestamp
    // in this column.
    let number = number.number().filter(|number| (1..LATEST).contains(number))?;
    // A cursor, and a checkpoint of an early version, has the same shape, but a timestamp in the last column.
    sequence.number().filter(|sequence| *sequence < LATEST)?;
    Some((LogOf { origin: origin.to_owned(), log: log.to_owned() }, number))
}

/// Bound below which a number in an index entry is taken for a sequence, not for a timestamp in nanoseconds. Every
/// sequence lies below, including those of a new log (`Counters::begin_log`), and every timestamp far above.
const LATEST: u64 = 1 << 53;

/// Parses a row of the table of origin sequences whose events a purge removed or kept out.
fn purged_range(cell: &Cell) -> Option<(LogOf, RangeInclusive<u64>)> {
    let [origin, log, first, last, Value::Text("purged")] = cell.values::<5>()? else { return None };
    let (first, last) = (first.number().filter(|first| *first > 0)?, last.number()?);
    (first <= last)
        .then(|| Some((LogOf { origin: origin.text()?.to_owned(), log: log.text()?.to_owned() }, first..=last)))?
}

/// Returns the acceptable events of some rows, in order and grouped by source, and the number of rows that are not
/// acceptable. Adds to `ids` what events show of their logs.
fn read_events(pages: &Pages, rows: &[RowPosition], ids: &mut Ids) -> (Vec<Batch>, u64) {
    let mut altered = 0;
    let mut candidates: Vec<(String, Candidate)> = Vec::with_capacity(rows.len());
    let mut at: (u32, Vec<Cell>) = (0, Vec::new());
    for position in rows {
        if at.0 != position.page {
            at = (
                position.page,
                pages.page(position.page).map(|page| pages.cells(&page, position.page == 1)).unwrap_or_default(),
            );
        }
        let Some(columns) = at.1.get(position.cell).and_then(row) else { continue };
        let Some(candidate) = candidate(&columns, ids) else {
            altered += 1;
            continue;
        };
        let source = match columns.attribution {
            Attribution::Ids { source, .. } => source.to_owned(),
            Attribution::Numbers { source: NOBODY, .. } => String::new(),
            // If the peer's id is lost, the event counts as served by its origin.
            Attribution::Numbers { source, .. } => {
                ids.daemons.get(&source).unwrap_or(&candidate.event().origin).clone()
            }
        };
        candidates.push((source, candidate));
    }
    let sources: Vec<(String, String)> =
        candidates.iter().map(|(source, candidate)| (candidate.event().id.clone(), source.clone())).collect();
    let (events, refused) = event::admit(candidates.into_iter().map(|(_, candidate)| candidate).collect());
    altered += refused.len() as u64;
    let mut sources = sources.into_iter();
    let mut batches: Vec<Batch> = Vec::new();
    for event in events {
        // `sources` and the events have the same order; refused events are only in `sources`.
        let source = sources.by_ref().find(|(id, _)| *id == event.id).map(|(_, source)| source).unwrap_or_default();
        match batches.last_mut().filter(|batch| batch.peer == source) {
            Some(batch) => batch.events.push(event),
            None => batches.push(Batch {
                peer: source,
                log: String::new(),
                checkpoint: 0,
                checkpoint_event: String::new(),
                events: vec![event],
                rejected: Vec::new(),
            }),
        }
    }
    (batches, altered)
}

/// Returns the event of a row if its text is an event in canonical form that agrees with the columns. If the id of its
/// log was lost, the event shows it.
fn candidate(columns: &Columns<'_>, ids: &mut Ids) -> Option<Candidate> {
    let candidate = Candidate::read(columns.body, &[]).ok()?;
    let Event { id, kind, origin, log, body, .. } = candidate.event();
    let is_of_log = match columns.attribution {
        Attribution::Ids { origin: origin_beside, log: log_beside, .. } => origin == origin_beside && log == log_beside,
        Attribution::Numbers { log: number, .. } => {
            let shown = LogOf { origin: origin.clone(), log: log.clone() };
            let known = ids.log(number);
            if known.is_none() {
                ids.of_events.insert(number, shown.clone());
            }
            known.is_none_or(|known| known == shown)
        }
    };
    let agrees = id == columns.id && kind == columns.kind && is_of_log && body == columns.body;
    agrees.then_some(candidate)
}

/// Counts the rows of a readable database's log that hold no acceptable event.
///
/// # Errors
/// SQLite's.
pub(crate) fn altered(conn: &rusqlite::Connection) -> Result<u64, StoreError> {
    let mut statement =
        conn.prepare("SELECT event_id, type, origin_daemon, origin_log, received_from, body FROM events")?;
    let mut rows = statement.query([])?;
    let mut altered = 0;
    let mut candidates = Vec::new();
    loop {
        let row = rows.next()?;
        if candidates.len() == limits::MAX_BATCH_EVENTS || row.is_none() {
            altered += event::admit(std::mem::take(&mut candidates)).1.len() as u64;
        }
        let Some(row) = row else { return Ok(altered) };
        let text = |column: usize| row.get_ref(column).ok().and_then(|value| value.as_str().ok()).unwrap_or_default();
        let attribution = Attribution::Ids { origin: text(2), log: text(3), source: text(4) };
        let columns = Columns { id: text(0), kind: text(1), attribution, body: text(5) };
        match candidate(&columns, &mut Ids::default()) {
            Some(candidate) => candidates.push(candidate),
            None => altered += 1,
        }
    }
}
