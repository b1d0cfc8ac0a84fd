//! Records the events withheld from a legacy peer and the reasons, for display. Kept in memory only, like the skipped
//! events: after a restart, rows that the peer has passed are not examined again.

use std::{collections::BTreeMap, sync::Arc};

/// Number of ids to keep for each reason.
const NAMED: usize = 3;

/// Events withheld for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unsent {
    /// Number of events.
    pub(crate) count: u64,
    /// Ids of the first events, at most [`NAMED`].
    pub(crate) ids: Vec<String>,
}

/// The withheld events that the user should know about, by reason.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    log: Option<Arc<str>>,
    /// The last examined sequence of `log`.
    upto: u64,
    by_reason: BTreeMap<&'static str, Unsent>,
}

/// A withheld row: sequence, id and reason.
pub(super) type WithheldRow = (u64, String, &'static str);

impl Withheld {
    /// Counts the rows that were not examined before. Starts anew with another log.
    pub(super) fn record(&mut self, log: &Arc<str>, found: Vec<WithheldRow>, upto: u64) {
        if self.log.as_ref() != Some(log) {
            *self = Self { log: Some(Arc::clone(log)), ..Self::default() };
        }
        for (_, id, why) in found.into_iter().filter(|(sequence, ..)| *sequence > self.upto) {
            let unsent = self.by_reason.entry(why).or_default();
            unsent.count += 1;
            if unsent.ids.len() < NAMED {
                unsent.ids.push(id);
            }
        }
        self.upto = self.upto.max(upto);
    }

    pub(super) fn reasons(&self) -> Vec<(&'static str, Unsent)> {
        self.by_reason.iter().map(|(why, unsent)| (*why, unsent.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_counted_once_however_often_the_peer_asks() {
        let (mut withheld, log): (_, Arc<str>) = (Withheld::default(), "log".into());
        let rows = |first: u64| (first..=5).map(|n| (n, format!("evt_{n}"), "why")).collect::<Vec<_>>();
        withheld.record(&log, rows(1), 7);
        withheld.record(&log, rows(3), 7);
        let ids = ["evt_1", "evt_2", "evt_3"].map(str::to_owned).to_vec();
        assert_eq!(withheld.reasons(), [("why", Unsent { count: 5, ids })]);
        withheld.record(&"another".into(), Vec::new(), 1);
        assert_eq!(withheld.reasons(), []);
    }
}
