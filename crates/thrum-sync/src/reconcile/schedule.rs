//! Checks periodically whether a connected peer holds the same events, even below the checkpoint, and fetches those
//! missing here.
//!
//! Periodic pulls fetch new events. Events lost below the checkpoint, on either side, are not fetched by any pull, and
//! would go unnoticed until somebody runs `sync verify`. Therefore a non-legacy peer is asked for its version vector
//! one sync interval after a pull reached the end of its log, and then every [`limits::SYNC_INTERVALS_PER_CHECK`] intervals. A
//! difference that stays the same for [`limits::CHECKS_BEFORE_RECONCILE`] checks, one interval apart, is reconciled.
//! Reconciliations without a result are repeated less and less often. If two daemons run with a peer's key, both are
//! checked in every interval, because pulls read only one of them.
//!
//! A peer that finds events missing here reports this. Then this daemon also recounts its own log, which may have lost
//! rows unnoticed, and checks the peer at once.

use std::{collections::BTreeMap, sync::Arc};

use thrum_core::{heads::Difference, limits};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Reconcile, difference::ReconcileOutcome};
use crate::{
    answers::Repaired,
    blocking::blocking,
    outbound::Channel,
    protocol::wire::{Call, Reply},
    registry::{Peer, Seen},
    replicator::{ReplicatorStatus, State},
};

/// Time until the next check.
#[derive(Clone, Copy)]
enum Pause {
    /// One sync interval.
    Interval,
    /// This many times [`limits::SYNC_INTERVALS_PER_CHECK`] sync intervals.
    Checks(u32),
}

/// Runs the schedule until it is stopped, the peer is removed, or the peer's driver ends.
pub(super) async fn follow(
    reconcile: Arc<Reconcile>,
    peer: String,
    mut status: watch::Receiver<ReplicatorStatus>,
    hinted: Arc<Notify>,
    show: watch::Sender<Option<Repaired>>,
    stop: CancellationToken,
) {
    let checking = async {
        let mut pause = Pause::Interval;
        let (mut pauses, mut hint_pauses) = (1, 1);
        // By address: the difference, and how many consecutive checks found it.
        let mut seen: BTreeMap<String, (Vec<Difference>, u32)> = BTreeMap::new();
        loop {
            let can_be_asked =
                |status: &ReplicatorStatus| status.state == State::Connected && status.ranges && status.ends > 0;
            if status.wait_for(can_be_asked).await.is_err() {
                return;
            }
            let is_hinted = tokio::select! {
                () = reconcile.wait_for_check(&peer, pause) => false,
                () = hinted.notified() => true,
            };
            let Some(peer) = reconcile.env.peer(&peer) else { return };
            if is_hinted && let Err(error) = reconcile.recount().await {
                tracing::warn!(%error, "cannot check the log for missing events");
            }
            let (mut fetched, mut is_waiting, mut differs, mut agrees) = (0, false, false, false);
            let endpoints = reconcile.endpoints(peer);
            seen.retain(|address, _| endpoints.iter().any(|endpoint| endpoint.address == *address));
            for endpoint in endpoints {
                // A failed comparison reveals nothing about missing events.
                let Some(differences) = reconcile.differs(&endpoint).await else { continue };
                if differences.is_empty() {
                    agrees = true;
                    seen.remove(&endpoint.address);
                    continue;
                }
                differs = true;
                let seen = seen.entry(endpoint.address.clone()).or_default();
                seen.1 = if differences == seen.0 { seen.1 + 1 } else { 1 };
                seen.0 = differences;
                if seen.1 >= limits::CHECKS_BEFORE_RECONCILE || is_hinted {
                    let outcome =
                        reconcile.reconcile(&endpoint, &seen.0, !is_hinted, Instant::now() + limits::SLOW_PULL).await;
                    fetched += outcome.fetched();
                    seen.1 = 0;
                    show.send_if_modified(|shown| reconcile.show(shown, &outcome));
                } else {
                    is_waiting = true;
                }
            }
            if agrees && !differs {
                pauses = 1;
                show.send_if_modified(nothing_is_missing);
            } else if differs && !is_waiting {
                pauses = if fetched > 0 { 1 } else { (pauses * 2).min(limits::MAX_CHECK_PAUSES) };
            }
            pause = if is_waiting { Pause::Interval } else { Pause::Checks(pauses) };
            if is_hinted {
                // Limits how often hints are followed, and more so after unfounded ones.
                sleep(limits::HINT_PAUSE.saturating_mul(hint_pauses)).await;
                hint_pauses = if fetched > 0 { 1 } else { (hint_pauses * 2).min(limits::MAX_CHECK_PAUSES) };
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = checking => {}
    }
}

impl Reconcile {
    /// Returns where to check a peer: its address, or both addresses if two daemons run with its key.
    fn endpoints(&self, peer: Peer) -> Vec<Peer> {
        let both = self.env.auth().registry.both(&peer.daemon_id, self.env.clock.now());
        let Some((one, other)) =
            both.filter(|(one, other)| [one, other].iter().all(|seen| crate::transport::is_address(&seen.address)))
        else {
            return vec![peer];
        };
        let at = |seen: Seen| {
            let mut there = peer.clone();
            there.address = seen.address;
            there.node = seen.node.or(there.node);
            there
        };
        vec![at(one), at(other)]
    }

    /// Waits until the next check of a peer. If two daemons run with its key, waits one sync interval only, also if this
    /// is discovered during the wait: two such daemons may assign one origin sequence to two events, and no pull fetches
    /// the second one.
    async fn wait_for_check(&self, peer: &str, pause: Pause) {
        let began = Instant::now();
        loop {
            let are_two = self.env.auth().registry.both(peer, self.env.clock.now()).is_some();
            let intervals = match pause {
                Pause::Checks(times) if !are_two => limits::SYNC_INTERVALS_PER_CHECK.saturating_mul(times),
                Pause::Checks(_) | Pause::Interval => 1,
            };
            let left = self.env.sync_interval.saturating_mul(intervals).saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            sleep(left.min(self.env.sync_interval)).await;
        }
    }

    /// Returns the logs in which a peer differs, according to the version vectors that both sides keep up to date. Reads
    /// no events, so it is cheap on both sides. `None` if the comparison failed.
    async fn differs(self: &Arc<Self>, peer: &Peer) -> Option<Vec<Difference>> {
        let ask = async {
            let mut channel = Channel::open(&self.outbound, peer).await.ok()?;
            channel.ask(1, Call::PeerInfo { digest: false }).await.ok()?.ok()
        };
        let Reply::Info(info) = timeout(limits::MEET.saturating_add(limits::PEER_INFO), ask).await.ok()?? else {
            return None;
        };
        let theirs = info.heads.filter(|_| info.daemon_id == peer.daemon_id)?;
        let log = Arc::clone(&self.env.log);
        let ours = blocking(move || log.heads()).await.ok()?;
        Some(ours.differences(&theirs))
    }

    /// Publishes the result of a reconciliation if there is anything to report. Otherwise clears the problems of the
    /// earlier result. Returns `true` if the published result changed.
    fn show(&self, shown: &mut Option<Repaired>, outcome: &ReconcileOutcome) -> bool {
        let missing = &outcome.missing;
        let result = Repaired {
            at: self.env.clock.now().at,
            fetched: outcome.fetched(),
            missing_here: outcome.still(),
            missing_there: missing.iter().fold(0, |sum: u64, missing| sum.saturating_add(missing.there.events)),
            note: outcome.note(),
        };
        if result.fetched == 0 && result.missing_here == 0 && result.missing_there == 0 && result.note.is_none() {
            return nothing_is_missing(shown);
        }
        *shown = Some(result);
        true
    }
}

/// Clears the problems of an earlier result, because no difference is left. The numbers of events that were fetched
/// or were missing at the peer stay. Returns `true` if the result changed.
fn nothing_is_missing(shown: &mut Option<Repaired>) -> bool {
    let is_stale = shown.as_ref().is_some_and(|shown| shown.missing_here > 0 || shown.note.is_some());
    if is_stale {
        *shown = shown
            .take()
            .map(|shown| Repaired { missing_here: 0, note: None, ..shown })
            .filter(|shown| shown.fetched > 0 || shown.missing_there > 0);
    }
    is_stale
}
