//! Whether a database is what it should be, found out beside its daemon.
//!
//! The file is read by one more reader, which waits for nobody and keeps nobody waiting. What has to be worked out anew is
//! worked out on a copy: the projection is folded from the log there, the heads are counted there, and both are compared
//! with what the copy came with.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use thrum_core::{Ambient, DaemonId, DaemonKey, Stamp};

use crate::{Ahead, OpenOptions, Reader, Store, StoreError, Tx, digest, fold, migrate, salvage, store};

/// Most faults that SQLite is asked to list; one is enough to know.
const FAULTS: u32 = 5;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkup {
    /// Events in the log.
    pub events: u64,
    /// Instant of our last own event.
    pub last_at: Stamp,
    /// Whose events lie ahead of the clock, as far as the daemon has found out.
    pub ahead: Vec<Ahead>,
    /// What SQLite finds wrong with the file; empty if nothing.
    pub damage: Vec<String>,
    /// Origins whose heads are not what the log has.
    pub heads: Compared<Vec<String>>,
    /// Whether the projection is what the log folds to.
    pub projection: Compared<bool>,
}

/// Something that was compared, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared<T> {
    /// What came of it.
    Found(T),
    /// Not possible now.
    Not(&'static str),
}

impl Checkup {
    /// Examines the database at `path`; `None` if there is none yet. Takes about a second per 20,000 events, and room for a
    /// copy of the database in `scratch`.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Gos`], [`StoreError::Foreign`]; the disk's.
    pub fn examine(path: &Path, scratch: &Path, ambient: Box<dyn Ambient>) -> Result<Option<Self>, StoreError> {
        if !path.try_exists().map_err(|error| StoreError::ReadOnly(error.to_string()))? {
            return Ok(None);
        }
        match Self::of_whole(path, scratch, ambient) {
            // What keeps SQLite from reading it is what was looked for.
            Err(StoreError::Damaged(why)) => Ok(Some(Self::damaged(vec![why]))),
            found => found.map(Some),
        }
    }

    /// A database that cannot be read, for these reasons.
    pub fn damaged(damage: Vec<String>) -> Self {
        let why = "the file is damaged";
        Self { events: 0, last_at: Stamp::ZERO, ahead: Vec::new(), damage, heads: Compared::Not(why), projection: Compared::Not(why) }
    }

    fn of_whole(path: &Path, scratch: &Path, mut ambient: Box<dyn Ambient>) -> Result<Self, StoreError> {
        let conn = store::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let is_current = migrate::check(&conn)? == migrate::newest();
        let damage = damage(&conn, FAULTS)?;
        if !damage.is_empty() {
            return Ok(Self::damaged(damage));
        }
        if !is_current {
            let why = "another version made it; it is folded again at the next start";
            return Ok(Self {
                events: 0,
                last_at: Stamp::ZERO,
                ahead: Vec::new(),
                damage,
                heads: Compared::Not(why),
                projection: Compared::Not(why),
            });
        }
        let copy = scratch.join("copy.db");
        conn.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
        drop(conn);
        let conn = store::connect(&copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let (last_at, version, mailboxes_of): (i64, i64, String) =
            conn.query_row("SELECT last_at, fold_version, mailboxes_of FROM state", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let events: u64 = conn.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?;
        let ahead = Reader::new(&conn, "").ahead(ambient.now())?;
        let unequal = unequal(&conn)?;
        // Rows that were lost are one reason. Rows whose text is another one now are worse: counted anew, they would stay.
        let altered = if unequal.is_empty() { 0 } else { salvage::altered(&conn)? };
        if altered > 0 {
            return Ok(Self::damaged(vec![format!("the text of {altered} of its {events} events is not what was stored")]));
        }
        let heads = Compared::Found(unequal);
        let waits = fold::waits(&conn)?;
        let projection = if version != fold::VERSION {
            Compared::Not("another version folded it; it is folded again at the next start")
        } else if waits {
            Compared::Not("a purge waits for its time")
        } else {
            let before = (digest::projection(&conn)?, digest::mailboxes(&conn)?);
            drop(conn);
            // Of the copy, which nobody writes in.
            let key = DaemonKey::generate(ambient.as_mut());
            let id = DaemonId::parse(&mailboxes_of).unwrap_or_else(|| key.id());
            let mut store = Store::open_as(&copy, id, OpenOptions::new(key, None), ambient)?;
            store.rebuild()?;
            Compared::Found(before == (store.projection()?, store.mailboxes()?))
        };
        Ok(Self { events, last_at: Stamp::from_nanos(last_at), ahead, damage, heads, projection })
    }
}

/// How much of a database has to be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Whole,
    /// Its indexes: all rows are there, and what the heads say of them is so.
    Indexes,
    /// Everything.
    Damaged,
}

impl Condition {
    /// Looks at the database at `path`. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Gos`], [`StoreError::Foreign`]; whatever else keeps from looking, and is no damage.
    pub fn of(path: &Path) -> Result<Self, StoreError> {
        match Self::of_readable(path) {
            Err(StoreError::Damaged(_)) => Ok(Self::Damaged),
            known => known,
        }
    }

    fn of_readable(path: &Path) -> Result<Self, StoreError> {
        let conn = store::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let is_current = migrate::check(&conn)? == migrate::newest();
        let damage = damage(&conn, INDEX_FAULTS)?;
        // Rows that are gone leave entries behind, which are then all that says so.
        let is_complete = || -> Result<bool, StoreError> { Ok(is_current && unequal(&conn)?.is_empty()) };
        Ok(match damage.len() {
            // Heads that are wrong are mended by themselves.
            0 if !is_current || unequal(&conn)?.is_empty() || salvage::altered(&conn)? == 0 => Self::Whole,
            0 => Self::Damaged,
            faults if faults < INDEX_FAULTS as usize && damage.iter().all(|fault| is_of_index(fault)) && is_complete()? => Self::Indexes,
            _ => Self::Damaged,
        })
    }
}

/// More faults than these are not of an index alone.
const INDEX_FAULTS: u32 = 10_000;

/// Whether SQLite says this of an index, and of no page.
fn is_of_index(fault: &str) -> bool {
    ["row ", "wrong # of entries in index ", "non-unique entry in index ", "rowid not at end-of-record for row "]
        .iter()
        .any(|begin| fault.starts_with(begin))
        && fault.contains(" index ")
}

/// Makes the indexes of a database anew that nobody uses; whether it is whole then.
///
/// # Errors
/// No room; the disk's. Nothing has changed then.
pub fn reindex(path: &Path) -> Result<bool, StoreError> {
    let conn = store::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    match conn.execute_batch("REINDEX").map_err(StoreError::from) {
        // A value that must be there once is there twice.
        Err(StoreError::Damaged(_) | StoreError::Sqlite(_)) => return Ok(false),
        done => done?,
    }
    Ok(damage(&conn, 1)?.is_empty())
}

/// What SQLite finds wrong with the file, at most `most` faults, a line each.
///
/// # Errors
/// What is no damage: no memory, a lock, no permission.
pub(crate) fn damage(conn: &Connection, most: u32) -> Result<Vec<String>, StoreError> {
    let mut statement = conn.prepare(&format!("PRAGMA integrity_check({most})"))?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    // A page that cannot even be read ends the check with an error, which is a finding.
    let found: Vec<String> = rows
        .map(|row| row.or_else(|error| if is_damage(&error) { Ok(error.to_string()) } else { Err(error) }))
        .collect::<Result<_, _>>()?;
    // One finding may have a heading (`*** in database main ***`) and several lines.
    Ok(found.iter().flat_map(|text| text.lines()).filter(|line| *line != "ok" && !line.starts_with("***")).map(str::to_owned).collect())
}

fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error();
    let is_memory = code.is_some_and(|code| code.extended_code == rusqlite::ffi::SQLITE_IOERR_NOMEM);
    let is_of_file = |code| matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SystemIoFailure);
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
    /// Makes anew what is made from the log: the projection and the heads. What was purged stays counted as it was.
    ///
    /// # Errors
    /// Those of [`write`](Self::write); everything is then as it was.
    pub fn mend(&mut self) -> Result<(), StoreError> {
        self.write(|tx| tx.mend())
    }
}

impl Tx<'_> {
    /// The same within a transaction. Looks at every event twice; nobody else writes meanwhile.
    ///
    /// # Errors
    /// SQLite's.
    pub fn mend(&mut self) -> Result<(), StoreError> {
        // What others did in this transaction is among the rows already.
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
