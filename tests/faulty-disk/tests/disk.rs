//! Plain SQLite on the disk: what survives a crash, what is lost, and how calls fail.

use faulty_disk::{Disk, Failure};
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// EXTRA applies until there is a write-ahead log: a deleted journal that comes back would undo its transaction, and
/// only EXTRA syncs the deletion.
const WAL: &str = "PRAGMA synchronous = EXTRA; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";
const JOURNAL: &str = "PRAGMA synchronous = EXTRA; PRAGMA journal_mode = DELETE;";
const FORGETFUL: &str = "PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL;";

fn open(disk: &Disk, settings: &str) -> rusqlite::Result<Connection> {
    let conn = Connection::open(disk.path("mail.db"))?;
    conn.execute_batch(settings)?;
    Ok(conn)
}

fn prepared(disk: &Disk, settings: &str) -> Connection {
    let conn = open(disk, settings).expect("opens");
    conn.execute_batch("CREATE TABLE mail (number INTEGER PRIMARY KEY, text)").expect("creates");
    conn
}

/// Stores a text whose length grows with `number`, so that the file grows by one page or by several.
fn store(conn: &Connection, number: u64) -> rusqlite::Result<usize> {
    conn.execute("INSERT INTO mail VALUES (?1, hex(zeroblob(?1 * 350)))", [number])
}

/// Stores up to twelve messages, one transaction each, with checkpoints between them, until something fails. Returns
/// how many were acknowledged.
fn work(conn: &Connection) -> u64 {
    for number in 1..=12 {
        if store(conn, number).is_err() {
            return number - 1;
        }
        if number % 5 == 0 && conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).is_err() {
            return number;
        }
    }
    12
}

/// Returns the number of messages. Asserts that the database is sound and that the messages are complete and numbered
/// from 1 without a gap.
fn found(conn: &Connection) -> u64 {
    let sound: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checks");
    assert_eq!(sound, "ok");
    let (count, whole, last): (u64, u64, u64) = conn
        .query_row(
            "SELECT count(*), coalesce(sum(length(text) = number * 700), 0), coalesce(max(number), 0) FROM mail",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .expect("counts");
    assert_eq!((count, last), (whole, count), "all of the first ones, and whole");
    count
}

fn found_any(conn: &Connection) -> usize {
    conn.query_row("SELECT count(*) FROM mail", [], |row| row.get(0)).expect("counts")
}

fn steps_of_work(settings: &str) -> (u64, u64) {
    let disk = Disk::new(0);
    let conn = prepared(&disk, settings);
    let before = disk.steps();
    assert_eq!(work(&conn), 12);
    (before + 1, disk.steps())
}

#[test]
fn a_committed_transaction_survives_a_crash_at_every_step() {
    for settings in [WAL, JOURNAL] {
        let (first, last) = steps_of_work(settings);
        assert!(last - first > 50, "there are steps to fail at");
        for step in first..=last {
            for failure in [Failure::Crash, Failure::TornWrite] {
                let disk = Disk::new(step);
                let conn = prepared(&disk, settings);
                disk.fail_at(step, failure);
                let stored = work(&conn);
                assert_eq!(disk.failed(), 1, "{settings} {failure:?} at {step}");
                assert!(
                    conn.query_row("SELECT count(*) FROM mail", [], |row| row.get::<_, u64>(0)).is_err(),
                    "nothing works any more"
                );
                disk.crash();
                drop(conn);
                let found = found(&open(&disk, settings).expect("opens again"));
                assert!(
                    found == stored || found == stored + 1,
                    "{settings} {failure:?} at {step}: {stored} stored, {found} found"
                );
            }
        }
    }
}

/// Without this property, the test above would prove nothing.
#[test]
fn what_was_not_synced_is_lost_by_some_crash() {
    let mut lost = 0;
    for seed in 0..20 {
        let disk = Disk::new(seed);
        let conn = prepared(&disk, WAL);
        conn.pragma_update(None, "synchronous", "OFF").expect("sets");
        let stored = (1..=4)
            .map(|number| conn.execute("INSERT INTO mail VALUES (?1, 'x')", [number]).expect("stores"))
            .sum::<usize>();
        assert_eq!(stored, 4);
        disk.crash();
        drop(conn);
        let conn = open(&disk, WAL).expect("opens again");
        lost += usize::from(found_any(&conn) < stored);
    }
    assert!(lost > 0, "the disk forgets nothing");
    assert!(lost < 20, "the disk keeps nothing that was not synced");
}

/// The reason why a store needs more than FULL while it has no write-ahead log.
#[test]
fn a_journal_whose_deletion_was_not_synced_comes_back_after_some_crash() {
    let undone = (0..20).filter(|seed| {
        let disk = Disk::new(*seed);
        let conn = prepared(&disk, JOURNAL);
        conn.execute_batch("PRAGMA synchronous = FULL; INSERT INTO mail VALUES (1, 'x')").expect("stores");
        disk.crash();
        drop(conn);
        found_any(&open(&disk, JOURNAL).expect("opens again")) == 0
    });
    assert!((1..20).contains(&undone.count()));
}

#[test]
fn a_database_that_was_never_synced_may_be_gone_or_broken() {
    let gone = (0..20).filter(|seed| {
        let disk = Disk::new(*seed);
        work(&prepared(&disk, FORGETFUL));
        disk.crash();
        let read = open(&disk, "")
            .and_then(|conn| conn.query_row("SELECT count(*) FROM mail", [], |row| row.get::<_, u64>(0)));
        !matches!(read, Ok(12))
    });
    assert!(gone.count() > 5);
}

#[test]
fn every_other_failure_is_told_and_work_goes_on_after_it() {
    for settings in [WAL, JOURNAL] {
        let (first, last) = steps_of_work(settings);
        for step in first..=last {
            for failure in [Failure::Full, Failure::IoError, Failure::ReadOnly] {
                let disk = Disk::new(step);
                let conn = prepared(&disk, settings);
                disk.fail_at(step, failure);
                let stored = work(&conn);
                disk.mend();
                let here = found(&conn);
                assert!(
                    here == stored || here == stored + 1,
                    "{settings} {failure:?} at {step}: {stored} stored, {here} found"
                );
                store(&conn, here + 1).expect("goes on");
                disk.crash();
                drop(conn);
                assert_eq!(
                    found(&open(&disk, settings).expect("opens again")),
                    here + 1,
                    "{settings} {failure:?} at {step}"
                );
            }
        }
    }
}

#[test]
fn failures_are_what_sqlite_calls_them() {
    let of = |failure| {
        let disk = Disk::new(1);
        let conn = prepared(&disk, WAL);
        disk.fail_at(disk.steps() + 1, failure);
        let error = conn.execute("INSERT INTO mail VALUES (1, 'x')", []).expect_err("fails");
        disk.mend();
        conn.execute("INSERT INTO mail VALUES (1, 'x')", []).expect("works again");
        error.sqlite_error_code().expect("SQLite's")
    };
    assert_eq!(of(Failure::Full), ErrorCode::DiskFull);
    assert_eq!(of(Failure::IoError), ErrorCode::SystemIoFailure);
    assert_eq!(of(Failure::ReadOnly), ErrorCode::ReadOnly);
}

#[test]
fn a_failure_planned_once_happens_once() {
    let disk = Disk::new(1);
    let conn = prepared(&disk, WAL);
    disk.fail_once_at(disk.steps() + 2, Failure::IoError);
    assert_eq!(work(&conn), 0);
    assert_eq!(work(&conn), 12);
    assert_eq!(disk.failed(), 1);
}

#[test]
fn connections_share_a_log_and_wait_for_each_other() {
    let disk = Disk::new(1);
    let writer = prepared(&disk, WAL);
    let reader = open(&disk, "").expect("opens");
    writer.execute("INSERT INTO mail VALUES (1, 'x')", []).expect("stores");
    let count = || reader.query_row("SELECT count(*) FROM mail", [], |row| row.get::<_, u64>(0)).expect("counts");
    assert_eq!(count(), 1);
    writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO mail VALUES (2, 'x')").expect("writes");
    assert_eq!(count(), 1, "not before COMMIT");
    reader.busy_timeout(std::time::Duration::ZERO).expect("sets");
    assert_eq!(
        reader.execute_batch("BEGIN IMMEDIATE").expect_err("waits").sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy)
    );
    reader.execute_batch("BEGIN").expect("begins");
    assert_eq!(count(), 1);
    writer.execute_batch("COMMIT").expect("commits");
    assert_eq!(count(), 1, "a reader's view stays");
    writer.busy_timeout(std::time::Duration::ZERO).expect("sets");
    let busy: bool = writer.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0)).expect("answers");
    assert!(busy, "a reader is in the old pages");
    reader.execute_batch("COMMIT").expect("ends");
    assert_eq!(count(), 2);
    let read_only = Connection::open_with_flags(disk.path("mail.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opens");
    assert_eq!(
        read_only.execute("DELETE FROM mail", []).expect_err("is refused").sqlite_error_code(),
        Some(ErrorCode::ReadOnly)
    );
}

#[test]
fn threads_may_write_at_the_same_time() {
    let disk = Disk::new(1);
    drop(prepared(&disk, WAL));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let disk = disk.clone();
            scope.spawn(move || {
                let conn = open(&disk, WAL).expect("opens");
                conn.busy_timeout(std::time::Duration::from_secs(60)).expect("sets");
                for number in 0..20 {
                    conn.execute("INSERT INTO mail VALUES (?1, 'x')", [thread * 20 + number]).expect("stores");
                }
            });
        }
    });
    let conn = open(&disk, WAL).expect("opens");
    assert_eq!(conn.query_row("SELECT count(*) FROM mail", [], |row| row.get::<_, u64>(0)), Ok(60));
}

#[test]
fn vacuum_backup_and_temporary_files_work() {
    let disk = Disk::new(1);
    let conn = prepared(&disk, WAL);
    assert_eq!(work(&conn), 12);
    conn.execute_batch(
        "PRAGMA temp_store = FILE; PRAGMA cache_size = 2; CREATE TEMP TABLE other AS SELECT * FROM mail; VACUUM",
    )
    .expect("works");
    let mut copy = Connection::open(disk.path("copy.db")).expect("opens");
    rusqlite::backup::Backup::new(&conn, &mut copy)
        .expect("begins")
        .run_to_completion(3, std::time::Duration::ZERO, None)
        .expect("copies");
    assert_eq!((found(&conn), found(&copy)), (12, 12));
    drop((conn, copy));
    let names = |disk: &Disk| ["mail.db", "mail.db-wal", "copy.db"].map(|name| disk.image().file(name).is_some());
    assert_eq!(names(&disk), [true, false, true], "closing folds the log into the file");
    disk.remove("copy.db");
    assert_eq!(names(&disk), [true, false, false]);
}

#[test]
fn an_older_image_is_put_back_or_copied() {
    let disk = Disk::new(1);
    let conn = prepared(&disk, WAL);
    store(&conn, 1).expect("stores");
    let image = disk.image();
    store(&conn, 2).expect("stores");
    let other = Disk::new(2);
    other.restore(&image);
    assert_eq!(found(&open(&other, WAL).expect("opens")), 1);
    assert_eq!(found(&conn), 2);
    disk.restore(&image);
    assert!(conn.execute("DELETE FROM mail", []).is_err(), "it was open before");
    assert_eq!(found(&open(&disk, WAL).expect("opens")), 1);
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let left = |seed| {
        let disk = Disk::new(seed);
        work(&prepared(&disk, "PRAGMA synchronous = OFF; PRAGMA journal_mode = DELETE;"));
        disk.crash();
        disk.image().file("mail.db").map(<[u8]>::to_vec)
    };
    let lives: Vec<_> = (0..20).map(left).collect();
    assert!(lives == (0..20).map(left).collect::<Vec<_>>());
    assert!(lives.iter().any(|life| *life != lives[0]), "the seed decides nothing");
}

#[test]
fn a_read_only_disk_can_be_read() {
    let disk = Disk::new(1);
    assert_eq!(work(&prepared(&disk, JOURNAL)), 12);
    disk.fail_at(disk.steps() + 1, Failure::ReadOnly);
    let conn = Connection::open(disk.path("mail.db")).expect("opens");
    assert_eq!(found(&conn), 12);
    assert_eq!(
        conn.execute("DELETE FROM mail", []).expect_err("is refused").sqlite_error_code(),
        Some(ErrorCode::ReadOnly)
    );
    assert!(Connection::open(disk.path("new.db")).is_err());
}
