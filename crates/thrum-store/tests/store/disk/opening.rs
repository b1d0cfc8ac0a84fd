//! Opening a new database, a current one and one of an older format; and closing, where the last connection checkpoints
//! the log into the file.

use rusqlite::Connection;
use thrum_store::ops::Register;

use super::{
    SOME, faults,
    mailbox::{Base, FILE, Seen},
    say,
};

/// Opens and closes with every fault, then without one, and checks the result.
fn opens(name: &str, base: &Base, prepare: impl Fn(&mut thrum_store::Store)) {
    let steps = {
        let mut case = base.case(0);
        drop(case.open().expect("opens"));
        case.disk.steps()
    };
    let mut injected = 0;
    for (step, failure) in faults(steps, SOME) {
        let at = format!("{name}: {failure:?} at step {step} of {steps}");
        let mut case = base.case(step * 10 + failure as u64);
        case.disk.fail_at(case.disk.steps() + step, failure);
        // Whether it opens depends on the step; if it does, the data read is correct.
        if let Ok(store) = case.open() {
            if case.disk.failed() == 0 {
                case.check(&store, &Seen::default(), &at);
            }
            drop(store);
        }
        injected += u64::from(case.disk.failed() > 0);
        case.disk.crash();
        let mut store = case.open().unwrap_or_else(|error| panic!("{at}: does not open again: {error}"));
        let mut seen = Seen::default();
        case.check(&store, &seen, &at);
        prepare(&mut store);
        case.go_on(&mut store, &mut seen, &at);
        case.disk.crash();
        drop(store);
        let mut store = case.open().unwrap_or_else(|error| panic!("{at}: does not open a third time: {error}"));
        case.examine(&mut store, &seen, &at);
    }
    say(name, steps, injected);
}

/// C26: each opening is durably counted.
#[test]
fn c26_opening_and_closing_survive_every_fault() {
    opens("opening", &Base::new(), |_| {});
}

/// C26: the first opening creates the tables without a write-ahead log.
#[test]
fn c26_the_first_opening_survives_every_fault() {
    opens("the first opening", &Base::empty(), |store| {
        for name in ["ann", "bob"] {
            let register =
                Register { name: name.into(), role: "coder".into(), module: name.into(), ..Register::default() };
            store.write(|tx| tx.register(register)).expect("registers");
        }
    });
}

/// Earlier formats, without the newest, as far as they matter here.
const FORMATS: [&str; 10] = [
    include_str!("../../../src/migrations/0001_log_and_projection.sql"),
    include_str!("../../../src/migrations/0002_mail.sql"),
    include_str!("../../../src/migrations/0003_purged.sql"),
    include_str!("../../../src/migrations/0004_open_sessions.sql"),
    include_str!("../../../src/migrations/0005_former_homes.sql"),
    include_str!("../../../src/migrations/0006_presence_per_agent.sql"),
    include_str!("../../../src/migrations/0007_mailbox_counts.sql"),
    include_str!("../../../src/migrations/0008_audience_counts.sql"),
    include_str!("../../../src/migrations/0009_shown_messages.sql"),
    include_str!("../../../src/migrations/0010_checkpoint_events.sql"),
];

/// The mailbox as a version of that format left it: its log, and a projection that the current fold does not trust.
fn older(base: Base, format: usize) -> Base {
    let case = base.case(0);
    let disk = faulty_disk::Disk::new(0);
    let conn = Connection::open(disk.path(FILE)).expect("opens");
    conn.execute_batch("PRAGMA journal_mode = WAL").expect("sets");
    conn.execute_batch(&FORMATS[..format].concat()).expect("makes the tables");
    conn.execute("ATTACH ?1 AS now", [case.disk.path(FILE).to_string_lossy()]).expect("attaches");
    conn.execute_batch(
        "INSERT INTO events
         SELECT sequence, event_id, type, at, origin_daemon, origin_log, origin_seq, received_from, target, body FROM now.events;
         INSERT INTO heads (origin, log, count, highest, sum) SELECT origin, log, count, highest, sum FROM now.heads;
         INSERT INTO state (one, log_id, next_sequence, next_origin_seq, last_at, open_counter, fold_version)
         SELECT one, log_id, next_sequence, next_origin_seq, last_at, open_counter, 0 FROM now.state;
         DETACH now;",
    )
    .expect("copies the log");
    conn.pragma_update(None, "application_id", 0x5468_726d).expect("sets");
    conn.pragma_update(None, "user_version", format).expect("sets");
    drop(conn);
    Base { image: disk.image(), ..base }
}

/// C26: from the first format, a middle one and the last one.
#[test]
fn c26_migrating_survives_every_fault() {
    for format in [1, 6, FORMATS.len()] {
        opens(&format!("from format {format}"), &older(Base::new(), format), |_| {});
    }
}
