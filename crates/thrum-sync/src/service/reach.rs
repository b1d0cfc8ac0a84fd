//! The way to a peer: to its node and to no other.
//!
//! A token is a secret, and who gets it can use it until somebody notices. So before a connection is opened over which it will
//! go, the network is asked which node has the address now. If that is not the peer's, the address is followed: where is the
//! peer's node? If it is nowhere, nothing is sent. Nodes cannot be impersonated; addresses can be given to others.
//!
//! Where the peer's node is not known yet, as after an import, it is the one that has the address, and is learnt only when the
//! peer has answered there: an address may be another node's by now.

use std::sync::Arc;

use thrum_core::{ErrorKind, Fault, name};

use super::{Inner, blocking};
use crate::{
    registry::{Peer, Registry},
    transport::{Conn, Kind, Node, Transport},
};

/// A fault as the one line that a status has room for.
pub(super) fn in_words(fault: &Fault) -> String {
    match &fault.hint {
        Some(hint) => format!("{} ({})", fault.message, hint.trim_end_matches('.')),
        None => fault.message.clone(),
    }
}

/// Where a peer is dialled.
pub(super) struct Located {
    pub(super) address: String,
    /// The node there, if it is not known to be the peer's.
    unproven: Option<Node>,
}

impl Located {
    fn of(address: String) -> Self {
        Self { address, unproven: None }
    }
}

impl Inner {
    /// Connects to a peer; says on which node, if that has to be learnt once the peer has answered. The caller bounds the time.
    ///
    /// # Errors
    /// Why it cannot be reached, or must not be.
    pub(super) async fn reach(self: &Arc<Self>, peer: &Peer) -> Result<(Conn, Option<Node>), Fault> {
        let transport = self.route(peer)?;
        let Located { address, unproven } = self.locate(peer, &*transport).await?;
        // What to do about it is for a person who has just asked; here it is tried again and again.
        let conn = transport.dial(&address).await.map_err(|fault| Fault { hint: None, ..fault })?;
        Ok((conn, unproven))
    }

    /// Learns on which node a peer listens: it has answered there. Written once; a disk that fails is no reason not to read
    /// the peer, and the next connection learns it.
    pub(super) async fn learn_node(self: &Arc<Self>, peer: &Peer, node: Node) {
        tracing::info!("[pairing] {} listens on {node}: its token goes there and nowhere else", peer.name);
        if let Err(fault) = self.note(peer, move |registry, id| registry.learn_node(id, &node)).await {
            tracing::warn!("{fault}");
        }
    }

    /// Takes over what a peer calls itself now, unless a person named it. As in [`learn_node`](Self::learn_node), a disk that fails
    /// stops nothing.
    pub(super) async fn learn_name(self: &Arc<Self>, peer: &Peer, own: &str) {
        if self.desk().registry.follows_name(&peer.daemon_id, own).is_none() {
            return;
        }
        let own = own.to_owned();
        let renamed = self.note(peer, move |registry, id| {
            let before = registry.get(id).map(|peer| peer.name.clone()).unwrap_or_default();
            if let Some(name) = registry.follow_name(id, &own)? {
                tracing::info!("[pairing] {before} calls itself {name} now");
            }
            Ok(())
        });
        if let Err(fault) = renamed.await {
            tracing::warn!("{fault}");
        }
    }

    /// The transport on which a peer was paired.
    pub(super) fn route(&self, peer: &Peer) -> Result<Arc<dyn Transport>, Fault> {
        let refused = |why: &str| Fault::new(ErrorKind::Refused, why);
        if peer.token.is_none() {
            return Err(refused("it was paired without a token; pair again"));
        }
        let kind = peer.kind();
        if kind.is_some_and(|kind| self.keeps_from(kind)) {
            return Err(refused("it is on another machine, and daemon.local_only is on").hint("thrum config set daemon.local_only false"));
        }
        let transport = kind.and_then(|kind| self.transport(kind)).ok_or_else(|| {
            let name = kind.map_or_else(|| peer.transport.clone().unwrap_or_default(), |kind| kind.to_string());
            Fault::new(ErrorKind::Unavailable, format!("it was paired over {}, which is not available", name::printable(&name)))
        })?;
        if peer.address.is_empty() {
            return Err(refused("it did not say where it can be reached"));
        }
        Ok(transport)
    }

    /// Where a peer is dialled, after making sure that it is its node that is there.
    pub(super) async fn locate(self: &Arc<Self>, peer: &Peer, transport: &dyn Transport) -> Result<Located, Fault> {
        if transport.kind() == Kind::Local {
            return Ok(Located::of(peer.address.clone()));
        }
        if let Some(fault) = transport.condition().borrow().fault() {
            return Err(fault);
        }
        let there = match transport.node_at(&peer.address).await {
            Ok(node) => node,
            // Nobody's, or nothing that could be a node's: the peer's own word, for what it is worth.
            Err(fault) if matches!(fault.kind, ErrorKind::NotFound | ErrorKind::Invalid) => None,
            Err(fault) => return Err(fault),
        };
        match (&peer.node, there) {
            (Some(its), Some(there)) if its.id == there.id => {
                if *its != there {
                    self.note(peer, move |registry, id| registry.learn_node(id, &there)).await?;
                }
                Ok(Located::of(peer.address.clone()))
            }
            (None, Some(there)) => Ok(Located { address: peer.address.clone(), unproven: Some(there) }),
            (Some(its), there) => self.follow(peer, its, there, transport).await.map(Located::of),
            (None, None) => {
                let shown = name::printable(&peer.address);
                Err(Fault::new(ErrorKind::Unavailable, format!("no node of this tailnet has {shown}; nothing was sent")))
            }
        }
    }

    /// Where the peer's node is now that its address is not its own any more.
    async fn follow(self: &Arc<Self>, peer: &Peer, its: &Node, there: Option<Node>, transport: &dyn Transport) -> Result<String, Fault> {
        let neighbours = transport.neighbours().await?;
        let old = name::printable(&peer.address);
        let now = neighbours.into_iter().find(|neighbour| neighbour.node.id == its.id);
        let address = now.and_then(|now| Some(crate::transport::with_port(&now.host, peer.address.rsplit_once(':')?.1)));
        match address.filter(|address| *address != peer.address) {
            Some(address) => {
                tracing::info!("[pairing] {} is at {address} now, and not at {old} any more", peer.name);
                let kept = address.clone();
                self.note(peer, move |registry, id| registry.follow(id, &kept)).await?;
                Ok(address)
            }
            None => {
                let instead = there.map_or_else(String::new, |there| format!(", and {old} belongs to {there}"));
                Err(Fault::new(ErrorKind::Unavailable, format!("its node {its} is not on this tailnet{instead}; nothing was sent")).hint(
                    format!(
                        "If it has another node now, it says so when it calls; else `thrum peer remove {}`, and pair again.",
                        peer.name
                    ),
                ))
            }
        }
    }

    /// Changes a peer's entry, durably, unless it is not this peer's any more.
    async fn note(
        self: &Arc<Self>,
        peer: &Peer,
        change: impl FnOnce(&mut Registry, &str) -> Result<(), Fault> + Send + 'static,
    ) -> Result<(), Fault> {
        let (inner, peer) = (Arc::clone(self), peer.clone());
        blocking(move || {
            let mut desk = inner.desk();
            let is_same = desk.registry.get(&peer.daemon_id).is_some_and(|now| match (&now.token, &peer.token) {
                (Some(now), Some(then)) => now.matches(then.reveal()),
                _ => false,
            });
            if is_same { change(&mut desk.registry, &peer.daemon_id) } else { Ok(()) }
        })
        .await
    }
}
