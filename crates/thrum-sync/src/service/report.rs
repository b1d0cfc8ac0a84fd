//! How every peer stands, for people (I11).

use std::sync::Arc;

use thrum_core::{Fault, Stamp};

use super::{PeerStatus, Peers, blocking, driver::Driver, lock};
use crate::{
    Log,
    legacy::serving::Skipped,
    registry::Peer,
    replicator::{State, Status},
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
        let known: Vec<(Peer, Option<Status>)> = self
            .list()
            .into_iter()
            .map(|peer| {
                let status = lock(&self.0.drivers).get(&peer.daemon_id).map(|driver: &Driver| driver.status().borrow().clone());
                (peer, status)
            })
            .collect();
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let skipped = |peer: &Peer| lock(&inner.askers).skipped(&peer.daemon_id);
            let report = |(peer, status): (Peer, Option<Status>)| Some(report(&*inner.log, skipped(&peer), peer, status?));
            known.into_iter().filter_map(report).collect()
        })
        .await
    }
}

fn report(log: &dyn Log, skipped: Vec<Skipped>, peer: Peer, status: Status) -> Result<PeerStatus, Fault> {
    let (parked, rejected) = log.troubles(&peer.daemon_id)?;
    let backlog_to_them = status.read_by_them.map(|read| log.backlog(&peer.daemon_id, read)).transpose()?;
    let read_by_us = status.checkpoint.as_ref().map_or(0, |(_, sequence)| *sequence);
    Ok(PeerStatus {
        has_token: peer.token.is_some(),
        paired_at: peer.paired_at,
        last_sync: peer.last_sync,
        last_synced_seq: read_by_us,
        transport: peer.transport.clone().unwrap_or_else(|| crate::transport::Kind::of_address(&peer.address).to_string()),
        state: status.state,
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
        skipped,
        version: status.version,
        clock_offset_ms: status.clock_offset_ms,
        last_error: status.last_error,
        daemon_id: peer.daemon_id,
        name: peer.name,
        address: peer.address,
    })
}
