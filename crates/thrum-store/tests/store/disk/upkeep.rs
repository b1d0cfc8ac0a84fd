//! Upkeep of a store: purging, rebuilding, closing and opening.

use thrum_store::{Store, StoreError};

use super::{
    SOME, faults,
    mailbox::{Base, Case, FILE, Seen},
    survives,
};

fn purge(store: &mut Store, seen: &mut Seen, base: &Base) -> Result<(), StoreError> {
    seen.purge = Some(false);
    store.write(|tx| tx.purge(base.cutoff))?;
    seen.purge = Some(true);
    Ok(())
}

fn holds_old_text(case: &Case<'_>) -> bool {
    let image = case.disk.image();
    let files = [FILE.to_owned(), format!("{FILE}-wal"), format!("{FILE}-journal")];
    let text = b"oooooooo";
    files.iter().filter_map(|name| image.file(name)).any(|bytes| bytes.windows(text.len()).any(|window| window == text))
}

/// C26, P5: the rows are removed, then the file is rewritten and the log truncated.
#[test]
fn c26_purging_survives_every_fault() {
    let base = Base::new();
    survives("purging", &base, SOME, |_, store, seen| {
        seen.take(store, &base.batches)?;
        seen.send(store, "before the purge")?;
        purge(store, seen, &base)?;
        seen.send(store, "after the purge")
    });
}

/// C26: after an interrupted purge, its text is gone from the files after the next start at the latest.
#[test]
fn c26_purged_text_is_removed_from_the_files_after_a_fault() {
    let base = Base::new();
    let run = |case: &Case<'_>, store: &mut Store, seen: &mut Seen| {
        assert!(holds_old_text(case));
        purge(store, seen, &base)
    };
    let steps = {
        let mut case = base.case(0);
        let mut store = case.open().expect("opens");
        let before = case.disk.steps();
        run(&case, &mut store, &mut Seen::default()).expect("purges");
        assert!(!holds_old_text(&case), "without any fault");
        case.disk.steps() - before
    };
    let mut acknowledged = 0;
    for (step, failure) in faults(steps, SOME) {
        let mut case = base.case(step * 10 + failure as u64);
        let mut store = case.open().expect("opens");
        case.disk.fail_at(case.disk.steps() + step, failure);
        let mut seen = Seen::default();
        if run(&case, &mut store, &mut seen).is_err() {
            continue;
        }
        acknowledged += 1;
        case.disk.crash();
        drop(store);
        let mut store = case.open().expect("opens again");
        case.go_on(&mut store, &mut seen, "after a purge");
        assert!(!holds_old_text(&case), "{failure:?} at step {step} of {steps}: purged text can still be read");
    }
    assert!(acknowledged > 0, "no fault came after the commit");
}

/// C26, I1.
#[test]
fn c26_a_rebuild_survives_every_fault() {
    let base = Base::new();
    survives("folding again", &base, SOME, |_, store, seen| {
        seen.take(store, &base.batches)?;
        store.rebuild()?;
        store.repair()
    });
}
