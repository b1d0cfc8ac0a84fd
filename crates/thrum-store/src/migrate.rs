//! Numbered, append-only schema migrations. A released migration is never changed.

use std::{fs::File, io::Read, path::Path};

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
    include_str!("migrations/0012_numbers.sql"),
    include_str!("migrations/0013_mailboxes_of.sql"),
    include_str!("migrations/0014_plans.sql"),
    include_str!("migrations/0015_by_message.sql"),
    include_str!("migrations/0016_received.sql"),
    include_str!("migrations/0017_recipient_homes.sql"),
    include_str!("migrations/0018_cutoffs.sql"),
    include_str!("migrations/0019_arrival.sql"),
    include_str!("migrations/0020_cursors.sql"),
    include_str!("migrations/0021_claims.sql"),
    include_str!("migrations/0022_states.sql"),
    include_str!("migrations/0023_collisions.sql"),
    include_str!("migrations/0024_person_at.sql"),
    include_str!("migrations/0025_parked_kind.sql"),
    include_str!("migrations/0026_received_without_triggers.sql"),
    include_str!("migrations/0027_numbers_for_ids.sql"),
    include_str!("migrations/0028_message_count.sql"),
];

/// `application_id` of our files ("Thrm"), which distinguishes them from databases of other programs.
pub(crate) const APPLICATION_ID: i64 = 0x5468_726d;

/// The format that this version writes.
pub(crate) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Checks that the database is ours or empty and has a format that this version reads; returns the format, 0 if empty.
///
/// # Errors
/// [`StoreError::Newer`], [`StoreError::Foreign`], [`StoreError::Gos`], [`StoreError::Damaged`].
pub(crate) fn check(conn: &Connection) -> Result<i64, StoreError> {
    let known = newest();
    let found: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let application: i64 = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    // Do not read the schema of our own files here: this SQLite may be unable to read the schema of a newer version,
    // which would look like damage.
    if application != APPLICATION_ID
        && conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))? > 0
    {
        return Err(match () {
            () if has_column(conn, GOS_COLUMN)? => StoreError::Gos,
            () if has_column(conn, OUR_COLUMN)? => {
                StoreError::Damaged("its head is not the one that was written".to_owned())
            }
            () => StoreError::Foreign,
        });
    }
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    Ok(found)
}

/// Returns `true` if the file begins like a database, but not like one of ours. Reads only the header of the file, so a
/// program that has it open is not disturbed. Content that is still in the write-ahead log is not seen.
pub fn is_head_of_other(path: &Path) -> bool {
    let mut head = [0; 72];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head.starts_with(b"SQLite format 3\0") && head[68..] != APPLICATION_ID.to_be_bytes()[4..]
}

/// A column of `events` that only Go Thrum's log has: the unmodified event.
const GOS_COLUMN: &str = "event_json";
/// A column of `events` that only our log has.
const OUR_COLUMN: &str = "received_from";

fn has_column(conn: &Connection, name: &str) -> Result<bool, StoreError> {
    Ok(conn.prepare("SELECT 1 FROM pragma_table_info('events') WHERE name = ?1")?.exists([name])?)
}

/// Migrates the database to the newest format, completely or not at all. Returns `true` if it was empty.
pub(crate) fn migrate(conn: &mut Connection) -> Result<bool, StoreError> {
    let known = newest();
    let found = check(conn)?;
    if found == known {
        return Ok(false);
    }
    // Rebuilt tables would leave their texts in free pages, where a later purge does not look for them.
    overwrite(conn, true)?;
    let migrated = run(conn, found, known);
    overwrite(conn, false)?;
    migrated?;
    Ok(found == 0)
}

fn run(conn: &mut Connection, found: i64, known: i64) -> Result<(), StoreError> {
    let tx = conn.transaction()?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        tx.execute_batch(migration)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", known)?;
    Ok(tx.commit()?)
}

/// Turns SQLite's overwriting of deleted data on or off. It is off by default, because it costs writes and only purged
/// text and the old copies of rebuilt tables must disappear from the file.
pub(crate) fn overwrite(conn: &Connection, on: bool) -> Result<(), StoreError> {
    let sql = if on { "PRAGMA secure_delete = ON" } else { "PRAGMA secure_delete = OFF" };
    Ok(conn.query_row(sql, [], |_| Ok(()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database in the state that the version with this number of migrations left.
    fn of_version(migrations: usize) -> Connection {
        let conn = Connection::open_in_memory().expect("opens");
        for migration in &MIGRATIONS[..migrations] {
            conn.execute_batch(migration).expect("migrates");
        }
        conn.pragma_update(None, "application_id", APPLICATION_ID).expect("marks");
        conn.pragma_update(None, "user_version", migrations).expect("marks");
        conn
    }

    fn all(conn: &Connection, sql: &str) -> Vec<String> {
        let mut statement = conn.prepare(sql).expect("prepares");
        let rows = statement.query_map([], |row| row.get(0)).expect("reads");
        rows.collect::<Result<_, _>>().expect("reads")
    }

    /// Purged text in the file (C30 in docs/security.md): a rebuilt table leaves none in free pages, even if the file
    /// is too large to be rewritten afterwards.
    #[test]
    fn c30_a_rebuilt_table_leaves_no_text_in_free_pages() {
        const TEXTS: usize = 300;
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut conn = Connection::open(file.path()).expect("opens");
        for migration in &MIGRATIONS[..10] {
            conn.execute_batch(migration).expect("migrates");
        }
        for n in 0..TEXTS {
            let body = format!("the old text {n:03} {}", "x".repeat(500));
            conn.execute(
                "INSERT INTO events VALUES (?1, ?2, 'x', 1, 'd_go', '', 0, '', NULL, ?3)",
                (n + 1, format!("evt_{n}"), body),
            )
            .expect("inserts");
        }
        conn.pragma_update(None, "application_id", APPLICATION_ID).expect("marks");
        conn.pragma_update(None, "user_version", 10).expect("marks");
        migrate(&mut conn).expect("migrates");
        let free: i64 = conn.query_row("PRAGMA freelist_count", [], |row| row.get(0)).expect("counts");
        assert!(free > 0, "the case has free pages");
        conn.close().expect("closes");
        let bytes = std::fs::read(file.path()).expect("reads");
        let found = bytes.windows(13).filter(|window| *window == b"the old text ").count();
        // SQLite occasionally moves a row to another page and leaves a copy on the first one.
        assert!((TEXTS..TEXTS + TEXTS / 10).contains(&found), "{found} copies of {TEXTS} texts");
    }

    #[test]
    fn events_keep_their_sequence_when_signers_are_added_and_rejections_are_counted() {
        let mut conn = of_version(10);
        let signed = format!("d_k{}", "a".repeat(52));
        let almost = [
            format!("d_k{}", "A".repeat(52)),
            format!("d_k{}", "a".repeat(51)),
            format!("d_k{}1", "a".repeat(51)),
            "d_go".to_owned(),
        ];
        for (n, origin) in [&signed].into_iter().chain(&almost).enumerate() {
            let sequence = (n + 1) * 10;
            conn.execute(
                "INSERT INTO events VALUES (?1, ?2, 'x', 1, ?3, '', 0, 'd_p', NULL, '{}')",
                (sequence, format!("evt_{n}"), origin),
            )
            .expect("inserts");
        }
        for (peer, reason) in [("d_p", "one"), ("d_q", "two"), ("d_p", "three")] {
            conn.execute(
                "INSERT INTO rejected (at, peer, event_id, reason, sample) VALUES (7, ?1, 'evt', ?2, '')",
                [peer, reason],
            )
            .expect("inserts");
        }
        conn.execute_batch(
            "INSERT INTO checkpoints (peer, log, sequence, at, event_id) VALUES ('d_p', '', 1, 1, ''), ('d_q', '', 1, 1, '')",
        )
        .expect("inserts");
        assert!(!migrate(&mut conn).expect("migrates"), "it was not empty");
        let events = all(&conn, "SELECT sequence || ' ' || event_id || ' ' || signer FROM events ORDER BY sequence");
        let expected: Vec<String> =
            (0..5).map(|n| format!("{} evt_{n} {}", (n + 1) * 10, if n == 0 { signed.as_str() } else { "" })).collect();
        assert_eq!(events, expected);
        let origins = all(&conn, "SELECT origin_daemon FROM events");
        assert!(
            origins.iter().all(|origin| thrum_core::key::is_signed_origin(origin) == (*origin == signed)),
            "as the code decides it"
        );
        let counted = all(&conn, "SELECT peer || ' ' || times || ' ' || reason FROM rejections ORDER BY peer");
        assert_eq!(counted, ["d_p 2 three", "d_q 1 two"]);
        let again = conn.execute("INSERT INTO event_rows VALUES (99, 'evt_1', 0, 'x', 1, 1, 0, 0, NULL, '{}')", []);
        assert!(again.is_err(), "of what nobody signed, an id is there once");
    }
}
