//! Forced pulls, and the comparison that proves that nothing is missing.

use std::{sync::Arc, time::Duration};

use thrum_core::{ErrorKind, Fault, Heads, Sum, limits};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{
    Compared, Forced, Peers, Verdict, Verified, blocking,
    driver::{Signals, reached},
    lock,
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

    /// Compares with every peer what each holds and makes of it, until all agree, at most `within` long.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn verify(&self, within: Duration) -> Result<Verified, Fault> {
        let deadline = Instant::now() + within;
        let first = self.0.ticket();
        for line in self.lines() {
            // A lost announcement is not a difference.
            line.signals.force(first);
        }
        loop {
            let verified = self.compare(deadline).await?;
            if !matches!(verified.status, Verdict::Differs | Verdict::Unreachable) || Instant::now() + limits::VERIFY_PAUSE >= deadline {
                return Ok(verified);
            }
            tokio::time::sleep(limits::VERIFY_PAUSE).await;
        }
    }

    async fn compare(&self, deadline: Instant) -> Result<Verified, Fault> {
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
        let (heads, projection) = blocking(move || Ok((log.heads()?, log.projection()?))).await?;
        let mut peers: Vec<Compared> =
            answers.into_iter().map(|(peer, answered, status)| judge(&peer, answered, &status, &heads, projection)).collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        let any = |verdict: Verdict| peers.iter().any(|peer| peer.status == verdict);
        let status = if peers.is_empty() {
            Verdict::NoPeers
        } else if any(Verdict::Differs) {
            Verdict::Differs
        } else if any(Verdict::Unreachable) {
            Verdict::Unreachable
        } else {
            Verdict::Equal
        };
        Ok(Verified { status, events: heads.total(), projection, peers })
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

fn judge(peer: &Peer, answered: bool, status: &Status, ours: &Heads, projection: Sum) -> Compared {
    let verdict = |status: Verdict, error: Option<String>| Compared {
        name: peer.name.clone(),
        daemon_id: peer.daemon_id.clone(),
        status,
        differences: Vec::new(),
        error,
    };
    if !answered {
        return verdict(Verdict::Unreachable, Some(status.last_error.clone().unwrap_or_else(|| "it did not answer in time".into())));
    }
    let not_comparable =
        || verdict(Verdict::Unreachable, Some("it cannot be compared: an older version that does not say what it holds".into()));
    let Some(Comparable { heads: Some(theirs), projection: digest }) =
        status.comparable.as_deref().filter(|_| status.legacy == Some(false))
    else {
        return not_comparable();
    };
    let differences = ours.differences(theirs);
    if !differences.is_empty() {
        return Compared { differences, ..verdict(Verdict::Differs, None) };
    }
    match digest {
        Some(digest) if *digest == projection => verdict(Verdict::Equal, None),
        Some(_) => verdict(Verdict::Differs, Some("the same events, but not the same made of them: are both the same version?".into())),
        None => not_comparable(),
    }
}
