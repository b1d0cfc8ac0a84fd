//! Backups, and restoring from them.

use faulty_disk::Disk;
use rusqlite::Connection;
use thrum_core::Timestamp;
use thrum_store::{
    OpenOptions, Store, StoreError,
    backup::{self, FORM, Kept, Manifest},
};

use super::{
    SOME, faults,
    mailbox::{Base, Case, FILE, Seen},
    say,
};

const BACKUP: &str = "mail.part";
const MOVED: &str = "mail.backup";

fn write(disk: &Disk) -> Result<Manifest, StoreError> {
    // An empty file, as the caller provides it.
    drop(Connection::open(disk.path(BACKUP)));
    let manifest = Manifest {
        form: FORM,
        version: "1".into(),
        made_at: Timestamp::ZERO,
        daemon_id: "d_k".into(),
        path: "here".into(),
        events: 0,
        messages: 0,
    };
    let files = [Kept { name: "config.json".into(), content: b"{}".repeat(5000) }];
    backup::write(&disk.path(FILE), &disk.path(BACKUP), manifest, &files, &mut |_, _| {})
}

/// Unpacks the backup and opens it as a daemon would; returns the number of its events.
fn read(disk: &Disk, name: &str, case: &Case<'_>) -> Result<u64, StoreError> {
    let (manifest, files) = backup::unpack(&disk.path(name))?;
    assert_eq!(files.len(), 1);
    let mut world = case.world.clone();
    let key = thrum_core::DaemonKey::generate(&mut world);
    let store = Store::open(&disk.path(name), OpenOptions::new(key, None), Box::new(world))?;
    let events = store.reader().totals()?.events;
    assert_eq!(events, manifest.events);
    Ok(events)
}

/// C26: a fault leaves no backup or a complete one, and an unchanged mailbox. A completed backup is durable.
#[test]
fn c26_writing_and_reading_a_backup_survive_every_fault() {
    let base = Base::new();
    let (written, steps, events) = {
        let mut case = base.case(0);
        let store = case.open().expect("opens");
        let before = case.disk.steps();
        write(&case.disk).expect("writes");
        let written = case.disk.steps() - before;
        read(&case.disk, BACKUP, &case).expect("reads");
        (written, case.disk.steps() - before, store.reader().totals().expect("counts").events)
    };
    let mut injected = 0;
    for (step, failure) in faults(steps, SOME) {
        let at = format!("backup: {failure:?} at step {step} of {steps}");
        let mut case = base.case(step * 10 + failure as u64);
        let mut store = case.open().expect("opens");
        let mut seen = Seen::default();
        case.disk.fail_at(case.disk.steps() + step, failure);
        let made = write(&case.disk);
        injected += u64::from(case.disk.failed() > 0);
        if step <= written {
            // After repair of the fault, a file that was reported as a backup is one.
            case.disk.mend();
        }
        if made.is_ok()
            && let Ok(found) = read(&case.disk, BACKUP, &case)
        {
            assert_eq!(found, events, "{at}");
        } else if made.is_ok() {
            assert!(step > written, "{at}: it was called a backup and is none");
            injected += 1;
        }
        case.disk.crash();
        drop(store);
        store = case.open().unwrap_or_else(|error| panic!("{at}: does not open again: {error}"));
        case.go_on(&mut store, &mut seen, &at);
        case.disk.remove(BACKUP);
        write(&case.disk).unwrap_or_else(|error| panic!("{at}: no backup can be made any more: {error}"));
        case.disk.crash();
        drop(store);
        // A complete backup is renamed; a journal that reappears has nothing to roll back then.
        let mut image = case.disk.image();
        image.rename(BACKUP, MOVED);
        case.disk.restore(&image);
        assert_eq!(
            read(&case.disk, MOVED, &case).unwrap_or_else(|error| panic!("{at}: cannot be read: {error}")),
            events + 1,
            "{at}"
        );
        let mut store = case.open().expect("opens again");
        case.examine(&mut store, &seen, &at);
    }
    say("backup", steps, injected);
}

/// C26: the write-ahead log is checkpointed into a file that no process has open, or stays.
#[test]
fn c26_settling_survives_every_fault() {
    let base = Base::new();
    // The state that a killed daemon leaves.
    let unsettled = |seed| {
        let mut case = base.case(seed);
        let mut seen = Seen::default();
        let mut store = case.open().expect("opens");
        for n in 0..4 {
            seen.send(&mut store, &format!("unsettled {n} {}", "u".repeat(n * 2000))).expect("sends");
        }
        let image = case.disk.image();
        case.disk.restore(&image);
        drop(store);
        (case, seen)
    };
    let steps = {
        let (case, _) = unsettled(0);
        let before = case.disk.steps();
        backup::settle(&case.disk.path(FILE)).expect("settles");
        assert!(case.disk.image().file(&format!("{FILE}-wal")).is_none());
        case.disk.steps() - before
    };
    let mut injected = 0;
    for (step, failure) in faults(steps, SOME) {
        let at = format!("settling: {failure:?} at step {step} of {steps}");
        let (mut case, seen) = unsettled(step * 10 + failure as u64);
        case.disk.fail_at(case.disk.steps() + step, failure);
        let _ = backup::settle(&case.disk.path(FILE));
        injected += u64::from(case.disk.failed() > 0);
        case.disk.crash();
        let mut store = case.open().unwrap_or_else(|error| panic!("{at}: does not open again: {error}"));
        case.examine(&mut store, &seen, &at);
    }
    say("settling", steps, injected);
}
