//! Tracks in which direction connections can be opened between us and each peer.
//!
//! Usually both sides can dial, and each sends its requests over its own connections. If one side cannot be dialled
//! (its port is taken by another program, a firewall or an access rule blocks it, it listens elsewhere now), two
//! mechanisms keep mail moving:
//!
//! * **Following the port.** With each `sync.peer_info`, a daemon tells a non-legacy peer its listening port (`port`).
//!   The peer knows the host anyway: on loopback `127.0.0.1`, on a tailnet that of the node.
//! * **Lending a connection** (`outbound/loans.rs`). Replies to a peer that we cannot dial carry `unreached`. The peer
//!   then opens a connection and sends `sync.lend` on it. From then on we send requests and the peer answers, as if we
//!   had dialled.
//!
//! A tailnet peer that calls from another host than before has moved. Connections to its previous address are dead even
//! though neither side closed them, so the peer is dialled anew at once.
//!
//! Both mechanisms are only for daemons with keys. A Go Thrum ignores the fields and does not know the method.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use thrum_core::key;

use crate::{
    environment::lock,
    transport::{Caller, Kind, split_address},
};

/// Observed reachability between us and each peer. Not kept across restarts.
#[derive(Default)]
pub(crate) struct Reachability(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// The ports on which we listen now.
    ports: Vec<(Kind, u16)>,
    /// The host from which each tailnet peer called last.
    hosts: BTreeMap<String, String>,
    /// Peers that did not answer the last attempt, or did not prove who they are.
    unreached: BTreeSet<String>,
}

impl Reachability {
    /// Records the port on which we listen on this kind of transport; `None` if we do not listen.
    pub(crate) fn set_port(&self, kind: Kind, port: Option<u16>) {
        let mut table = lock(&self.0);
        table.ports.retain(|(known, _)| *known != kind);
        table.ports.extend(port.map(|port| (kind, port)));
    }

    /// Returns the port on which we listen on this kind of transport.
    pub(crate) fn port(&self, kind: Kind) -> Option<u16> {
        lock(&self.0).ports.iter().find(|(known, _)| *known == kind).map(|(_, port)| *port)
    }

    /// Records whether the last attempt to reach a peer succeeded.
    pub(crate) fn set_reached(&self, peer: &str, is_reached: bool) {
        let mut table = lock(&self.0);
        if is_reached {
            table.unreached.remove(peer);
        } else {
            table.unreached.insert(peer.to_owned());
        }
    }

    /// Returns `true` if the last attempt to reach the peer failed.
    pub(crate) fn is_unreached(&self, peer: &str) -> bool {
        lock(&self.0).unreached.contains(peer)
    }

    /// Returns `true` if the last attempt to reach a peer with a key failed, so that the peer should lend us a
    /// connection.
    pub(crate) fn needs_loan(&self, peer: &str) -> bool {
        key::is_signed_origin(peer) && self.is_unreached(peer)
    }

    /// Records the host from which a tailnet peer calls. Returns `true` if it differs from the previous one.
    pub(crate) fn calls_from(&self, peer: &str, caller: &Caller) -> bool {
        let Some((host, _)) = split_address(&caller.address).filter(|_| caller.kind == Kind::Tailnet) else {
            return false;
        };
        let before = lock(&self.0).hosts.insert(peer.to_owned(), host.to_owned());
        before.is_some_and(|before| before != host)
    }

    /// Forgets a removed peer.
    pub(crate) fn forget(&self, peer: &str) {
        let mut table = lock(&self.0);
        table.hosts.remove(peer);
        table.unreached.remove(peer);
    }
}
