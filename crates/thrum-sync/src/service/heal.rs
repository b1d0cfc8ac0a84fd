//! Looks from time to time whether a connected peer holds what we hold, also below the checkpoint, and fetches what is missing.
//!
//! The rounds pull what is new. What was lost below the checkpoint, on either side, no pull brings back, and nobody would notice before
//! somebody calls `sync verify`. So a peer of ours is asked for its heads one round after it was read to its end, and then every
//! [`limits::ROUNDS_PER_LOOK`] rounds. A difference that is the same for [`limits::LOOKS`] looks, a round apart, is repaired. Repairs
//! that bring nothing are repeated ever less often.
//!
//! A peer that finds out that something is missing here says so. Then this log is counted, too, for it may have lost rows without
//! knowing, and the peer is looked at at once.

use std::sync::Arc;

use thrum_core::{heads::Difference, limits};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Inner, Repaired, blocking, link::Talk, repair::Outcome};
use crate::{
    registry::Peer,
    replicator::{State, Status},
    wire::{Call, Reply},
};

/// Ends with the peer's driver.
pub(super) async fn follow(
    inner: Arc<Inner>,
    peer: String,
    mut status: watch::Receiver<Status>,
    hinted: Arc<Notify>,
    show: watch::Sender<Option<Repaired>>,
    stop: CancellationToken,
) {
    let looking = async {
        let mut pause = inner.round;
        let (mut pauses, mut hint_pauses) = (1, 1);
        let mut seen: (Vec<Difference>, u32) = (Vec::new(), 0);
        loop {
            let can_be_asked = |status: &Status| status.state == State::Connected && status.ranges && status.ends > 0;
            if status.wait_for(can_be_asked).await.is_err() {
                return;
            }
            let is_hinted = tokio::select! {
                () = sleep(pause) => false,
                () = hinted.notified() => true,
            };
            let Some(peer) = inner.desk().registry.get(&peer).cloned() else { return };
            if is_hinted && let Err(fault) = inner.mend().await {
                tracing::warn!("cannot look whether something is missing here: {fault}");
            }
            let mut fetched = 0;
            pause = match inner.differs(&peer).await {
                // It did not say, which says nothing about what is missing.
                None => inner.round.saturating_mul(limits::ROUNDS_PER_LOOK),
                Some(differences) if differences.is_empty() => {
                    (pauses, seen) = (1, (Vec::new(), 0));
                    show.send_if_modified(nothing_is_missing);
                    inner.round.saturating_mul(limits::ROUNDS_PER_LOOK)
                }
                Some(differences) => {
                    let looks = if differences == seen.0 { seen.1 + 1 } else { 1 };
                    seen = (differences, looks);
                    if looks >= limits::LOOKS || is_hinted {
                        let outcome = inner.repair(&peer, &seen.0, !is_hinted, Instant::now() + limits::SLOW_PULL).await;
                        fetched = outcome.fetched();
                        pauses = if fetched > 0 { 1 } else { (pauses * 2).min(limits::MAX_LOOK_PAUSES) };
                        seen.1 = 0;
                        show.send_if_modified(|shown| inner.show(shown, &outcome));
                        inner.round.saturating_mul(limits::ROUNDS_PER_LOOK.saturating_mul(pauses))
                    } else {
                        inner.round
                    }
                }
            };
            if is_hinted {
                // However often it says so; and ever less often if there is nothing behind it.
                sleep(limits::HINT_PAUSE.saturating_mul(hint_pauses)).await;
                hint_pauses = if fetched > 0 { 1 } else { (hint_pauses * 2).min(limits::MAX_LOOK_PAUSES) };
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = looking => {}
    }
}

impl Inner {
    /// In which logs a peer differs from us, by what both keep about their logs: cheap on both sides.
    async fn differs(self: &Arc<Self>, peer: &Peer) -> Option<Vec<Difference>> {
        let ask = async {
            let mut talk = Talk::begin(self, peer).await.ok()?;
            talk.ask(1, Call::PeerInfo { digest: false }).await.ok()?.ok()
        };
        let Reply::Info(info) = timeout(limits::MEET.saturating_add(limits::PEER_INFO), ask).await.ok()?? else { return None };
        let theirs = info.heads.filter(|_| info.daemon_id == peer.daemon_id)?;
        let log = Arc::clone(&self.log);
        let ours = blocking(move || log.heads()).await.ok()?;
        Some(ours.differences(&theirs))
    }

    /// Shows what a repair came to, if there is something to say. Whether that is something else than before.
    fn show(&self, shown: &mut Option<Repaired>, outcome: &Outcome) -> bool {
        let missing = &outcome.missing;
        let told = Repaired {
            at: self.clock.now().at,
            fetched: outcome.fetched(),
            missing_here: outcome.still(),
            missing_there: missing.iter().fold(0, |sum: u64, missing| sum.saturating_add(missing.there.events)),
            note: outcome.error.clone().or_else(|| missing.iter().find_map(|missing| missing.note.clone())),
        };
        if told.fetched == 0 && told.missing_here == 0 && told.missing_there == 0 && told.note.is_none() {
            return nothing_is_missing(shown);
        }
        *shown = Some(told);
        true
    }
}

/// A later look found nothing missing: what an earlier one said of it is true no more. What was mended then stays said.
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
