//! Status of all peers, for display (I11 in ARCHITECTURE.md).

use std::sync::Arc;

use thrum_core::{Error, Timestamp, exchange::Troubles, limits};

use super::{Peers, notes};
use crate::{
    Log,
    answers::{PeerDetails, PeerStatus, Repaired},
    blocking::blocking,
    legacy::{journal, serving::Skipped, unsent::Unsent},
    outbound::{Driven, DriverStatus},
    registry::{Peer, Seen, TokenMisuse},
    replicator::State,
};

impl Peers {
    /// Returns whether mail can reach each peer, and since when, in the order of pairing: see
    /// [`reach`](crate::replicator::ReplicatorStatus::reach). Reads memory only.
    pub fn reach(&self) -> Vec<(Peer, State, Timestamp)> {
        let reach = |driven: Driven| {
            let (state, since) = driven.status.borrow().reach();
            (driven.peer, state, since)
        };
        self.0.outbound.driven().into_iter().map(reach).collect()
    }

    /// Returns other daemons that currently run with this daemon's key, each with the name of the reporting peer. The
    /// cause is a cloned machine or a copied `.thrum`.
    pub fn others_with_our_key(&self) -> Vec<(String, Seen)> {
        self.0.env.auth().registry.others_of_ours(self.0.env.clock.now())
    }

    /// Returns the status of all peers, in the order of pairing.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn status(&self) -> Result<Vec<PeerStatus>, Error> {
        let now = self.0.env.clock.now();
        let known: Vec<PeerAndMisuse> = {
            let auth = self.0.env.auth();
            let misuse = |peer: &Peer| {
                let (here, there) =
                    (auth.registry.misuse(&peer.daemon_id), auth.registry.reported_misuse(&peer.daemon_id));
                let both =
                    auth.registry.both(&peer.daemon_id, now).map_or_else(Vec::new, |(one, other)| vec![one, other]);
                (here.cloned(), there.cloned(), both)
            };
            auth.registry.peers().iter().map(|peer| (peer.clone(), misuse(peer))).collect()
        };
        let add_driver_status = |(peer, misuse): PeerAndMisuse| {
            let driver = self.0.outbound.driver_status(&peer.daemon_id)?;
            let repaired = self.0.reconcile.repaired(&peer.daemon_id);
            Some((peer, misuse, driver, repaired))
        };
        let known: Vec<_> = known.into_iter().filter_map(add_driver_status).collect();
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let log = &*inner.env.log;
            let id = log.id();
            let asked = |peer: &Peer| {
                inner.inbound.with_askers(|askers| Asked {
                    skipped: askers.skipped(&peer.daemon_id),
                    withheld: askers.withheld(&peer.daemon_id),
                    read: askers.read_upto(&peer.daemon_id, &id),
                })
            };
            let report = |(peer, misuse, driver, repaired)| report(log, asked(&peer), peer, misuse, driver, repaired);
            known.into_iter().map(report).collect()
        })
        .await
    }
}

/// The latest misuse of the shared token here, the latest misuse there as reported by the peer, and the two daemons
/// that run with the peer's key, if any.
type KeyMisuse = (Option<TokenMisuse>, Option<TokenMisuse>, Vec<Seen>);

type PeerAndMisuse = (Peer, KeyMisuse);

/// The requests of a legacy peer and their results.
struct Asked {
    skipped: Vec<Skipped>,
    withheld: Vec<(&'static str, Unsent)>,
    /// The sequence up to which it has read, and the time of its last request.
    read: Option<(u64, Timestamp)>,
}

fn report(
    log: &dyn Log,
    asked: Asked,
    peer: Peer,
    misuse: KeyMisuse,
    DriverStatus { replicator: status, path, borrows, lends }: DriverStatus,
    repaired: Option<Repaired>,
) -> Result<PeerStatus, Error> {
    let troubles = log.troubles(&peer.daemon_id)?;
    let read = status.exchange.read_by_them.or(asked.read.map(|(upto, _)| upto));
    let backlog_to_them = read.map(|read| log.backlog(&peer.daemon_id, read)).transpose()?;
    let mut notes: Vec<String> =
        notes::same_key(&misuse.2).into_iter().chain(notes::without_effect(&troubles)).collect();
    if status.legacy == Some(true) {
        notes.extend(notes::behind(backlog_to_them, asked.read));
        notes.extend(asked.withheld.iter().map(|(why, unsent)| notes::unsent(why, unsent)));
        notes.extend(notes::too_long(&log.long_events(limits::LEGACY_LONG_EVENTS, journal::is_too_long)?));
    }
    let Troubles { parked, rejected, last, .. } = troubles;
    let (state, since) = status.shown();
    let read_by_us = status.checkpoint.as_ref().map_or(0, |(_, sequence)| *sequence);
    Ok(PeerStatus {
        has_token: peer.token.is_some(),
        paired_at: peer.paired_at,
        last_sync: peer.last_sync,
        last_synced_seq: read_by_us,
        transport: peer
            .transport
            .clone()
            .unwrap_or_else(|| crate::transport::Kind::of_address(&peer.address).to_string()),
        state,
        since,
        read_by_us,
        our_latest: log.latest(),
        details: PeerDetails {
            paired_by: peer.paired_by,
            asked_over_its_connection: borrows && status.state == State::Connected,
            asks_over_our_connection: lends,
            backlog_from_them: status.backlog(),
            backlog_to_them,
            parked,
            rejected,
            last_rejected: last,
            skipped: asked.skipped,
            notes,
            node: peer.node,
            calls_from: peer.calls_from,
            moved: peer.moved,
            refused: misuse.0,
            refused_there: misuse.1,
            same_key: misuse.2,
            path: path.map(Into::into),
            repaired,
        },
        exchange: status.exchange,
        daemon_id: peer.daemon_id,
        name: peer.name,
        address: peer.address,
    })
}
