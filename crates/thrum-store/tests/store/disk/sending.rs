//! New mail, single and in groups.

use std::sync::mpsc;

use thrum_store::{StoreError, Writer};

use super::{
    SOME, faults,
    mailbox::{Base, FILE, Seen, letter},
    say, survives,
};

/// C26, P2: short and long texts, so that both single pages and several pages are written.
#[test]
fn c26_sending_survives_every_fault() {
    survives("sending", &Base::new(), SOME, |_, store, seen| {
        (0..6).try_for_each(|n| seen.send(store, &format!("new {n} {}", "n".repeat(n * 1500))))
    });
}

/// C26: the write-ahead log is checkpointed into the file and truncated in between.
#[test]
fn c26_checkpointing_the_write_ahead_log_survives_every_fault() {
    survives("folding the log", &Base::new(), SOME, |case, store, seen| {
        for (n, how) in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"].into_iter().enumerate() {
            seen.send(store, &format!("before {how} {}", "b".repeat(n * 3000)))?;
            let conn = rusqlite::Connection::open(case.disk.path(FILE))?;
            conn.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(()))?;
        }
        seen.send(store, "after the last")
    });
}

/// C26: so much mail that SQLite checkpoints automatically.
#[test]
fn c26_a_write_ahead_log_that_grows_until_its_checkpoint_survives_every_fault() {
    survives("sending much", &Base::new(), 8, |_, store, seen| {
        (0..12).try_for_each(|n| seen.send(store, &format!("much {n} {}", "m".repeat(400_000))))
    });
}

/// C26, P2, P7: many jobs wait for one COMMIT; each gets its own outcome, and the writer thread continues.
#[test]
fn c26_a_group_commit_survives_every_fault_and_each_job_gets_its_true_outcome() {
    let base = Base::new();
    let steps = 40;
    let mut injected = 0;
    for (step, failure) in faults(steps, SOME) {
        let at = format!("a group: {failure:?} at step {step}");
        let mut case = base.case(step * 10 + failure as u64);
        let store = case.open().expect("opens");
        let writer = Writer::start(store, |_| {}).expect("starts");
        case.disk.fail_at(case.disk.steps() + step, failure);
        let (told, outcomes) = mpsc::channel();
        let mut seen = Seen::default();
        for n in 0..30 {
            let content = format!("together {n} {}", "t".repeat(n * 300));
            let (told, send) = (told.clone(), letter(&content));
            writer.submit(move |tx| tx.send(send), move |outcome| _ = told.send((content, outcome.map(drop))));
            if n % 10 == 9 {
                // The next messages follow these.
                for (content, outcome) in outcomes.iter().take(10) {
                    assert!(!matches!(outcome, Err(StoreError::Damaged(_) | StoreError::Closed)), "{at}: {outcome:?}");
                    seen.hear(&content, &outcome);
                }
            }
        }
        injected += u64::from(case.disk.failed() > 0);
        if !matches!(failure, faulty_disk::Failure::Crash | faulty_disk::Failure::TornWrite) {
            case.disk.mend();
            let outcome = writer.call(|tx| tx.send(letter("after the repair"))).map(drop);
            assert!(outcome.is_ok(), "{at}: {outcome:?}");
            seen.hear("after the repair", &outcome);
        }
        case.disk.crash();
        writer.close();
        let mut store = case.open().unwrap_or_else(|error| panic!("{at}: does not open again: {error}"));
        case.check(&store, &seen, &at);
        case.go_on(&mut store, &mut seen, &at);
        case.examine(&mut store, &seen, &at);
    }
    assert!(injected > 60, "groups made no more than {injected} faults possible");
    say("a group", steps, injected);
}
