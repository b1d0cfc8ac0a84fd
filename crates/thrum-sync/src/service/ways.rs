//! In which direction connections can be opened between us and each peer.
//!
//! Usually both sides can dial, and each asks over connections of its own. Where one side cannot be dialled (its port is taken by
//! another program, a firewall or an access rule is between, it listens elsewhere now), two things keep mail moving:
//!
//! * **The port is followed.** With its first question on a connection, a daemon tells a peer of ours where it listens
//!   (`sync.peer_info`, `port`). The host is not taken from there: on loopback it is `127.0.0.1`, on a tailnet that of the node.
//! * **A connection is lent.** Answers to a peer that we cannot dial carry `unreached`. That peer then opens a connection, says
//!   `sync.lend` on it, and from there on we ask and it answers, as if we had dialled. We greet it, it proves its key, and we prove ours,
//!   exactly as on a connection that we opened.
//!
//! A peer on a tailnet that calls from another host than before has moved: connections to its former address are dead although nobody
//! closed them, so it is dialled anew at once.
//!
//! The first two are for daemons with keys only. A Go Thrum ignores the fields and knows no such question.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use thrum_core::{ErrorKind, Fault, key, limits};
use tokio::{
    io::{ReadHalf, WriteHalf},
    time::sleep,
};

use super::{Inner, link::Talk, lock};
use crate::{
    conn::Lines,
    registry::Peer,
    transport::{Caller, Conn, Kind},
    wire::Call,
};

/// Both halves of a connection; what was read ahead stays with the first.
pub(super) type Halves = (Lines<ReadHalf<Conn>>, WriteHalf<Conn>);

/// How long after a lent connection has ended another one may be lent to the same peer.
const LEND_AGAIN: Duration = limits::BACKOFF_FIRST;

#[derive(Default)]
pub(super) struct Ways(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// Where we listen now.
    ports: Vec<(Kind, u16)>,
    /// The host from which a peer on a tailnet called last.
    hosts: BTreeMap<String, String>,
    /// Peers that could not be dialled the last time.
    unreached: BTreeSet<String>,
    /// Connections that peers have lent to us and that are not used yet: at most one of each.
    lent: BTreeMap<String, Halves>,
    /// Peers that ask over a lent connection.
    borrows: BTreeSet<String>,
    /// Peers to which we lend a connection, and whether they have it yet.
    lending: BTreeMap<String, bool>,
}

impl Ways {
    pub(super) fn listens(&self, kind: Kind, port: Option<u16>) {
        let mut table = lock(&self.0);
        table.ports.retain(|(known, _)| *known != kind);
        table.ports.extend(port.map(|port| (kind, port)));
    }

    pub(super) fn port(&self, kind: Kind) -> Option<u16> {
        lock(&self.0).ports.iter().find(|(known, _)| *known == kind).map(|(_, port)| *port)
    }

    /// Notes whether a peer could be asked the last time.
    pub(super) fn reached(&self, peer: &str, is_reached: bool) {
        let mut table = lock(&self.0);
        if is_reached {
            table.unreached.remove(peer);
        } else {
            table.unreached.insert(peer.to_owned());
        }
    }

    /// Returns `true` if a peer with a key could not be dialled the last time, so that it should lend us a connection.
    pub(super) fn needs_loan(&self, peer: &str) -> bool {
        key::is_signed_origin(peer) && lock(&self.0).unreached.contains(peer)
    }

    /// Keeps a connection that a peer has lent to us, instead of an earlier one.
    pub(super) fn keep(&self, peer: &str, halves: Halves) {
        lock(&self.0).lent.insert(peer.to_owned(), halves);
    }

    /// Returns `true` if a peer has lent us a connection that is not used yet.
    pub(super) fn has_lent(&self, peer: &str) -> bool {
        lock(&self.0).lent.contains_key(peer)
    }

    /// Takes the connection that a peer has lent to us, for the next connection to it; `None` if it is to be dialled.
    pub(super) fn take(&self, peer: &str) -> Option<Halves> {
        let mut table = lock(&self.0);
        let taken = table.lent.remove(peer);
        if taken.is_some() {
            table.borrows.insert(peer.to_owned());
        } else {
            table.borrows.remove(peer);
        }
        taken
    }

    /// Returns `true` if we ask the peer over a connection that it has lent to us.
    pub(super) fn borrows_from(&self, peer: &str) -> bool {
        lock(&self.0).borrows.contains(peer)
    }

    /// Returns `true` if the peer, which cannot dial us, asks over a connection of ours.
    pub(super) fn lends_to(&self, peer: &str) -> bool {
        lock(&self.0).lending.get(peer).is_some_and(|has_it| *has_it)
    }

    /// Notes from where a peer on a tailnet calls; `true` if that is another host than before.
    pub(super) fn calls_from(&self, peer: &str, caller: &Caller) -> bool {
        let Some((host, _)) = caller.address.rsplit_once(':').filter(|_| caller.kind == Kind::Tailnet) else { return false };
        let before = lock(&self.0).hosts.insert(peer.to_owned(), host.to_owned());
        before.is_some_and(|before| before != host)
    }

    pub(super) fn forget(&self, peer: &str) {
        let mut table = lock(&self.0);
        table.hosts.remove(peer);
        table.unreached.remove(peer);
        table.lent.remove(peer);
        table.borrows.remove(peer);
    }
}

impl Inner {
    /// Opens a connection for a peer that cannot dial us, and answers its questions there. Does nothing while one is open.
    pub(super) fn lend(self: &Arc<Self>, peer: &Peer) {
        if !peer.has_key() || lock(&self.ways.0).lending.contains_key(&peer.daemon_id) {
            return;
        }
        lock(&self.ways.0).lending.insert(peer.daemon_id.clone(), false);
        let (inner, peer) = (Arc::clone(self), peer.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = inner.stop.cancelled() => {}
                lent = inner.serve_lent(&peer) => if let Err(fault) = lent {
                    tracing::debug!("no connection could be lent to {}: {fault}", peer.name);
                }
            }
            // However often a peer asks for one.
            tokio::select! {
                () = inner.stop.cancelled() => {}
                () = sleep(LEND_AGAIN) => {}
            }
            lock(&inner.ways.0).lending.remove(&peer.daemon_id);
        });
    }

    async fn serve_lent(self: &Arc<Self>, peer: &Peer) -> Result<(), Fault> {
        let gone = |why: &str| Fault::new(ErrorKind::Unavailable, why);
        let (lines, writer) = Talk::begin(self, peer).await?.lend().await?;
        let peer = self.desk().registry.get(&peer.daemon_id).cloned().ok_or_else(|| gone("it was removed"))?;
        let kind = peer.kind().ok_or_else(|| gone("it is on no network of ours"))?;
        // The connection went to that node and to no other.
        let caller = Caller { address: peer.address.clone(), kind, node: peer.node.clone() };
        let node = caller.node.as_ref().map(|node| node.id.as_str());
        let (id, stop) = self.visitors.enter(node, &self.stop).ok_or_else(|| gone("too many peers are connected"))?;
        tracing::info!("{} cannot dial this daemon: it asks over a connection that was opened from here", peer.name);
        lock(&self.ways.0).lending.insert(peer.daemon_id.clone(), true);
        let why = self.visit(lines, writer, caller, id, &stop).await;
        self.visitors.leave(id);
        tracing::debug!("the connection lent to {} ended: {why}", peer.name);
        Ok(())
    }

    /// Tells every peer of ours on this kind of transport where we listen now, over a connection of its own each; once. A peer that is
    /// away learns it with the first question on the next connection.
    pub(super) fn tell_port(self: &Arc<Self>, kind: Kind) {
        let peers: Vec<Peer> =
            self.desk().registry.peers().iter().filter(|peer| peer.has_key() && peer.kind() == Some(kind)).cloned().collect();
        for peer in peers {
            let inner = Arc::clone(self);
            self.tasks.spawn(async move {
                let tell = async {
                    let _ = Talk::begin(&inner, &peer).await.ok()?.ask(1, Call::PeerInfo { digest: false }).await;
                    Some(())
                };
                tokio::select! {
                    () = inner.stop.cancelled() => {}
                    _ = tokio::time::timeout(limits::NOTIFY, tell) => {}
                }
            });
        }
    }
}
