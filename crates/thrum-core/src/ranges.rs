//! Range sets of origin sequences: which events of a log are held, purged or missing.

use std::ops::RangeInclusive;

use rangemap::RangeInclusiveSet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits;

/// A set of `origin_seq`s, stored and serialised as runs: `[[1,40],[42,42]]`. Numbers are 1 to `i64::MAX`, as in the
/// log.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RangeSet(RangeInclusiveSet<u64>);

/// The largest possible origin sequence: SQLite's largest integer.
pub const LAST: u64 = i64::MAX.unsigned_abs();

impl RangeSet {
    /// Adds a run. Numbers that cannot be origin sequences are left out.
    pub fn insert(&mut self, run: RangeInclusive<u64>) {
        let run = (*run.start()).max(1)..=(*run.end()).min(LAST);
        if !run.is_empty() {
            self.0.insert(run);
        }
    }

    /// Adds one number.
    pub fn add(&mut self, number: u64) {
        self.insert(number..=number);
    }

    /// Adds all numbers of another set.
    pub fn extend(&mut self, other: &Self) {
        other.iter().for_each(|run| self.insert(run));
    }

    /// Removes all numbers of another set.
    pub fn subtract(&mut self, other: &Self) {
        other.iter().for_each(|run| self.0.remove(run));
    }

    /// The numbers of this set that are not in the other.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        self.subtract(other);
        self
    }

    /// The numbers of this set that lie in a window.
    #[must_use]
    pub fn within(&self, window: &RangeInclusive<u64>) -> Self {
        let clip = |run: RangeInclusive<u64>| (*run.start()).max(*window.start())..=(*run.end()).min(*window.end());
        let mut inside = Self::default();
        self.0.overlapping(window).for_each(|run| inside.insert(clip(run.clone())));
        inside
    }

    /// The first `most` runs of this set.
    #[must_use]
    pub fn first(&self, most: usize) -> Self {
        Self(self.0.iter().take(most).cloned().collect())
    }

    /// The smallest `most` numbers of this set.
    #[must_use]
    pub fn lowest_numbers(&self, most: u64) -> Self {
        let (mut lowest, mut room) = (Self::default(), most);
        for run in self.iter() {
            if room == 0 {
                break;
            }
            let last = run.start().saturating_add(room - 1).min(*run.end());
            room -= last - run.start() + 1;
            lowest.insert(*run.start()..=last);
        }
        lowest
    }

    /// Returns `true` if the set contains the number.
    pub fn contains(&self, number: u64) -> bool {
        self.0.contains(&number)
    }

    /// The runs in ascending order, disjoint and not adjacent.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = RangeInclusive<u64>> + '_ {
        self.0.iter().cloned()
    }

    /// Number of runs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if the set contains no number.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of numbers in the set.
    pub fn count(&self) -> u64 {
        self.iter().fold(0, |count, run| count.saturating_add(run.end() - run.start() + 1))
    }

    /// The smallest number of the set; `None` if the set is empty.
    pub fn lowest(&self) -> Option<u64> {
        self.iter().next().map(|run| *run.start())
    }

    /// The largest number of the set; `None` if the set is empty.
    pub fn highest(&self) -> Option<u64> {
        self.iter().next_back().map(|run| *run.end())
    }
}

impl FromIterator<u64> for RangeSet {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut runs = Self::default();
        // Most numbers are consecutive, and inserting a run is cheaper than inserting each of its numbers.
        let mut open: Option<RangeInclusive<u64>> = None;
        for number in numbers {
            open = match open.take() {
                Some(run) if run.end().checked_add(1) == Some(number) => Some(*run.start()..=number),
                Some(run) => {
                    runs.insert(run);
                    Some(number..=number)
                }
                None => Some(number..=number),
            };
        }
        open.into_iter().for_each(|run| runs.insert(run));
        runs
    }
}

/// `3, 5–9`: single numbers and runs, separated by commas.
impl std::fmt::Display for RangeSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, run) in self.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            if run.start() == run.end() {
                write!(f, "{comma}{}", run.start())?;
            } else {
                write!(f, "{comma}{}–{}", run.start(), run.end())?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for RangeSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl Serialize for RangeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|run| [*run.start(), *run.end()]))
    }
}

/// Accepts at most [`limits::MAX_TOLD_RUNS`] runs, in any order, overlapping or not. A run that ends before it starts,
/// or contains a number that cannot be an origin sequence, is an error, because its sender is faulty.
impl<'de> Deserialize<'de> for RangeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut runs = Self::default();
        let pairs = Vec::<[u64; 2]>::deserialize(deserializer)?;
        if pairs.len() > limits::MAX_TOLD_RUNS {
            return Err(de::Error::custom(format!("{} runs of numbers at once", pairs.len())));
        }
        for [first, last] in pairs {
            if first == 0 || first > last || last > LAST {
                return Err(de::Error::custom(format!("no run of numbers: {first} to {last}")));
            }
            runs.insert(first..=last);
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(text: &str) -> RangeSet {
        serde_json::from_str(text).expect("runs")
    }

    #[test]
    fn missing_sequences_are_held_there_and_neither_held_nor_purged_here() {
        let there = runs("[[1,20],[30,30]]");
        let missing = there.clone().without(&runs("[[3,9]]")).without(&runs("[[1,2],[15,16]]"));
        assert_eq!((missing.to_string(), missing.count()), ("10–14, 17–20, 30".to_owned(), 10));
        assert_eq!(missing.within(&(12..=18)).to_string(), "12–14, 17–18");
        assert_eq!(missing.first(1).to_string(), "10–14");
        let lowest: Vec<String> = [0, 1, 5, 6, 99].map(|most| missing.lowest_numbers(most).to_string()).into();
        assert_eq!(lowest, ["", "10", "10–14", "10–14, 17", "10–14, 17–20, 30"]);
        assert_eq!((missing.lowest(), missing.highest(), missing.contains(15)), (Some(10), Some(30), false));
        assert_eq!([5, 6, 7, 2, 3, 9].into_iter().collect::<RangeSet>(), runs("[[2,3],[5,7],[9,9]]"), "in any order");
        assert_eq!(serde_json::to_string(&runs("[[4,5],[1,3]]")).expect("json"), "[[1,5]]", "neighbours are one run");
    }

    /// Hostile input (C18 in docs/security.md): numbers beyond all bounds.
    #[test]
    fn invalid_origin_sequences_are_refused_and_huge_ranges_are_cheap() {
        for wrong in [
            "[[0,3]]",
            "[[3,1]]",
            "[[1,9223372036854775808]]",
            "[[-1,1]]",
            "[[1]]",
            "[[1,2,3]]",
            "[[1.5,2]]",
            r#"["1-2"]"#,
        ] {
            assert!(serde_json::from_str::<RangeSet>(wrong).is_err(), "{wrong}");
        }
        let all = runs("[[1,9223372036854775807]]");
        assert_eq!((all.count(), all.len()), (LAST, 1));
        let many: Vec<[u64; 2]> = (1..=1_000_000).map(|n| [2 * n, 2 * n]).collect();
        assert!(serde_json::from_value::<RangeSet>(serde_json::json!(many)).is_err());
        let mut beyond = RangeSet::default();
        beyond.insert(LAST..=u64::MAX);
        beyond.add(0);
        assert_eq!(beyond.to_string(), LAST.to_string());
    }
}
