//! Numbered migrations, append-only. A released one is never changed.

use rusqlite::Connection;

use crate::StoreError;

const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_log_and_projection.sql"),
    include_str!("migrations/0002_mail.sql"),
    include_str!("migrations/0003_purged.sql"),
    include_str!("migrations/0004_open_sessions.sql"),
    include_str!("migrations/0005_former_homes.sql"),
    include_str!("migrations/0006_presence_per_agent.sql"),
    include_str!("migrations/0007_mailbox_counts.sql"),
    include_str!("migrations/0008_audience_counts.sql"),
    include_str!("migrations/0009_shown_messages.sql"),
    include_str!("migrations/0010_checkpoint_events.sql"),
    include_str!("migrations/0011_origins.sql"),
];

/// `application_id` of our files, so that a stray database of somebody else is not taken for ours ("Thrm").
const APPLICATION_ID: i64 = 0x5468_726d;

/// The format that this version makes.
pub(crate) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Whether the database is ours and of a format this version reads; gives the format.
///
/// # Errors
/// [`StoreError::Newer`], [`StoreError::Damaged`].
pub(crate) fn check(conn: &Connection) -> Result<i64, StoreError> {
    let known = newest();
    let found: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let application: i64 = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(if is_gos(conn)? { StoreError::Gos } else { StoreError::Damaged("it is the database of another program".to_owned()) });
    }
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    Ok(found)
}

/// Whether this is a database of Go Thrum: its log keeps each event as it came.
fn is_gos(conn: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM pragma_table_info('events') WHERE name = 'event_json'";
    Ok(conn.prepare(sql)?.exists([])?)
}

/// Brings the database to the newest format; returns whether it was empty. All or nothing.
pub(crate) fn migrate(conn: &mut Connection) -> Result<bool, StoreError> {
    let known = newest();
    let found = check(conn)?;
    if found == known {
        return Ok(false);
    }
    let tx = conn.transaction()?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        tx.execute_batch(migration)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", known)?;
    tx.commit()?;
    Ok(found == 0)
}
