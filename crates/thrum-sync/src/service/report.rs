//! How every peer stands, for people (I11).

use std::sync::Arc;

use thrum_core::{Fault, Stamp, exchange::Troubles, limits};

use super::{PeerStatus, Peers, Repaired, blocking, driver::Driver, lock, notes};
use crate::{
    Log,
    legacy::{journal, serving::Skipped},
    registry::{Peer, Stray},
    replicator::{State, Status},
    transport::Path,
};

impl Peers {
    /// Whether each peer answers, and since when, in the order of pairing. Looks at nothing but memory.
    pub fn reach(&self) -> Vec<(Peer, State, Stamp)> {
        let drivers = lock(&self.0.drivers);
        let reach = |peer: Peer| {
            let (state, since) = drivers.get(&peer.daemon_id).map(|driver: &Driver| {
                let status = driver.status().borrow().clone();
                (status.state, status.since)
            })?;
            Some((peer, state, since))
        };
        self.list().into_iter().filter_map(reach).collect()
    }

    /// Every peer's status, in the order of pairing.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn status(&self) -> Result<Vec<PeerStatus>, Fault> {
        let known: Vec<Known> = {
            let desk = self.0.desk();
            let strays = |peer: &Peer| {
                let (here, there) = (desk.registry.stray(&peer.daemon_id), desk.registry.stray_there(&peer.daemon_id));
                (here.cloned(), there.cloned())
            };
            desk.registry.peers().iter().map(|peer| (peer.clone(), strays(peer))).collect()
        };
        let known: Vec<_> = {
            let drivers = lock(&self.0.drivers);
            let standing = |(peer, strays): Known| {
                let driver: &Driver = drivers.get(&peer.daemon_id)?;
                let ways = (self.0.ways.borrows_from(&peer.daemon_id), self.0.ways.lends_to(&peer.daemon_id));
                Some((peer, strays, driver.status().borrow().clone(), (driver.path(), driver.repaired(), ways)))
            };
            known.into_iter().filter_map(standing).collect()
        };
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let id = inner.log.id();
            let asked = |peer: &Peer| {
                let askers = lock(&inner.askers);
                Asked { skipped: askers.skipped(&peer.daemon_id), read: askers.read_upto(&peer.daemon_id, &id) }
            };
            let report = |(peer, strays, status, seen)| report(&*inner.log, asked(&peer), peer, strays, status, seen);
            known.into_iter().map(report).collect()
        })
        .await
    }
}

/// Who used the peer's token here, and whom it refused itself.
type Strays = (Option<Stray>, Option<Stray>);

type Known = (Peer, Strays);

/// What an old peer has asked for.
struct Asked {
    skipped: Vec<Skipped>,
    /// Up to which sequence it has read, and when it asked last.
    read: Option<(u64, Stamp)>,
}

fn report(
    log: &dyn Log,
    asked: Asked,
    peer: Peer,
    strays: Strays,
    status: Status,
    (path, repaired, (borrows, lends)): (Option<Path>, Option<Repaired>, (bool, bool)),
) -> Result<PeerStatus, Fault> {
    let troubles = log.troubles(&peer.daemon_id)?;
    let read = status.read_by_them.or(asked.read.map(|(upto, _)| upto));
    let backlog_to_them = read.map(|read| log.backlog(&peer.daemon_id, read)).transpose()?;
    let mut notes = notes::without_effect(&troubles).into_iter().collect::<Vec<_>>();
    if status.legacy == Some(true) {
        notes.extend(notes::behind(backlog_to_them, asked.read));
        notes.extend(notes::too_long(&log.long_events(limits::LEGACY_LONG_EVENTS, journal::is_too_long)?));
    }
    let Troubles { parked, rejected, last, .. } = troubles;
    let read_by_us = status.checkpoint.as_ref().map_or(0, |(_, sequence)| *sequence);
    Ok(PeerStatus {
        has_token: peer.token.is_some(),
        paired_at: peer.paired_at,
        last_sync: peer.last_sync,
        last_synced_seq: read_by_us,
        transport: peer.transport.clone().unwrap_or_else(|| crate::transport::Kind::of_address(&peer.address).to_string()),
        state: status.shown_state(),
        over_quota: status.over_quota,
        asked_over_its_connection: borrows && status.state == State::Connected,
        asks_over_our_connection: lends,
        since: status.since,
        next_attempt: status.next_attempt,
        read_by_us,
        their_latest: status.their_latest,
        read_by_them: status.read_by_them,
        our_latest: log.latest(),
        backlog_from_them: status.backlog(),
        backlog_to_them,
        parked,
        rejected,
        last_rejected: last,
        paired_by: peer.paired_by,
        skipped: asked.skipped,
        notes,
        version: status.version,
        clock_offset_ms: status.clock_offset_ms,
        node: peer.node,
        calls_from: peer.calls_from,
        moved: peer.moved,
        refused: strays.0,
        refused_there: strays.1,
        path: path.map(Into::into),
        repaired,
        last_error: status.last_error,
        daemon_id: peer.daemon_id,
        name: peer.name,
        address: peer.address,
    })
}
