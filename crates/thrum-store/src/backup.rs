//! A backup: one file with the database and what belongs to it.
//!
//! The file is the database itself, copied page by page with SQLite's online backup while the daemon goes on, and two more
//! tables in it: the manifest, and small files beside the database. So it is checked with SQLite's own means, and it opens in
//! any tool.
//!
//! What comes back from a backup is not the database we left, although it may look so: taken and put back within one run of
//! the daemon, both would have the same log and the same count of openings. So a backup forgets how often it was opened, and
//! whoever opens it begins a new log (see `origin.rs`).

use std::path::Path;

use rusqlite::{Connection, OpenFlags, backup};
use serde::{Deserialize, Serialize};
use thrum_core::{Stamp, Sum};

use crate::{StoreError, checkup, digest, migrate, store};

/// The form of a backup that this version writes, and the newest it reads.
pub const FORM: u32 = 1;

/// Pages copied at once: half a megabyte, so that progress moves.
const STEP: i32 = 128;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORM`]
    pub form: u32,
    /// The version of the program that wrote it.
    pub version: String,
    /// When.
    pub made_at: Stamp,
    /// Whose mailbox it is.
    pub daemon_id: String,
    /// Where that was.
    pub path: String,
    /// Events in the log.
    pub events: u64,
    /// Messages that are shown.
    pub messages: u64,
}

/// A small file that belongs to the mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its path below `.thrum`.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// Copies the database at `from` into the empty file `to`, with manifest and files; what `manifest` says of the content is
/// counted. The copy is then checked as [`unpack`] checks it: who needs the backup cannot make another. `progress` hears pages
/// done and pages in all.
///
/// # Errors
/// [`StoreError::Damaged`], SQLite's; what was written of `to` is then worth nothing.
pub fn write(
    from: &Path,
    to: &Path,
    mut manifest: Manifest,
    files: &[Kept],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Manifest, StoreError> {
    let source = store::connect(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let format = migrate::check(&source)?;
    let mut copy = store::connect(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // One moment for the whole copy: without that, every commit of the daemon would begin the copy anew.
    source.execute_batch("BEGIN; SELECT count(*) FROM state;")?;
    {
        let running = backup::Backup::new(&source, &mut copy)?;
        while running.step(STEP)? != backup::StepResult::Done {
            let backup::Progress { remaining, pagecount } = running.progress();
            let (left, all) = (u64::from(remaining.unsigned_abs()), u64::from(pagecount.unsigned_abs()));
            progress(all.saturating_sub(left), all);
        }
    }
    drop(source);
    check_pages(&copy)?;
    // The counts of an older format are those of its time; `unpack` brings them up to date before it looks.
    if format == migrate::newest() {
        check_events(&copy)?;
    }
    copy.execute_batch(
        "PRAGMA journal_mode = DELETE;
         UPDATE state SET open_counter = 0;
         CREATE TABLE backup (manifest TEXT NOT NULL) STRICT;
         CREATE TABLE backup_files (name TEXT PRIMARY KEY, content BLOB NOT NULL, sum BLOB NOT NULL) STRICT;",
    )?;
    let count = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, u64>(0));
    manifest.events = count("SELECT count(*) FROM events")?;
    manifest.messages = count("SELECT count(*) FROM messages")?;
    let text = serde_json::to_string(&manifest).map_err(|error| StoreError::Sqlite(error.to_string()))?;
    copy.execute("INSERT INTO backup VALUES (?1)", [text])?;
    for Kept { name, content } in files {
        copy.execute("INSERT INTO backup_files VALUES (?1, ?2, ?3)", (name, content, Sum::of(content).to_bytes()))?;
    }
    copy.close().map_err(|(_, error)| error)?;
    Ok(manifest)
}

/// Makes a copy of a backup's file the database it was made of, and gives what else was in it. All of it is checked first: the
/// form, the pages, and every event against the digests of the log.
///
/// # Errors
/// [`StoreError::Newer`]; [`StoreError::Damaged`] for a damaged one and for what is no backup. The copy is then worth nothing.
pub fn unpack(copy: &Path) -> Result<(Manifest, Vec<Kept>), StoreError> {
    let mut conn = store::connect(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    migrate::check(&conn)?;
    let found = conn.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'backup'")?.exists([])?;
    if !found {
        return Err(StoreError::Damaged("it has no manifest".to_owned()));
    }
    let text: String = conn.query_row("SELECT manifest FROM backup", [], |row| row.get(0))?;
    let manifest = read_manifest(&text)?;
    check_pages(&conn)?;
    let files = read_files(&conn)?;
    migrate::migrate(&mut conn)?;
    check_events(&conn)?;
    // The files hold secrets; nothing of them stays in the database.
    conn.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
    conn.execute_batch("DROP TABLE backup; DROP TABLE backup_files;")?;
    conn.close().map_err(|(_, error)| error)?;
    Ok((manifest, files))
}

fn check_pages(conn: &Connection) -> Result<(), StoreError> {
    checkup::damage(conn, 1)?.into_iter().next().map_or(Ok(()), |found| Err(StoreError::Damaged(found)))
}

fn check_events(conn: &Connection) -> Result<(), StoreError> {
    if digest::heads(conn)? == digest::recount(conn)? {
        return Ok(());
    }
    Err(StoreError::Damaged("its events are not those that it counted".to_owned()))
}

fn read_manifest(text: &str) -> Result<Manifest, StoreError> {
    #[derive(Deserialize)]
    struct Form {
        form: u32,
    }
    let unreadable = |error: serde_json::Error| StoreError::Damaged(format!("its manifest cannot be read: {error}"));
    // A newer manifest may lack what this one has.
    let Form { form } = serde_json::from_str(text).map_err(unreadable)?;
    if form > FORM {
        return Err(StoreError::Newer { found: form.into(), known: FORM.into() });
    }
    serde_json::from_str(text).map_err(unreadable)
}

fn read_files(conn: &Connection) -> Result<Vec<Kept>, StoreError> {
    let mut statement = conn.prepare("SELECT name, content, sum FROM backup_files ORDER BY name")?;
    let rows = statement.query_map([], |row| Ok((Kept { name: row.get(0)?, content: row.get(1)? }, row.get::<_, [u8; 32]>(2)?)))?;
    let mut files = Vec::new();
    for row in rows {
        let (file, sum) = row?;
        if Sum::of(&file.content).to_bytes() != sum {
            return Err(StoreError::Damaged(format!("its copy of {} was changed", thrum_core::name::printable(&file.name))));
        }
        files.push(file);
    }
    Ok(files)
}

/// Folds the write-ahead log of a database that nobody uses into its file, as far as it can be read, so that the file alone is
/// all of it.
///
/// # Errors
/// SQLite's; nothing is lost then.
pub fn settle(path: &Path) -> Result<(), StoreError> {
    let conn = store::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(conn.close().map_err(|(_, error)| error)?)
}
