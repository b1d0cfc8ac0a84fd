//! Records when each peer acknowledged which part of our log. A pull acknowledges everything up to its start position,
//! because the peer continues after what it has stored durably.
//!
//! Each peer has a list of marks: "everything up to this sequence, by this instant". A message has been at a
//! recipient's home since the first mark at or above its sequence. Only pulls of the home itself add to its marks, so a
//! relay's word does not count. A peer that acknowledges less than before has lost the rest, so its marks above that
//! sequence are removed. The marks live in memory, and are saved to disk to survive a restart.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use thrum_core::{Timestamp, limits};
use tokio::sync::Notify;

pub(crate) mod save;

/// The marks of all peers.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    peers: Mutex<BTreeMap<String, Marks>>,
    unsaved: Notify,
}

#[derive(Debug, Default)]
struct Marks {
    at: BTreeMap<u64, Timestamp>,
    /// All marks up to this sequence are saved on disk, or being saved.
    saved: u64,
    /// `true` if all marks on disk must be replaced.
    afresh: bool,
}

/// Marks of one peer that must be saved.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    peer: String,
    afresh: bool,
    marks: Vec<(u64, Timestamp)>,
}

impl Acknowledged {
    /// Starts with the saved marks.
    pub(crate) fn new(saved: Vec<(String, u64, Timestamp)>) -> Self {
        let mut peers: BTreeMap<String, Marks> = BTreeMap::new();
        for (peer, sequence, at) in saved {
            let marks = peers.entry(peer).or_default();
            marks.at.insert(sequence, at);
            marks.saved = marks.saved.max(sequence);
        }
        Self { peers: Mutex::new(peers), unsaved: Notify::new() }
    }

    /// Records that `peer` reports having everything up to `upto`, durably.
    pub(crate) fn record(&self, peer: &str, upto: u64, now: Timestamp) {
        let mut peers = self.peers();
        let marks = peers.entry(peer.to_owned()).or_default();
        if marks.record(upto, now) {
            self.unsaved.notify_one();
        }
    }

    /// Returns a time by which `peer` certainly had the event with this sequence of our log; `None` if the peer has not
    /// acknowledged it.
    pub(crate) fn since(&self, peer: &str, sequence: u64) -> Option<Timestamp> {
        self.peers().get(peer)?.at.range(sequence..).next().map(|(_, at)| *at)
    }

    /// Forgets a peer that was removed.
    pub(crate) fn forget(&self, peer: &str) {
        self.peers().remove(peer);
    }

    fn take_unsaved(&self) -> Vec<Change> {
        self.peers().iter_mut().filter_map(|(peer, marks)| marks.take_unsaved(peer)).collect()
    }

    /// Marks everything for saving again, because the state of the marks on disk is unknown.
    fn not_saved(&self) {
        self.peers().values_mut().for_each(|marks| marks.afresh = true);
        self.unsaved.notify_one();
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<String, Marks>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marks {
    /// Records an acknowledgement. Returns `true` if the marks changed.
    fn record(&mut self, upto: u64, now: Timestamp) -> bool {
        let lost = self.at.split_off(&(upto + 1));
        self.afresh |= !lost.is_empty();
        let is_new = upto > 0 && self.at.last_key_value().is_none_or(|(highest, _)| *highest < upto);
        if is_new {
            self.at.insert(upto, now);
            self.saved = self.saved.min(upto - 1);
        }
        if self.at.len() > limits::MAX_ACKNOWLEDGEMENTS {
            let mut index = 0;
            let half = self.at.len() / 2;
            self.at.retain(|_, _| {
                index += 1;
                index > half || index % 2 == 0
            });
            self.afresh = true;
        }
        is_new || !lost.is_empty()
    }

    fn take_unsaved(&mut self, peer: &str) -> Option<Change> {
        let afresh = std::mem::take(&mut self.afresh);
        let from = if afresh { 0 } else { self.saved + 1 };
        let marks: Vec<(u64, Timestamp)> = self.at.range(from..).map(|(sequence, at)| (*sequence, *at)).collect();
        self.saved = self.at.last_key_value().map_or(0, |(highest, _)| *highest);
        (afresh || !marks.is_empty()).then(|| Change { peer: peer.to_owned(), afresh, marks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_message_is_at_its_home_since_the_first_acknowledgement_that_covers_it() {
        let known = Acknowledged::default();
        known.record("d_bob", 5, at(10));
        known.record("d_bob", 9, at(20));
        known.record("d_bob", 9, at(30));
        let since = [5, 6, 9, 10].map(|sequence| known.since("d_bob", sequence));
        assert_eq!(since, [Some(at(10)), Some(at(20)), Some(at(20)), None]);
        assert_eq!(known.since("d_relay", 5), None);
        known.record("d_relay", 100, at(40));
        assert_eq!(known.since("d_bob", 10), None, "a relay's word is not the home's");
    }

    #[test]
    fn a_peer_that_acknowledges_less_has_lost_the_events_above() {
        let known = Acknowledged::default();
        known.record("d_bob", 5, at(10));
        known.record("d_bob", 9, at(20));
        known.record("d_bob", 6, at(30));
        assert_eq!([5, 6, 7].map(|sequence| known.since("d_bob", sequence)), [Some(at(10)), Some(at(30)), None]);
        known.record("d_bob", 0, at(40));
        assert_eq!(known.since("d_bob", 1), None);
    }

    #[test]
    fn many_acknowledgements_leave_few_marks_and_none_is_too_early() {
        let known = Acknowledged::default();
        for n in 1..=10_000 {
            known.record("d_bob", n, at(i64::try_from(n).expect("small")));
        }
        assert!(known.peers()["d_bob"].at.len() <= limits::MAX_ACKNOWLEDGEMENTS);
        for n in [1, 77, 5000, 9999, 10_000] {
            assert!(known.since("d_bob", n) >= Some(at(i64::try_from(n).expect("small"))), "{n}");
        }
        assert_eq!(known.since("d_bob", 10_000), Some(at(10_000)));
    }

    #[test]
    fn only_new_marks_are_saved_unless_others_must_be_removed() {
        let known = Acknowledged::new(vec![("d_bob".into(), 5, at(10))]);
        assert_eq!(known.take_unsaved(), []);
        known.record("d_bob", 5, at(11));
        assert_eq!(known.take_unsaved(), []);
        known.record("d_bob", 9, at(20));
        let change = |afresh, marks| [Change { peer: "d_bob".into(), afresh, marks }];
        assert_eq!(known.take_unsaved(), change(false, vec![(9, at(20))]));
        known.record("d_bob", 7, at(30));
        assert_eq!(known.take_unsaved(), change(true, vec![(5, at(10)), (7, at(30))]));
        known.record("d_bob", 0, at(40));
        assert_eq!(known.take_unsaved(), change(true, vec![]));
        known.not_saved();
        assert_eq!(known.take_unsaved(), change(true, vec![]));
    }
}
