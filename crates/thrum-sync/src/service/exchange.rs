//! Forced pulls, and the comparison that proves that nothing is missing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use thrum_core::{ErrorKind, Fault, Heads, heads::Difference, limits};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{
    Compared, Forced, Missing, Peers, Verdict, Verified, blocking,
    driver::{Signals, reached},
    lock,
    repair::Outcome,
};
use crate::{
    registry::Peer,
    replicator::{Comparable, Status},
};

/// A peer and the way to its driver.
struct Line {
    peer: Peer,
    signals: Arc<Signals>,
    status: watch::Receiver<Status>,
}

impl Peers {
    fn lines(&self) -> Vec<Line> {
        let peers = self.list();
        let drivers = lock(&self.0.drivers);
        peers
            .into_iter()
            .filter_map(|peer| drivers.get(&peer.daemon_id).map(|driver| Line { signals: driver.signals(), status: driver.status(), peer }))
            .collect()
    }

    /// Pulls now, from one peer (id or name) or from all, whatever backoff says; waits at most [`limits::FORCE`].
    ///
    /// # Errors
    /// `NotFound`. Peers that cannot be pulled have their own error inside.
    pub async fn force(&self, from: Option<&str>) -> Result<Vec<Forced>, Fault> {
        let only = match from {
            Some(wanted) => Some(self.0.desk().registry.find(wanted)?.daemon_id.clone()),
            None => None,
        };
        let ticket = self.0.ticket();
        let mut pulls = JoinSet::new();
        for mut line in self.lines().into_iter().filter(|line| only.as_ref().is_none_or(|id| *id == line.peer.daemon_id)) {
            let before = line.status.borrow().clone();
            line.signals.force(ticket);
            pulls.spawn(async move {
                let ended = reached(&mut line.status, limits::FORCE, |status| status.forced >= ticket).await;
                let now = line.status.borrow();
                let error = if ended && now.failures == before.failures {
                    None
                } else if ended {
                    now.last_error.clone()
                } else {
                    Some(now.last_error.clone().unwrap_or_else(|| "it is still being read".into()))
                };
                Forced {
                    peer: line.peer.daemon_id,
                    name: line.peer.name,
                    applied: now.applied - before.applied,
                    skipped: now.skipped - before.skipped,
                    error,
                }
            });
        }
        let mut results = pulls.join_all().await;
        results.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(results)
    }

    /// Compares with every peer what each holds and makes of it, until all agree, at most `within` long. Where the usual
    /// exchange does not make them agree, what exactly is missing is looked for and fetched.
    ///
    /// # Errors
    /// The log cannot be read, or made anew where the disk lost rows.
    pub async fn verify(&self, within: Duration) -> Result<Verified, Fault> {
        let deadline = Instant::now() + within;
        let mut repairs: BTreeMap<String, Repairs> = BTreeMap::new();
        let mut patience = Instant::now() + limits::REPAIR_AFTER.min(within / 4);
        self.0.mend().await?;
        let first = self.0.ticket();
        for line in self.lines() {
            // A lost announcement is not a difference.
            line.signals.force(first);
        }
        loop {
            let began = Instant::now();
            let (mut verified, is_settled) = self.compare(deadline).await?;
            // A comparison that runs out of time says less than the one before it.
            if is_settled || Instant::now() + limits::VERIFY_PAUSE + began.elapsed() * 2 >= deadline {
                for peer in &mut verified.peers {
                    let Some(done) = repairs.remove(&peer.daemon_id) else { continue };
                    verified.fetched += done.missing.iter().map(|missing| missing.fetched).sum::<u64>();
                    peer.missing = done.missing;
                    peer.error = peer.error.take().or(done.error.filter(|_| peer.status != Verdict::Equal));
                }
                return Ok(verified);
            }
            if Instant::now() >= patience {
                // What it came to has to be compared once more.
                let last = (began.elapsed() * 4).max(limits::REPAIR_AFTER).min(within / 4);
                self.repair(&verified, &mut repairs, deadline.checked_sub(last).unwrap_or(began)).await;
                patience = Instant::now() + limits::REPAIR_AFTER;
            }
            tokio::time::sleep(limits::VERIFY_PAUSE).await;
        }
    }

    /// Looks for what is missing between us and each peer that differs and can be asked; at all of them at once, so that none that
    /// lets us wait takes the others' time.
    async fn repair(&self, verified: &Verified, repairs: &mut BTreeMap<String, Repairs>, deadline: Instant) {
        let mut looking = JoinSet::new();
        for line in self.lines() {
            let Some(found) = verified.peers.iter().find(|peer| peer.daemon_id == line.peer.daemon_id) else { continue };
            let so_far = repairs.entry(found.daemon_id.clone()).or_default();
            let can_be_asked = line.status.borrow().ranges && so_far.times < limits::MAX_REPAIRS && !so_far.is_over;
            if can_be_asked && !found.differences.is_empty() {
                let (inner, differences) = (Arc::clone(&self.0), found.differences.clone());
                looking.spawn(async move {
                    let outcome = inner.repair(&line.peer, &differences, true, deadline).await;
                    (line.peer.daemon_id, outcome)
                });
            }
        }
        for (peer, outcome) in looking.join_all().await {
            repairs.entry(peer).or_default().add(outcome);
        }
    }

    /// Once; and whether waiting would change nothing.
    async fn compare(&self, deadline: Instant) -> Result<(Verified, bool), Fault> {
        let ticket = self.0.ticket();
        let mut asked = JoinSet::new();
        for mut line in self.lines() {
            line.signals.compare(ticket);
            asked.spawn(async move {
                let within = deadline.saturating_duration_since(Instant::now());
                let answered = reached(&mut line.status, within, |status| status.compared >= ticket || status.legacy == Some(true)).await;
                let status = line.status.borrow().clone();
                (line.peer, answered, status)
            });
        }
        let answers = asked.join_all().await;
        // Ours after theirs: what arrived meanwhile came from them, and is no difference.
        let log = Arc::clone(&self.0.log);
        let (ours, projection) = blocking(move || {
            let projection = log.projection()?;
            Ok((Comparable { heads: Some(log.heads()?), projection: Some(projection), purge_waits: log.purge_waits()? }, projection))
        })
        .await?;
        // Who does not say what it holds, or has agreed, says the same in a moment.
        let is_settled = answers.iter().all(|(_, answered, status)| {
            let says_nothing = status.comparable.as_ref().is_some_and(|theirs| theirs.heads.is_none());
            let agrees = || status.comparable.as_ref().is_some_and(|theirs| compare(&ours, theirs).0 == Verdict::Equal);
            *answered && (status.legacy == Some(true) || says_nothing || agrees())
        });
        let mut peers: Vec<Compared> = answers.into_iter().map(|(peer, answered, status)| judge(&peer, answered, &status, &ours)).collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        let any = |verdict: Verdict| peers.iter().any(|peer| peer.status == verdict);
        let status = if peers.is_empty() {
            Verdict::NoPeers
        } else if any(Verdict::Differs) {
            Verdict::Differs
        } else if any(Verdict::Waiting) {
            Verdict::Waiting
        } else if any(Verdict::Unreachable) {
            Verdict::Unreachable
        } else {
            Verdict::Equal
        };
        let events = ours.heads.as_ref().map_or(0, Heads::total);
        Ok((Verified { status, daemon_id: self.0.me.daemon_id.clone(), events, projection, fetched: 0, peers }, is_settled))
    }

    /// The status of one peer, as it changes. For tests and for those who watch.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn watch(&self, id_or_name: &str) -> Result<watch::Receiver<Status>, Fault> {
        let id = self.0.desk().registry.find(id_or_name)?.daemon_id.clone();
        let drivers = lock(&self.0.drivers);
        drivers.get(&id).map(|driver| driver.status()).ok_or_else(|| Fault::new(ErrorKind::NotFound, format!("peer \"{id}\" not found")))
    }
}

/// What repairs with one peer came to in one `verify`.
#[derive(Default)]
struct Repairs {
    missing: Vec<Missing>,
    error: Option<String>,
    times: u32,
    /// Another look would find the same: the peer does not serve what it claims, or makes no sense.
    is_over: bool,
}

impl Repairs {
    /// A later look at the same log says what is missing still; what was fetched adds up.
    fn add(&mut self, outcome: Outcome) {
        self.times += 1;
        self.is_over = outcome.error.is_some() || outcome.fetched() == 0 && outcome.still() > 0;
        self.error = outcome.error;
        for mut found in outcome.missing {
            let earlier = self.missing.iter_mut().find(|known| (&known.origin, &known.log) == (&found.origin, &found.log));
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

fn judge(peer: &Peer, answered: bool, status: &Status, ours: &Comparable) -> Compared {
    let theirs = status.comparable.as_deref().filter(|_| status.legacy == Some(false));
    let (status, differences, error) = match theirs {
        _ if !answered => {
            let why = status.last_error.clone().unwrap_or_else(|| "it did not answer in time".into());
            (Verdict::Unreachable, Vec::new(), Some(why))
        }
        Some(Comparable { heads: None, .. }) if status.ranges => {
            let why = format!("it cannot be compared: it has events of more than {} logs", limits::MAX_HEADS);
            (Verdict::Unreachable, Vec::new(), Some(why))
        }
        Some(theirs) => compare(ours, theirs),
        None => not_comparable(),
    };
    Compared { name: peer.name.clone(), daemon_id: peer.daemon_id.clone(), status, differences, missing: Vec::new(), error }
}

type Judged = (Verdict, Vec<Difference>, Option<String>);

fn not_comparable() -> Judged {
    (Verdict::Unreachable, Vec::new(), Some("it cannot be compared: an older version that does not say what it holds".into()))
}

/// Both hold the same, and make the same of it. The latter is not asked while a purge lies in the future on one side: what it
/// will take away is still there, rightly, and what is written there meanwhile may be too old for the other side already.
fn compare(ours: &Comparable, theirs: &Comparable) -> Judged {
    let (Some(held), Some(held_there)) = (&ours.heads, &theirs.heads) else { return not_comparable() };
    let differences = held.differences(held_there);
    let waits = match (ours.purge_waits, theirs.purge_waits) {
        (false, false) => None,
        (true, _) => Some("a purge waits here for its time; what is made of the events is compared after it"),
        (false, true) => Some("a purge waits there for its time; what is made of the events is compared after it"),
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
    use thrum_core::{Head, Sum};

    use super::*;

    fn holds(count: u64, projection: &str, purge_waits: bool) -> Comparable {
        let head = Head { origin: "d_k".into(), log: "l".into(), count, sum: Sum::of(&count.to_le_bytes()), ..Head::default() };
        let projection = Some(Sum::of(projection.as_bytes()));
        Comparable { heads: Some(std::iter::once(head).collect()), projection, purge_waits }
    }

    #[test]
    fn what_is_made_of_the_events_is_not_compared_while_a_purge_waits_on_either_side() {
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
