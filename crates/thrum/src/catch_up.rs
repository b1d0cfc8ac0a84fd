//! How far the catch-up with the peers is, for commands that show it while it goes on.

use std::{
    collections::BTreeMap,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use serde_json::json;
use thrum_core::Error;

use crate::{answers::Peer, context::Context};

/// Pause between two looks at the state.
const EVERY: Duration = Duration::from_millis(250);

/// How far each peer has been read since the watch began: for peers with a backlog, the largest backlog seen.
#[derive(Default)]
pub(crate) struct CatchUps(BTreeMap<String, u64>);

impl CatchUps {
    /// Records the backlogs. A peer whose events are all here has no catch-up any more.
    pub(crate) fn record(&mut self, peers: &[Peer]) {
        for peer in peers {
            match peer.details.backlog_from_them.filter(|left| *left > 0) {
                Some(left) => {
                    let most = self.0.entry(peer.daemon_id.clone()).or_default();
                    *most = left.max(*most);
                }
                None => drop(self.0.remove(&peer.daemon_id)),
            }
        }
    }

    /// Returns how many of a peer's events were read since its backlog was largest, and how many there were. `None` if
    /// nothing is left to read.
    pub(crate) fn of(&self, peer: &Peer) -> Option<(u64, u64)> {
        let most = *self.0.get(&peer.daemon_id)?;
        Some((most.saturating_sub(peer.details.backlog_from_them?), most))
    }

    /// Returns the sums over all peers.
    pub(crate) fn total(&self, peers: &[Peer]) -> Option<(u64, u64)> {
        peers.iter().filter_map(|peer| self.of(peer)).reduce(|sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

/// Waits for `work`, and tells meanwhile how far the catch-up with the peers is.
pub(crate) fn with_progress<T: Send>(
    cx: &Context,
    what: &str,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let progress = cx.output.progress(what, None);
    if !progress.is_shown() {
        return work();
    }
    // On a connection of its own, because the other one waits for its answer.
    let mut client = cx.daemon()?;
    let mut catch_ups = CatchUps::default();
    thread::scope(|scope| {
        let (ended, has_ended) = mpsc::channel::<()>();
        let working = scope.spawn(move || {
            let _ended = ended;
            work()
        });
        while has_ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            // The work reports an error of the daemon.
            if let Ok(peers) = client.call::<Vec<Peer>>("peer.status", json!({})) {
                catch_ups.record(&peers);
                if let Some((read, all)) = catch_ups.total(&peers) {
                    progress.say(&format!("{what}: {read} of {all} events read"));
                }
            }
        }
        working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: &str, backlog: Option<u64>) -> Peer {
        serde_json::from_value(json!({"daemon_id": id, "name": id, "backlog_from_them": backlog})).unwrap()
    }

    #[test]
    fn a_catch_up_is_measured_from_its_largest_backlog_and_ends_with_it() {
        let mut catch_ups = CatchUps::default();
        for (left, progress) in [
            (None, None),
            (Some(0), None),
            (Some(300), Some((0, 300))),
            (Some(400), Some((0, 400))),
            (Some(100), Some((300, 400))),
            (Some(0), None),
            (Some(7), Some((0, 7))),
        ] {
            let peers = [peer("d_a", left), peer("d_b", None)];
            catch_ups.record(&peers);
            assert_eq!((catch_ups.of(&peers[0]), catch_ups.of(&peers[1])), (progress, None), "{left:?}");
            assert_eq!(catch_ups.total(&peers), progress);
        }
        let peers = [peer("d_a", Some(3)), peer("d_b", Some(10))];
        catch_ups.record(&peers);
        assert_eq!(catch_ups.total(&peers), Some((4, 17)));
    }
}
