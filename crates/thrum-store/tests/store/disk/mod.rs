//! C26: faults of the disk at every step of a store's work. A first run counts the calls that change the disk. Then, at
//! each of these calls, the power fails, or the disk is full, fails or becomes read-only. Afterwards the database must
//! hold everything acknowledged (P2, I3), nothing half written (I4), no event parked or rejected because of the disk
//! (I5), and a projection that equals the fold of its log (I1).
//!
//! By default a subset of the steps is tested, spread over all; with `THRUM_EVERY_FAULT=1` all of them, except in the
//! slowest test.

mod copies;
mod mailbox;
mod opening;
mod receiving;
mod sending;
mod upkeep;

use faulty_disk::{FAILURES, Failure};
use mailbox::{Base, Case, Seen};
use thrum_store::{Store, StoreError};

/// Number of faults that each test injects by default if one takes milliseconds.
const SOME: u64 = 90;

/// The steps at which each failure is tried; `steps` is their total, `some` the approximate number tried by default.
fn faults(steps: u64, some: u64) -> impl Iterator<Item = (u64, Failure)> {
    let all = steps * FAILURES.len() as u64;
    let more = if std::env::var_os("THRUM_EVERY_FAULT").is_none() { 1 } else { 100 };
    let stride = (all / (some * more)).max(1);
    // If the stride is not a multiple of the number of failures, each failure gets its share.
    let stride = if stride.is_multiple_of(5) { stride + 1 } else { stride };
    (0..all)
        .step_by(usize::try_from(stride).expect("small"))
        .map(|n| (n / 5 + 1, FAILURES[usize::try_from(n % 5).expect("small")]))
}

/// Printed with `--nocapture`.
#[expect(clippy::print_stdout, reason = "figures for whoever runs the tests for them")]
fn say(name: &str, steps: u64, injected: u64) {
    println!("{name}: {steps} steps, {injected} faults");
}

/// Runs `work` on a mailbox like `base` with every fault. It continues until something fails, and records in `Seen` the
/// requests and the acknowledgements.
fn survives(
    name: &str,
    base: &Base,
    some: u64,
    work: impl Fn(&Case<'_>, &mut Store, &mut Seen) -> Result<(), StoreError>,
) {
    let steps = {
        let mut case = base.case(0);
        let mut store = case.open().expect("opens");
        let before = case.disk.steps();
        let mut seen = Seen::default();
        work(&case, &mut store, &mut seen).expect("works on a sound disk");
        let steps = case.disk.steps() - before;
        drop(store);
        let mut store = case.open().expect("opens again");
        case.examine(&mut store, &seen, "on a sound disk");
        steps
    };
    let mut injected = 0;
    for (step, failure) in faults(steps, some) {
        let at = format!("{name}: {failure:?} at step {step} of {steps}");
        let mut case = base.case(step * 10 + failure as u64);
        let mut store = case.open().expect("opens");
        case.disk.fail_at(case.disk.steps() + step, failure);
        let mut seen = Seen::default();
        let outcome = work(&case, &mut store, &mut seen);
        injected += u64::from(case.disk.failed() > 0);
        let is_power = matches!(failure, Failure::Crash | Failure::TornWrite);
        if let (Err(error), false) = (&outcome, is_power) {
            assert!(!matches!(error, StoreError::Damaged(_)), "{at}: taken for damage: {error}");
        }
        if !is_power {
            case.disk.mend();
            case.check(&store, &seen, &format!("{at}, repaired"));
            case.go_on(&mut store, &mut seen, &at);
            case.check(&store, &seen, &format!("{at}, going on"));
        }
        case.disk.crash();
        drop(store);
        let mut store = case.open().unwrap_or_else(|error| panic!("{at}: does not open again: {error}"));
        case.check(&store, &seen, &format!("{at}, opened again"));
        case.go_on(&mut store, &mut seen, &at);
        case.examine(&mut store, &seen, &format!("{at}, at the end"));
    }
    say(name, steps, injected);
}
