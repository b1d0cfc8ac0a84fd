//! Reads events from Go Thrum's database. Never writes to it; not even its side files change.
//!
//! SQLite keeps the last commits in a write-ahead log beside the database, and a process that opens both for reading
//! creates or changes a third file. Therefore a database without such a log (or a rollback journal) is opened as
//! immutable; a database with one is copied, and the copy is read. The caller must make sure that the Go daemon does
//! not run meanwhile. After reading, the caller checks with [`GoDatabase::unchanged`] that no process wrote to the
//! database.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rusqlite::{Connection, OpenFlags, Row, types::ValueRef};
use thrum_core::{Error, ErrorKind, limits};

use crate::{StoreError, connection::beside, migrate};

/// A row of Go's `events` table with unmodified texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoEvent {
    /// The sequence that Go assigned.
    pub sequence: i64,
    /// The columns `event_id`, `type`, `timestamp` and `origin_daemon`; `None` where a value is not UTF-8 text.
    pub envelope: [Option<String>; 4],
    /// The event; may be invalid JSON. Empty if the value is not UTF-8 text.
    pub event_json: String,
}

/// Summary of the contents of Go Thrum's database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoTotals {
    /// Schema version: 15 is Go Thrum v0.6.3, 51 is v0.10.6. 0 if the database states none.
    pub schema: i64,
    /// Number of rows in the log.
    pub events: u64,
    /// Number of messages whose creation is not in the log, because later versions trim the log.
    pub messages_without_event: u64,
    /// Number of events by each origin, largest first.
    pub origins: Vec<(String, u64)>,
    /// The daemon's own id, if the database has it (since v0.9).
    pub own_id: Option<String>,
}

/// Size and modification time of a file when it was looked at; `None` if there was no such file.
#[derive(Debug, PartialEq, Eq)]
struct Seen(Option<(u64, SystemTime)>);

impl Seen {
    fn at(path: &Path) -> Self {
        Self(fs::metadata(path).ok().and_then(|about| Some((about.len(), about.modified().ok()?))))
    }
}

/// An open database of Go Thrum.
pub struct GoDatabase {
    conn: Connection,
    path: PathBuf,
    seen: [Seen; 3],
}

/// The error for a database of our own where a Go Thrum database was expected.
pub fn not_gos(path: &Path) -> Error {
    Error::new(ErrorKind::Refused, format!("{} is a database of this program, not of Go Thrum", path.display()))
        .hint("To keep or move such a one: thrum backup, thrum restore.")
}

impl GoDatabase {
    /// Opens the database at `path`. `scratch` is a private directory for a copy, if one is needed.
    ///
    /// # Errors
    /// `not_found` if there is no file; `failed` if it is damaged or cannot be copied; `refused` if it is a database of
    /// this program; `invalid` if it belongs to another program or has no log; `try_again` if a process writes to it.
    pub fn open(path: &Path, scratch: &Path) -> Result<Self, Error> {
        let cannot = |what: &str, error: std::io::Error| {
            let kind =
                if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Failed };
            Error::new(kind, format!("cannot {what} {}: {error}", path.display()))
        };
        let path = &fs::canonicalize(path).map_err(|error| cannot("read", error))?;
        let files = [path.clone(), beside(path, "-wal"), beside(path, "-journal")];
        let seen = files.each_ref().map(|file| Seen::at(file));
        let unfinished = seen[1..].iter().any(|file| file.0.is_some_and(|(bytes, _)| bytes > 0));
        let conn = if unfinished {
            for (file, name) in files.iter().zip(["messages.db", "messages.db-wal", "messages.db-journal"]) {
                if file.exists() {
                    fs::copy(file, scratch.join(name)).map_err(|error| cannot("copy", error))?;
                }
            }
            Connection::open_with_flags(
                scratch.join("messages.db"),
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )
        } else {
            fs::File::open(path).map_err(|error| cannot("read", error))?;
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(as_uri(path), flags)
        };
        let conn = conn.map_err(|error| damaged(path, &StoreError::from(error)))?;
        let database = Self { conn, path: path.clone(), seen };
        database.recognise().map_err(|error| match error {
            StoreError::Refused(error) => error,
            error => damaged(path, &error),
        })?;
        database.unchanged()?;
        Ok(database)
    }

    fn recognise(&self) -> Result<(), StoreError> {
        let shown = self.path.display();
        match migrate::check(&self.conn) {
            Err(StoreError::Gos) => {}
            Ok(format) if format > 0 => {
                return Err(not_gos(&self.path).into());
            }
            Ok(_) | Err(StoreError::Damaged(_) | StoreError::Foreign) => {
                let has_messages =
                    self.conn.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'messages'")?.exists([])?;
                let why = if has_messages {
                    "has no log of events: Go Thrum keeps one since v0.5"
                } else {
                    "is no database of Go Thrum"
                };
                return Err(Error::new(ErrorKind::Invalid, format!("{shown} {why}"))
                    .hint("Name the repository, its .thrum, or its .thrum/var/messages.db.")
                    .into());
            }
            Err(error) => return Err(error),
        }
        let first_error: String = self.conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if first_error == "ok" { Ok(()) } else { Err(StoreError::Damaged(first_error)) }
    }

    /// Checks that no process has written to the database since it was opened.
    ///
    /// # Errors
    /// `try_again` if a process has: the data read may mix two states.
    pub fn unchanged(&self) -> Result<(), Error> {
        let now =
            [self.path.clone(), beside(&self.path, "-wal"), beside(&self.path, "-journal")].map(|file| Seen::at(&file));
        if now == self.seen {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TryAgain, format!("{} changed while it was read", self.path.display()))
            .hint("Stop the daemon that writes to it and repeat the command; what is here already is not taken twice."))
    }

    /// Returns a summary of the database.
    ///
    /// # Errors
    /// `failed` if it cannot be read.
    pub fn totals(&self) -> Result<GoTotals, Error> {
        self.read(|conn| {
            let schema = if has_table(conn, "schema_version")? {
                conn.query_row("SELECT coalesce(max(version), 0) FROM schema_version", [], |row| row.get(0))?
            } else {
                0
            };
            let mut origins = conn
                .prepare("SELECT origin_daemon, count(*) FROM events WHERE typeof(origin_daemon) = 'text' GROUP BY 1 ORDER BY 2 DESC, 1")?;
            let origins = origins.query_map([], |row| Ok((lossy(row, 0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
            // Collect the ids in a temporary table: Go has no index from a message to its event.
            conn.execute_batch(
                "PRAGMA temp_store = MEMORY; CREATE TEMP TABLE IF NOT EXISTS created (message_id TEXT PRIMARY KEY) WITHOUT ROWID;
                 INSERT OR IGNORE INTO temp.created SELECT event_json ->> 'message_id' FROM events
                 WHERE type = 'message.create' AND json_valid(event_json) AND event_json ->> 'message_id' IS NOT NULL;",
            )?;
            let messages_without_event = if has_table(conn, "messages")? {
                let sql = "SELECT count(*) FROM messages WHERE message_id NOT IN (SELECT message_id FROM temp.created)";
                conn.query_row(sql, [], |row| row.get(0))?
            } else {
                0
            };
            let own_id = if has_table(conn, "daemon_identity")? {
                conn.query_row("SELECT (SELECT daemon_id FROM daemon_identity LIMIT 1)", [], |row| row.get(0))?
            } else {
                None
            };
            let events = conn.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?;
            Ok(GoTotals { schema, events, messages_without_event, origins, own_id })
        })
    }

    /// Returns the rows above `after`, at most [`limits::MAX_BATCH_EVENTS`] and [`limits::MAX_BATCH_BYTES`], but at
    /// least one if there is any.
    ///
    /// # Errors
    /// `failed` if it cannot be read.
    pub fn page(&self, after: i64) -> Result<Vec<GoEvent>, Error> {
        self.read(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT sequence, event_id, type, timestamp, origin_daemon, event_json FROM events WHERE sequence > ?1 ORDER BY sequence
                 LIMIT ?2",
            )?;
            let mut rows = statement.query((after, limits::MAX_BATCH_EVENTS))?;
            let (mut page, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let event_json = text(row, 5)?.unwrap_or_default();
                bytes += event_json.len();
                if !page.is_empty() && bytes > limits::MAX_BATCH_BYTES {
                    break;
                }
                let envelope = [text(row, 1)?, text(row, 2)?, text(row, 3)?, text(row, 4)?];
                page.push(GoEvent { sequence: row.get(0)?, envelope, event_json });
            }
            Ok(page)
        })
    }

    /// Returns the names that these daemons registered as agents, including those deleted later.
    ///
    /// # Errors
    /// `failed` if it cannot be read.
    pub fn registered(&self, origins: &[String]) -> Result<Vec<String>, Error> {
        self.read(|conn| {
            let mut names = Vec::new();
            let mut statement = conn.prepare(
                "SELECT DISTINCT event_json ->> 'agent_id' FROM events
                 WHERE type = 'agent.register' AND origin_daemon = ?1 AND json_valid(event_json)",
            )?;
            for origin in origins {
                for name in statement.query_map([origin], |row| row.get::<_, Option<String>>(0))? {
                    names.extend(name?);
                }
            }
            names.sort();
            names.dedup();
            Ok(names)
        })
    }

    /// Returns the messages that an agent has read according to Go's tables, which are more complete than its log.
    ///
    /// # Errors
    /// `failed` if it cannot be read.
    pub fn read_by(&self, agent_id: &str) -> Result<Vec<String>, Error> {
        self.read(|conn| {
            let mut ids = Vec::new();
            for (table, sql) in [
                (
                    "message_deliveries",
                    "SELECT message_id FROM message_deliveries WHERE recipient_agent_id = ?1 AND read_at IS NOT NULL",
                ),
                ("message_reads", "SELECT message_id FROM message_reads WHERE agent_id = ?1"),
            ] {
                if has_table(conn, table)? {
                    let mut statement = conn.prepare(sql)?;
                    let found: Vec<String> =
                        statement.query_map([agent_id], |row| row.get(0))?.collect::<Result<_, _>>()?;
                    ids.extend(found);
                }
            }
            ids.sort();
            ids.dedup();
            Ok(ids)
        })
    }

    fn read<T>(&self, question: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, Error> {
        question(&self.conn).map_err(|error| damaged(&self.path, &error))
    }
}

fn has_table(conn: &Connection, name: &str) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ?1")?.exists([name])?)
}

/// Returns a column's text; `None` if it is not text, or not UTF-8.
fn text(row: &Row<'_>, column: usize) -> Result<Option<String>, StoreError> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(text) => String::from_utf8(text.to_vec()).ok(),
        _ => None,
    })
}

fn lossy(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(row.get_ref(column)?.as_bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default())
}

/// A URI that opens the file as immutable. The escaped characters have a meaning in a URI and may occur in a path.
fn as_uri(path: &Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut uri = b"file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' => uri.extend(format!("%{byte:02X}").bytes()),
            byte => uri.push(*byte),
        }
    }
    uri.extend(b"?immutable=1");
    PathBuf::from(std::ffi::OsString::from_vec(uri))
}

fn damaged(path: &Path, error: &StoreError) -> Error {
    let why = match error {
        StoreError::Damaged(why) => why.clone(),
        error => error.to_string(),
    };
    Error::new(ErrorKind::Failed, format!("{} cannot be read as a database: {why}", path.display())).hint(
        "A backup of it may be whole; else SQLite's own tool saves what can be read: sqlite3 messages.db .recover",
    )
}
