//! `sync verify`: the comparison that proves that no event is missing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use thrum_core::{Error, Heads, heads::Difference, limits};
use tokio::{task::JoinSet, time::Instant};

use super::{Reconcile, difference::ReconcileOutcome};
use crate::{
    answers::{Compared, Missing, Verdict, Verified},
    blocking::blocking,
    outbound::reached,
    registry::Peer,
    replicator::{Comparable, ReplicatorStatus},
};

impl Reconcile {
    /// Compares events and projection with each peer until all agree, for at most `within`. If a peer still differs
    /// after normal sync, finds and fetches exactly the missing events. Ends early if that brought all it can from each
    /// peer that still differs.
    ///
    /// # Errors
    /// The log cannot be read, or cannot be rebuilt after the disk lost rows.
    pub(crate) async fn verify(self: &Arc<Self>, within: Duration) -> Result<Verified, Error> {
        let deadline = Instant::now() + within;
        let mut reconciliations: BTreeMap<String, Reconciliations> = BTreeMap::new();
        let mut patience = Instant::now() + limits::REPAIR_AFTER.min(within / 4);
        self.recount().await?;
        let first = self.outbound.ticket();
        for driven in self.outbound.driven() {
            // A lost announcement must not count as a difference.
            driven.signals.force(first);
        }
        loop {
            let began = Instant::now();
            let (mut verified, is_settled) = self.compare(deadline, &reconciliations).await?;
            // Stop if the next comparison would run out of time: its result would be worth less than this one.
            if is_settled || Instant::now() + limits::VERIFY_PAUSE + began.elapsed() * 2 >= deadline {
                for peer in &mut verified.peers {
                    let Some(done) = reconciliations.remove(&peer.daemon_id) else { continue };
                    verified.fetched += done.missing.iter().map(|missing| missing.fetched).sum::<u64>();
                    peer.missing = done.missing;
                    peer.error = peer.error.take().or(done.error.filter(|_| peer.status != Verdict::Equal));
                }
                return Ok(verified);
            }
            if Instant::now() >= patience {
                // Reserve time to compare once more afterwards.
                let last = (began.elapsed() * 4).max(limits::REPAIR_AFTER).min(within / 4);
                self.reconcile_all(&verified, &mut reconciliations, deadline.checked_sub(last).unwrap_or(began)).await;
                patience = Instant::now() + limits::REPAIR_AFTER;
            }
            tokio::time::sleep(limits::VERIFY_PAUSE).await;
        }
    }

    /// Reconciles with all peers that differ and support it. Runs concurrently, so that a slow peer does not take the
    /// time of others.
    async fn reconcile_all(
        self: &Arc<Self>,
        verified: &Verified,
        reconciliations: &mut BTreeMap<String, Reconciliations>,
        deadline: Instant,
    ) {
        let mut running = JoinSet::new();
        for driven in self.outbound.driven() {
            let Some(found) = verified.peers.iter().find(|peer| peer.daemon_id == driven.peer.daemon_id) else {
                continue;
            };
            let so_far = reconciliations.entry(found.daemon_id.clone()).or_default();
            let can_be_asked = driven.status.borrow().ranges && so_far.times < limits::MAX_REPAIRS && !so_far.is_over;
            if can_be_asked && !found.differences.is_empty() {
                let (reconcile, differences) = (Arc::clone(self), found.differences.clone());
                running.spawn(async move {
                    let outcome = reconcile.reconcile(&driven.peer, &differences, true, deadline).await;
                    (driven.peer.daemon_id, outcome)
                });
            }
        }
        for (peer, outcome) in running.join_all().await {
            reconciliations.entry(peer).or_default().add(outcome);
        }
    }

    /// Compares once. Also returns whether waiting longer would change nothing, given the reconciliations so far.
    async fn compare(
        &self,
        deadline: Instant,
        reconciliations: &BTreeMap<String, Reconciliations>,
    ) -> Result<(Verified, bool), Error> {
        let ticket = self.outbound.ticket();
        let mut asked = JoinSet::new();
        for mut driven in self.outbound.driven() {
            driven.signals.compare(ticket);
            asked.spawn(async move {
                let within = deadline.saturating_duration_since(Instant::now());
                let answered = reached(&mut driven.status, within, |status| {
                    status.compared >= ticket || status.legacy == Some(true)
                })
                .await;
                let status = driven.status.borrow().clone();
                (driven.peer, answered, status)
            });
        }
        let answers = asked.join_all().await;
        // Read ours after theirs, so that events that arrive from peers in between do not count as missing.
        let log = Arc::clone(&self.env.log);
        let (ours, projection) = blocking(move || {
            let projection = log.projection()?;
            Ok((
                Comparable { heads: Some(log.heads()?), projection: Some(projection), purge_waits: log.purge_waits()? },
                projection,
            ))
        })
        .await?;
        // A peer that agrees, reports no version vector, or is a legacy peer would give the same reply again. A peer
        // that does not serve what it claims to hold, or serves what must be refused, will not agree.
        let is_settled = answers.iter().all(|(peer, answered, status)| {
            let says_nothing = status.comparable.as_ref().is_some_and(|theirs| theirs.heads.is_none());
            let agrees = || status.comparable.as_ref().is_some_and(|theirs| compare(&ours, theirs).0 == Verdict::Equal);
            let is_given_up = || reconciliations.get(&peer.daemon_id).is_some_and(|done| done.is_given_up);
            *answered && (status.legacy == Some(true) || says_nothing || agrees() || is_given_up())
        });
        let mut peers: Vec<Compared> =
            answers.into_iter().map(|(peer, answered, status)| compare_peer(&peer, answered, &status, &ours)).collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        let status = Verdict::of(&peers);
        let events = ours.heads.as_ref().map_or(0, Heads::total);
        Ok((
            Verified { status, daemon_id: self.env.me.daemon_id.clone(), events, projection, fetched: 0, peers },
            is_settled,
        ))
    }
}

/// Results of all reconciliations with one peer in one `verify`.
#[derive(Default)]
struct Reconciliations {
    missing: Vec<Missing>,
    error: Option<String>,
    times: u32,
    /// Whether no other reconciliation is tried, because the last one ended early, or the peer does not serve the
    /// events that it claims to hold.
    is_over: bool,
    /// Whether the peer itself is the reason why no other reconciliation is tried: its next answers would be no better.
    is_given_up: bool,
}

impl Reconciliations {
    /// Adds a result. A later comparison of the same log replaces the missing events, unless only the earlier one has
    /// fetched any; the numbers of fetched events add up.
    fn add(&mut self, outcome: ReconcileOutcome) {
        self.times += 1;
        self.is_given_up = match &outcome.error {
            Some(error) => error.is_answer(),
            None => outcome.fetched() == 0 && (outcome.still() > 0 || outcome.note().is_some()),
        };
        self.is_over = outcome.error.is_some() || self.is_given_up;
        self.error = outcome.error.map(|error| error.to_string());
        for mut found in outcome.missing {
            let earlier =
                self.missing.iter_mut().find(|known| (&known.origin, &known.log) == (&found.origin, &found.log));
            match earlier {
                Some(known) if found.fetched == 0 && known.fetched > 0 => known.note = known.note.take().or(found.note),
                Some(known) => {
                    found.fetched += known.fetched;
                    *known = found;
                }
                None => self.missing.push(found),
            }
        }
    }
}

fn compare_peer(peer: &Peer, answered: bool, status: &ReplicatorStatus, ours: &Comparable) -> Compared {
    let theirs = status.comparable.as_deref().filter(|_| status.legacy == Some(false));
    let (status, differences, error) = match theirs {
        _ if !answered => {
            let why = status.exchange.last_error.clone().unwrap_or_else(|| "it did not answer in time".into());
            (Verdict::Unreachable, Vec::new(), Some(why))
        }
        Some(Comparable { heads: None, .. }) if status.ranges => {
            let why = format!("it cannot be compared: it has events of more than {} logs", limits::MAX_HEADS);
            (Verdict::Unreachable, Vec::new(), Some(why))
        }
        Some(theirs) => compare(ours, theirs),
        None => not_comparable(),
    };
    Compared {
        name: peer.name.clone(),
        daemon_id: peer.daemon_id.clone(),
        status,
        differences,
        missing: Vec::new(),
        error,
    }
}

type Comparison = (Verdict, Vec<Difference>, Option<String>);

fn not_comparable() -> Comparison {
    (
        Verdict::Unreachable,
        Vec::new(),
        Some("it cannot be compared: an older version that does not say what it holds".into()),
    )
}

/// Compares events and projection. The projection is not compared while a purge is due soon or not done on either side:
/// the data to be purged rightly still exists, and data written meanwhile may already be too old for the other side.
fn compare(ours: &Comparable, theirs: &Comparable) -> Comparison {
    let (Some(held), Some(held_there)) = (&ours.heads, &theirs.heads) else { return not_comparable() };
    let differences = held.differences(held_there);
    let waits = match (ours.purge_waits, theirs.purge_waits) {
        (false, false) => None,
        (true, _) => {
            Some("a purge waits here for its time, or is not done yet; what is made of the events is compared after it")
        }
        (false, true) => Some(
            "a purge waits there for its time, or is not done yet; what is made of the events is compared after it",
        ),
    };
    match (waits, theirs.projection) {
        (Some(waits), _) if differences.is_empty() => (Verdict::Equal, differences, Some(waits.to_owned())),
        (Some(waits), _) => (Verdict::Waiting, differences, Some(waits.to_owned())),
        (None, _) if !differences.is_empty() => (Verdict::Differs, differences, None),
        (None, Some(_)) if theirs.projection == ours.projection => (Verdict::Equal, differences, None),
        (None, Some(_)) => {
            let what = "the same events, but not the same made of them: are both the same version?";
            (Verdict::Differs, differences, Some(what.to_owned()))
        }
        (None, None) => not_comparable(),
    }
}

#[cfg(test)]
mod tests {
    use thrum_core::{Head, SetDigest};

    use super::*;

    fn holds(count: u64, projection: &str, purge_waits: bool) -> Comparable {
        let head = Head {
            origin: "d_k".into(),
            log: "l".into(),
            count,
            sum: SetDigest::of(&count.to_le_bytes()),
            ..Head::default()
        };
        let projection = Some(SetDigest::of(projection.as_bytes()));
        Comparable { heads: Some(std::iter::once(head).collect()), projection, purge_waits }
    }

    #[test]
    fn projections_are_not_compared_while_a_purge_is_pending() {
        let verdict = |ours: &Comparable, theirs: &Comparable| compare(ours, theirs).0;
        assert_eq!(verdict(&holds(3, "a", false), &holds(3, "a", false)), Verdict::Equal);
        assert_eq!(verdict(&holds(3, "a", false), &holds(3, "b", false)), Verdict::Differs);
        assert_eq!(verdict(&holds(3, "a", false), &holds(4, "a", false)), Verdict::Differs);
        for (here, there) in [(true, false), (false, true), (true, true)] {
            let same = compare(&holds(3, "a", here), &holds(3, "b", there));
            assert_eq!((same.0, same.2.is_some()), (Verdict::Equal, true), "and it says so");
            assert_eq!(verdict(&holds(3, "a", here), &holds(4, "a", there)), Verdict::Waiting);
        }
        let silent = Comparable { heads: None, ..holds(3, "a", true) };
        assert_eq!(verdict(&holds(3, "a", false), &silent), Verdict::Unreachable);
    }
}
