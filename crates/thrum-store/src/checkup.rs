//! Checks the integrity of a database while its daemon may be running.
//!
//! The file is read through a connection of its own, which neither waits for other connections nor blocks them.
//! Everything that must be recomputed is recomputed on a copy: the projection is folded from the log, the heads are
//! counted, and both are compared with the copy's original contents.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use thrum_core::{Ambient, DaemonId, DaemonKey, Timestamp};

use crate::{Ahead, OpenOptions, Reader, Store, StoreError, Tx, connection, digest, fold, migrate, salvage};

/// Maximum number of faults that SQLite is asked to list in a [`Checkup`]; one is enough to detect damage.
const FAULTS: u32 = 5;

/// The result of a checkup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkup {
    /// Number of events in the log. This number and the two times are 0 if the file is damaged or of another version.
    pub events: u64,
    /// Time after which the next own event is stamped: that of our last event, unless our clock was far ahead
    /// meanwhile. Zero if there is no own event.
    pub last_at: Timestamp,
    /// The latest time that this machine's clock showed at a write, since the clock was last corrected.
    /// [`last_at`](Self::last_at) may be later, because an event is stamped after the event that it answers.
    pub clock_at: Timestamp,
    /// Origins whose events lie ahead of the clock by more than [`CLOCK_OFF`](thrum_core::limits::CLOCK_OFF), as far as
    /// the daemon has detected; see [`Reader::ahead`].
    pub ahead: Vec<Ahead>,
    /// The faults that SQLite finds in the file, or one line about events with altered text; empty if there are none.
    pub damage: Vec<String>,
    /// Origins whose stored heads differ from the log.
    pub heads: Compared<Vec<String>>,
    /// Whether the stored projection, with the mailboxes, equals the one folded from the log.
    pub projection: Compared<bool>,
}

/// The result of a comparison, or the reason why it was not possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared<T> {
    /// The result of the comparison.
    Found(T),
    /// The reason why the comparison is not possible now.
    Not(&'static str),
}

impl Checkup {
    /// Examines the database at `path`; returns `None` if there is none yet. Takes about one second per 20,000 events,
    /// and needs room for a copy of the database in `scratch`.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Gos`], [`StoreError::Foreign`]; those of the disk.
    pub fn examine(path: &Path, scratch: &Path, ambient: Box<dyn Ambient>) -> Result<Option<Self>, StoreError> {
        if !path.try_exists().map_err(|error| StoreError::ReadOnly(error.to_string()))? {
            return Ok(None);
        }
        match Self::of_whole(path, scratch, ambient) {
            // Damage that stops SQLite from reading is a result, not an error.
            Err(StoreError::Damaged(why)) => Ok(Some(Self::damaged(vec![why]))),
            found => found.map(Some),
        }
    }

    /// The result for a database that cannot be read, with the reasons.
    pub fn damaged(damage: Vec<String>) -> Self {
        Self::not_compared(damage, "the file is damaged")
    }

    fn not_compared(damage: Vec<String>, why: &'static str) -> Self {
        Self {
            events: 0,
            last_at: Timestamp::ZERO,
            clock_at: Timestamp::ZERO,
            ahead: Vec::new(),
            damage,
            heads: Compared::Not(why),
            projection: Compared::Not(why),
        }
    }

    fn of_whole(path: &Path, scratch: &Path, mut ambient: Box<dyn Ambient>) -> Result<Self, StoreError> {
        let conn = connection::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let is_current = migrate::check(&conn)? == migrate::newest();
        let damage = damage(&conn, FAULTS)?;
        if !damage.is_empty() {
            return Ok(Self::damaged(damage));
        }
        if !is_current {
            return Ok(Self::not_compared(damage, "another version made it; it is folded again at the next start"));
        }
        let copy = scratch.join("copy.db");
        conn.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
        drop(conn);
        let conn = connection::connect(&copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let (last_at, clock_at, version, mailboxes_of): (i64, i64, i64, String) =
            conn.query_row("SELECT last_at, clock_at, fold_version, mailboxes_of FROM state", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
        let events: u64 = conn.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?;
        let ahead = Reader::new(&conn, "").ahead(ambient.now())?;
        let unequal = unequal(&conn)?;
        // Lost rows are one cause of unequal heads. Rows with altered text are worse: a repair would count and keep
        // them.
        let altered = if unequal.is_empty() { 0 } else { salvage::altered(&conn)? };
        if altered > 0 {
            return Ok(Self::damaged(vec![format!(
                "the text of {altered} of its {events} events is not what was stored"
            )]));
        }
        let heads = Compared::Found(unequal);
        let waits = fold::waits(&conn)?;
        let projection = if version != fold::VERSION {
            Compared::Not("another version folded it; it is folded again at the next start")
        } else if waits {
            Compared::Not("a purge waits for its time, or is not done yet")
        } else if fold::is_pending(&conn)? {
            Compared::Not("the daemon is still at work on what earlier events left")
        } else {
            let before = (digest::projection(&conn)?, digest::mailboxes(&conn)?);
            drop(conn);
            // Open the copy for the daemon whose mailboxes it holds. No event is signed there, so a temporary key
            // suffices.
            let key = DaemonKey::generate(ambient.as_mut());
            let id = DaemonId::parse(&mailboxes_of).unwrap_or_else(|| key.id());
            let mut store = Store::open_as(&copy, id, OpenOptions::new(key, None), ambient)?;
            store.rebuild()?;
            Compared::Found(before == (store.projection()?, store.mailboxes()?))
        };
        Ok(Self {
            events,
            last_at: Timestamp::from_nanos(last_at),
            clock_at: Timestamp::from_nanos(clock_at),
            ahead,
            damage,
            heads,
            projection,
        })
    }
}

/// The condition of a database, which determines the part that must be rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Intact: nothing must be rebuilt, except perhaps the heads, which the daemon repairs by itself.
    Whole,
    /// Only indexes are damaged and must be rebuilt: all rows are present and agree with the heads.
    Indexes,
    /// Rows are damaged or lost: the entire database must be rebuilt.
    Damaged,
}

impl Condition {
    /// Determines the condition of the database at `path`. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Gos`], [`StoreError::Foreign`]; any other error that prevents the check and
    /// is not damage.
    pub fn of(path: &Path) -> Result<Self, StoreError> {
        match Self::of_readable(path) {
            Err(StoreError::Damaged(_)) => Ok(Self::Damaged),
            known => known,
        }
    }

    fn of_readable(path: &Path) -> Result<Self, StoreError> {
        let conn = connection::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let is_current = migrate::check(&conn)? == migrate::newest();
        let damage = damage(&conn, INDEX_FAULTS)?;
        // Lost rows may leave only index entries as a trace, and rebuilt indexes would not have these.
        let is_complete = || -> Result<bool, StoreError> { Ok(is_current && unequal(&conn)?.is_empty()) };
        Ok(match damage.len() {
            // The daemon repairs heads that are merely wrong. The heads of another version's database are not compared
            // before it is migrated.
            0 if !is_current || unequal(&conn)?.is_empty() || salvage::altered(&conn)? == 0 => Self::Whole,
            0 => Self::Damaged,
            faults
                if faults < INDEX_FAULTS as usize
                    && damage.iter().all(|fault| is_of_index(fault))
                    && is_complete()? =>
            {
                Self::Indexes
            }
            _ => Self::Damaged,
        })
    }
}

/// Maximum number of faults that SQLite is asked to list for a [`Condition`]. With this many, the list may be
/// incomplete, and the damage is not taken to be limited to indexes.
const INDEX_FAULTS: u32 = 10_000;

/// Returns `true` if SQLite reports this fault for an index, not for a page.
fn is_of_index(fault: &str) -> bool {
    ["row ", "wrong # of entries in index ", "non-unique entry in index ", "rowid not at end-of-record for row "]
        .iter()
        .any(|begin| fault.starts_with(begin))
        && fault.contains(" index ")
}

/// Rebuilds the indexes of a database that no process uses. Returns `true` if the database is intact afterwards.
///
/// # Errors
/// [`StoreError::Full`], [`StoreError::ReadOnly`]: the database is unchanged. SQLite's, if the result cannot be
/// checked.
pub fn reindex(path: &Path) -> Result<bool, StoreError> {
    let conn = connection::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    match conn.execute_batch("REINDEX").map_err(StoreError::from) {
        // For example, a value of a unique index occurs twice.
        Err(StoreError::Damaged(_) | StoreError::Sqlite(_)) => return Ok(false),
        done => done?,
    }
    Ok(damage(&conn, 1)?.is_empty())
}

/// The lines in which SQLite reports the faults of the file, at most `most` faults. A fault may have several lines.
///
/// # Errors
/// Errors other than damage: out of memory, a lock, missing permission.
pub(crate) fn damage(conn: &Connection, most: u32) -> Result<Vec<String>, StoreError> {
    let mut statement = conn.prepare(&format!("PRAGMA integrity_check({most})"))?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    // A page that cannot be read ends the check with an error; report it as a fault.
    let found: Vec<String> = rows
        .map(|row| row.or_else(|error| if is_damage(&error) { Ok(error.to_string()) } else { Err(error) }))
        .collect::<Result<_, _>>()?;
    // A fault may have a heading, such as `*** in database main ***`.
    Ok(found
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| *line != "ok" && !line.starts_with("***"))
        .map(str::to_owned)
        .collect())
}

fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error();
    let is_memory = code.is_some_and(|code| code.extended_code == rusqlite::ffi::SQLITE_IOERR_NOMEM);
    let is_of_file =
        |code| matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SystemIoFailure);
    !is_memory && error.sqlite_error_code().is_some_and(is_of_file)
}

fn unequal(conn: &Connection) -> Result<Vec<String>, StoreError> {
    let (kept, counted) = (digest::heads(conn)?, digest::recount(conn)?);
    let mut origins: Vec<String> = kept
        .iter()
        .chain(counted.iter())
        .filter(|head| kept.get(&head.origin, &head.log) != counted.get(&head.origin, &head.log))
        .map(|head| head.origin.clone())
        .collect();
    origins.sort();
    origins.dedup();
    Ok(origins)
}

impl Store {
    /// Rebuilds the data derived from the log: the projection and the heads. Counts of purged events stay as they are.
    ///
    /// # Errors
    /// Those of [`write`](Self::write); the store is then unchanged, unless COMMIT failed.
    pub fn repair(&mut self) -> Result<(), StoreError> {
        self.write(|tx| tx.repair())
    }
}

impl Tx<'_> {
    /// Rebuilds the projection and the heads within this transaction. Reads every event twice and blocks all other
    /// writes.
    ///
    /// # Errors
    /// SQLite's.
    pub fn repair(&mut self) -> Result<(), StoreError> {
        // Write out what other jobs in this transaction counted, because their rows are already in the log.
        self.progress.flush(self.conn)?;
        let counted = digest::recount(self.conn)?;
        self.conn.execute("DELETE FROM heads", [])?;
        for head in counted.iter() {
            self.conn
                .prepare_cached(
                    "INSERT INTO heads (origin, log, count, highest, sum, purged, purged_sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute((
                    &head.origin,
                    &head.log,
                    head.count,
                    head.highest,
                    head.sum.to_bytes(),
                    head.purged,
                    head.purged_sum.to_bytes(),
                ))?;
        }
        fold::rebuild(self)
    }
}
