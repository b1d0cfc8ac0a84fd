//! Backups: one file with the database and the small files that belong to it.
//!
//! The file is the database itself, copied page by page with SQLite's online backup, which works while the daemon runs,
//! plus two tables: the manifest, and the small files beside the database. So SQLite's own tools can check it, and any
//! SQLite tool can open it.
//!
//! A restored backup is not the database we left, but could be mistaken for it: if the backup was made and restored
//! within one run of the daemon, its log id and counter of openings are those of the database we left. Therefore a
//! backup resets the counter, and opening it begins a new log (see `origin.rs`).

use std::path::Path;

use rusqlite::{Connection, OpenFlags, backup};
use serde::{Deserialize, Serialize};
use thrum_core::{SetDigest, Timestamp};

use crate::{StoreError, checkup, connection, digest, migrate};

/// Version of the backup format that this program writes, and the newest that it reads.
pub const FORM: u32 = 1;

/// Number of pages copied per step: half a megabyte, so that progress is visible.
const STEP: i32 = 128;

/// Description of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of the backup; see [`FORM`].
    pub form: u32,
    /// The version of the program that wrote it.
    pub version: String,
    /// When the backup was made.
    pub made_at: Timestamp,
    /// The daemon that owns the database.
    pub daemon_id: String,
    /// Path of the repository's main worktree.
    pub path: String,
    /// Number of events in the log.
    pub events: u64,
    /// Number of messages, including deleted ones.
    pub messages: u64,
}

/// A small file that belongs to the database and is stored beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Path of the file below `.thrum`.
    pub name: String,
    /// Content of the file.
    pub content: Vec<u8>,
}

/// Copies the database at `from` into the empty file `to`, with manifest and files, and fills in the counts of
/// `manifest`. The copied database is checked as in [`unpack`] (its events only if it has the newest format), because a
/// user who needs the backup can no longer make another. `progress` is called with the number of pages copied and the
/// total.
///
/// # Errors
/// [`StoreError::Newer`], [`StoreError::Gos`], [`StoreError::Foreign`], [`StoreError::Damaged`], SQLite's; the file
/// `to` is then useless.
pub fn write(
    from: &Path,
    to: &Path,
    mut manifest: Manifest,
    files: &[Kept],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Manifest, StoreError> {
    let source = connection::connect(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let format = migrate::check(&source)?;
    let mut copy = connection::connect(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Use one read transaction for the whole copy; otherwise every commit of the daemon would restart the copy.
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
    // The counts of an older format follow the rules of its time; `unpack` migrates before it checks them.
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
        copy.execute(
            "INSERT INTO backup_files VALUES (?1, ?2, ?3)",
            (name, content, SetDigest::of(content).to_bytes()),
        )?;
    }
    copy.close().map_err(|(_, error)| error)?;
    Ok(manifest)
}

/// Turns a copy of a backup's file back into the original database, and returns the manifest and the files. Checks
/// everything: the format, the pages, the files, and every event against the digests of the log.
///
/// # Errors
/// [`StoreError::Newer`]; [`StoreError::Damaged`] for a damaged backup; [`StoreError::Damaged`], [`StoreError::Gos`] or
/// [`StoreError::Foreign`] for a file that is no backup. The copy is then useless.
pub fn unpack(copy: &Path) -> Result<(Manifest, Vec<Kept>), StoreError> {
    let mut conn = connection::connect(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
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
    // The files hold secrets, which must not remain in the database.
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
    // A newer manifest may not have all fields of this version.
    let Form { form } = serde_json::from_str(text).map_err(unreadable)?;
    if form > FORM {
        return Err(StoreError::Newer { found: form.into(), known: FORM.into() });
    }
    serde_json::from_str(text).map_err(unreadable)
}

fn read_files(conn: &Connection) -> Result<Vec<Kept>, StoreError> {
    let mut statement = conn.prepare("SELECT name, content, sum FROM backup_files ORDER BY name")?;
    let rows = statement
        .query_map([], |row| Ok((Kept { name: row.get(0)?, content: row.get(1)? }, row.get::<_, [u8; 32]>(2)?)))?;
    let mut files = Vec::new();
    for row in rows {
        let (file, sum) = row?;
        if SetDigest::of(&file.content).to_bytes() != sum {
            return Err(StoreError::Damaged(format!(
                "its copy of {} was changed",
                thrum_core::name::printable(&file.name)
            )));
        }
        files.push(file);
    }
    Ok(files)
}

/// Checkpoints the write-ahead log of a database that no process uses into its file, as far as it is readable, so that
/// the file alone is complete.
///
/// # Errors
/// SQLite's; no data is lost then.
pub fn settle(path: &Path) -> Result<(), StoreError> {
    let conn = connection::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection::empty_log(&conn)?;
    Ok(conn.close().map_err(|(_, error)| error)?)
}
