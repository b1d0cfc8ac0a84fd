//! Finds the address of a peer's node, so that the peer's token goes to no other node.
//!
//! A token is a bearer secret: a thief can use it until somebody notices. Therefore, before a peer is dialled on a
//! tailnet, the tailnet is asked which node currently has the address. If that is not the peer's node, the current
//! address of the peer's node is looked up and used. If the node is not on the tailnet, nothing is sent. Nodes cannot
//! be impersonated, but addresses can be reassigned. On loopback there are no nodes, and the address is used as it is.
//!
//! If the peer's node is not known yet, as after an import, the node that has the address is used. It is recorded only
//! after the peer has answered there, because the address may belong to another node by now.

use std::sync::Arc;

use thrum_core::{Error, ErrorKind, name};

use super::Addresses;
use crate::{
    blocking::blocking,
    registry::{Peer, Registry},
    transport::{Conn, Kind, Node, Transport, split_address, with_port},
};

/// The address at which to dial a peer.
pub(crate) struct Located {
    pub(crate) address: String,
    /// The node at this address, if it is not yet known to be the peer's.
    unproven: Option<Node>,
}

impl Located {
    fn of(address: String) -> Self {
        Self { address, unproven: None }
    }
}

impl Addresses {
    /// Connects to a peer. Returns the connection, the address, and the node if it must be recorded once the peer has
    /// answered. The caller must bound the time.
    ///
    /// # Errors
    /// Why the peer cannot or must not be reached.
    pub(crate) async fn connect(&self, peer: &Peer) -> Result<(Conn, String, Option<Node>), Error> {
        let transport = self.route(peer)?;
        let Located { address, unproven } = self.locate(peer, &*transport).await?;
        // Hints are meant for a user who has just acted; this dial is repeated automatically.
        let conn = transport.dial(&address).await.map_err(|error| Error { hint: None, ..error })?;
        Ok((conn, address, unproven))
    }

    /// Records the node on which a peer listens, after the peer has answered there. Written once. A disk error does not
    /// end the connection; the next connection tries to record the node again.
    pub(crate) async fn learn_node(&self, peer: &Peer, node: Node) {
        tracing::info!(
            peer = %peer.name,
            %node,
            "[pairing] {} listens on {node}; its token is sent to no other node",
            name::quoted(&peer.name)
        );
        if let Err(error) = self.change(peer, move |registry, id| registry.learn_node(id, &node)).await {
            tracing::warn!(peer = %peer.name, %error, "cannot store the node of a peer");
        }
    }

    /// Adopts the name that a peer now gives itself, unless the user chose the peer's name here. A disk error does not
    /// end the connection.
    pub(crate) async fn learn_name(&self, peer: &Peer, own: &str) {
        if self.env.auth().registry.follows_name(&peer.daemon_id, own).is_none() {
            return;
        }
        let own = own.to_owned();
        let renamed = self.change(peer, move |registry, id| {
            let before = registry.get(id).map(|peer| peer.name.clone()).unwrap_or_default();
            if let Some(name) = registry.follow_name(id, &own)? {
                tracing::info!(peer = %name, former_name = %before, "[pairing] {} calls itself {} now", name::quoted(&before), name::quoted(&name));
            }
            Ok(())
        });
        if let Err(error) = renamed.await {
            tracing::warn!(peer = %peer.name, %error, "cannot store the name of a peer");
        }
    }

    /// Returns the transport on which a peer was paired.
    pub(crate) fn route(&self, peer: &Peer) -> Result<Arc<dyn Transport>, Error> {
        let refused = |why: &str| Error::new(ErrorKind::Refused, why);
        if peer.token.is_none() {
            return Err(refused("it was paired without a token; pair again"));
        }
        let kind = peer.kind();
        if let Some(Error { message, hint, .. }) = kind.and_then(|kind| self.refusal(kind)) {
            let error = refused(&format!("it is on another machine, and {message}"));
            return Err(hint.iter().fold(error, |error, hint| error.hint(hint)));
        }
        let transport = kind.and_then(|kind| self.transport(kind)).ok_or_else(|| {
            let name = kind.map_or_else(|| peer.transport.clone().unwrap_or_default(), |kind| kind.to_string());
            Error::new(
                ErrorKind::Unavailable,
                format!("it was paired over {}, which is not available", name::printable(&name)),
            )
        })?;
        if peer.address.is_empty() {
            return Err(refused("it did not say where it can be reached"));
        }
        Ok(transport)
    }

    /// Returns the stored address of a peer, if the peer's node has it or is not known yet, or on loopback. Otherwise
    /// returns the current address of the peer's node.
    pub(crate) async fn locate(&self, peer: &Peer, transport: &dyn Transport) -> Result<Located, Error> {
        if transport.kind() == Kind::Local {
            return Ok(Located::of(peer.address.clone()));
        }
        if let Some(error) = transport.condition().borrow().error() {
            return Err(error);
        }
        let there = match transport.node_at(&peer.address).await {
            Ok(node) => node,
            // No node has the address, or it is malformed: the stored address is only the peer's claim.
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Invalid) => None,
            Err(error) => return Err(error),
        };
        match (&peer.node, there) {
            (Some(its), Some(there)) if its.id == there.id => {
                if *its != there {
                    self.change(peer, move |registry, id| registry.learn_node(id, &there)).await?;
                }
                Ok(Located::of(peer.address.clone()))
            }
            (None, Some(there)) => Ok(Located { address: peer.address.clone(), unproven: Some(there) }),
            (Some(its), there) => self.follow(peer, its, there, transport).await.map(Located::of),
            (None, None) => {
                let shown = name::printable(&peer.address);
                Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("no node of this tailnet has {shown}; nothing was sent"),
                ))
            }
        }
    }

    /// Finds, stores and returns the current address of the peer's node, which does not have the stored address.
    async fn follow(
        &self,
        peer: &Peer,
        its: &Node,
        there: Option<Node>,
        transport: &dyn Transport,
    ) -> Result<String, Error> {
        let neighbours = transport.neighbours().await?;
        let old = name::printable(&peer.address);
        let now = neighbours.into_iter().find(|neighbour| neighbour.node.id == its.id);
        let address = now.and_then(|now| Some(with_port(&now.host, split_address(&peer.address)?.1)));
        match address.filter(|address| *address != peer.address) {
            Some(address) => {
                tracing::info!(
                    peer = %peer.name,
                    %address,
                    former_address = %peer.address,
                    "[pairing] {} is at {address} now, and not at {old} any more",
                    name::quoted(&peer.name)
                );
                let kept = address.clone();
                self.change(peer, move |registry, id| registry.follow(id, &kept)).await?;
                Ok(address)
            }
            None => {
                let instead = there.map_or_else(String::new, |there| format!(", and {old} belongs to {there}"));
                Err(Error::new(ErrorKind::Unavailable, format!("its node {its} is not on this tailnet{instead}; nothing was sent")).hint(
                    format!(
                        "If it has another node now, it says so when it calls; else `thrum peer remove {}`, and pair again.",
                        peer.name
                    ),
                ))
            }
        }
    }

    /// Changes a peer's entry, durably, unless the peer was removed or paired anew meanwhile.
    async fn change(
        &self,
        peer: &Peer,
        change: impl FnOnce(&mut Registry, &str) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let (env, peer) = (Arc::clone(&self.env), peer.clone());
        blocking(move || {
            let mut auth = env.auth();
            let is_same = auth.registry.get(&peer.daemon_id).is_some_and(|now| match (&now.token, &peer.token) {
                (Some(now), Some(then)) => now.matches(then.reveal()),
                _ => false,
            });
            if is_same { change(&mut auth.registry, &peer.daemon_id) } else { Ok(()) }
        })
        .await
    }
}
