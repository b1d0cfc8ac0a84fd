//! Histories by their seeds: some in every build, a single one, or thousands.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use thrum_core::Ambient;

use crate::{kit::System, life::live, sim::Tally};

/// Prints the seed that failed.
pub struct Replay(pub u64, pub &'static str);

impl Drop for Replay {
    #[expect(clippy::print_stderr, reason = "the seed is for whoever reads the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with THRUM_SEED={} cargo test -p thrum-sync --test sync {}", self.0, self.1);
        }
    }
}

/// Returns the seed to replay, if one is set.
pub fn only_seed() -> Option<u64> {
    std::env::var("THRUM_SEED").ok().map(|seed| seed.parse().expect("THRUM_SEED is a number"))
}

/// Runs these histories one after another. Reports the seed that fails.
fn seeds(seeds: impl Iterator<Item = u64>) {
    if only_seed().is_none() && many().is_none() {
        for seed in seeds {
            one(seed);
        }
    }
}

fn one(seed: u64) -> (Tally, u64) {
    let _replay = Replay(seed, "simulation");
    live(seed)
}

/// Number of seeds in every build, half in this test and half in the next.
const SEEDS: u64 = 120;

/// P1, P2, P3, P4, P5, P6, P7
#[test]
fn p1_to_p7_hold_after_any_schedule_even_seeds() {
    seeds((1..=SEEDS).filter(|seed| seed % 2 == 0));
}

#[test]
fn p1_to_p7_hold_after_any_schedule_odd_seeds() {
    seeds((1..=SEEDS).filter(|seed| seed % 2 == 1));
}

/// New seeds in every build; a failing one is reported.
#[test]
fn p1_to_p7_hold_after_any_schedule_fresh_seeds() {
    let base = System.random_u64() >> 16;
    seeds((0..20).map(|n| base + n));
}

#[test]
fn a_seed_replays_to_the_last_message() {
    if let Some(seed) = only_seed() {
        return assert_eq!(one(seed), one(seed));
    }
    if many().is_none() {
        for seed in [3, 1_000_003] {
            assert_eq!(one(seed), one(seed), "seed {seed} is not the same the second time");
        }
    }
}

/// Returns the range in `THRUM_SEEDS=1..10000`: these run on all cores, with a summary at the end.
fn many() -> Option<std::ops::Range<u64>> {
    let text = std::env::var("THRUM_SEEDS").ok()?;
    let (from, to) = text.split_once("..").expect("THRUM_SEEDS is FIRST..LAST");
    let number = |text: &str| text.parse::<u64>().expect("THRUM_SEEDS is FIRST..LAST");
    Some(number(from)..number(to) + 1)
}

#[test]
fn many_seeds() {
    let Some(range) = many() else { return };
    let (next, total) = (AtomicU64::new(range.start), Mutex::new((Tally::default(), Vec::new())));
    let began = std::time::Instant::now();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= range.end {
                return;
            }
            let lived = std::panic::catch_unwind(|| one(seed));
            let mut total = total.lock().unwrap();
            match lived {
                Ok((tally, _)) => total.0.add(&tally),
                Err(_) => total.1.push(seed),
            }
            if seed % 500 == 0 {
                say(&format!("{seed}: {} s, {} failed, {}", began.elapsed().as_secs(), total.1.len(), total.0));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let (tally, failed) = total.into_inner().unwrap();
    say(&format!("{tally}; {} s", began.elapsed().as_secs()));
    assert_eq!(failed, Vec::<u64>::new(), "these seeds failed");
}

#[expect(clippy::print_stderr, reason = "whoever runs many seeds wants to see how it goes")]
fn say(line: &str) {
    eprintln!("{line}");
}
