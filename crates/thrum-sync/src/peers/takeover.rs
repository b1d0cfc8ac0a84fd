//! Takes over the peers of the Go Thrum that this daemon replaces.

use std::sync::Arc;

use serde::Serialize;
use thrum_core::{Error, name::printable};

use super::Peers;
use crate::{
    blocking::blocking,
    legacy::peers::{GoPeers, ImportDecision, Refused},
    outbound::First,
    registry::Peer,
    transport::{Kind, split_address},
};

/// The Go Thrum being replaced.
#[derive(Clone, Debug, Default)]
pub struct Replaced {
    /// The id by which the peers of the Go Thrum know it.
    pub known_as: String,
    /// All ids of the Go Thrum, so that an entry for the Go Thrum itself is refused.
    pub own_ids: Vec<String>,
    /// Whether this daemon uses the same tailnet node.
    pub same_node: bool,
    /// This daemon's future tailnet port, if it is fixed.
    pub fixed_port: Option<u16>,
}

/// Result for one peer of the Go Thrum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TakenOver {
    /// The peer's name; if it is already a peer here, its name here.
    pub name: String,
    /// The peer's id; empty if the file contains none.
    pub daemon_id: String,
    /// The address at which the peer is dialled; empty if the file contains none.
    pub address: String,
    /// `taken`, `would_be_taken`, `known` or `refused`.
    pub status: &'static str,
    /// Why the peer was not taken over; `None` if it was, or would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For a peer that was taken over but cannot reach this daemon: the reason and a remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Peers {
    /// Takes over the peers in a `peers.json` of Go Thrum, durably and all at once, and starts to replicate with each.
    /// With `dry_run`, only reports the expected result.
    ///
    /// # Errors
    /// `Refused` if there would be too many peers; those of the disk. In both cases no peer was taken over. A
    /// repetition takes over no peer twice.
    pub async fn take_over(&self, file: GoPeers, replaced: Replaced, dry_run: bool) -> Result<Vec<TakenOver>, Error> {
        let port = file.port;
        let Replaced { known_as, own_ids, same_node, fixed_port } = replaced;
        let env = Arc::clone(&self.0.env);
        let own = [own_ids, vec![self.0.env.me.daemon_id.clone()]].concat();
        let (taken, others) = blocking(move || {
            let mut auth = env.auth();
            let (mut new, mut others) = (Vec::new(), Vec::new());
            for decision in file.classify(&own, &known_as, auth.registry.peers()) {
                match decision {
                    ImportDecision::New(peer) => new.push(*peer),
                    ImportDecision::Known(other) => others.push(("known", other)),
                    ImportDecision::Refused(other) => others.push(("refused", other)),
                }
            }
            let taken = if dry_run { new } else { auth.registry.take_over(new)? };
            Ok((taken, others))
        })
        .await?;
        if !dry_run {
            for kind in [Kind::Local, Kind::Tailnet] {
                if taken.iter().any(|peer| Kind::of_address(&peer.address) == kind) {
                    self.expect_calls(kind).await;
                }
            }
        }
        let mut results = Vec::new();
        for peer in taken {
            if !dry_run {
                let (name, id, address) = (&peer.name, printable(&peer.daemon_id), printable(&peer.address));
                tracing::info!(
                    peer = %name,
                    daemon_id = %peer.daemon_id,
                    address = %peer.address,
                    "[pairing] Took {} over from Go Thrum ({id}) at {address}",
                    thrum_core::name::quoted(name)
                );
                self.0.drive(peer.clone(), First::Dial);
            }
            let Peer { name, daemon_id, address, .. } = peer;
            let kind = Kind::of_address(&address);
            let is_there = match kind {
                Kind::Local => self.port(kind).await == Some(port),
                Kind::Tailnet => same_node && self.port(kind).await.or(fixed_port) == Some(port),
            };
            let note = (!is_there).then(|| unreachable(port, &name));
            let status = if dry_run { "would_be_taken" } else { "taken" };
            results.push(TakenOver { name, daemon_id, address, status, reason: None, note });
        }
        results.extend(others.into_iter().map(|(status, Refused { name, daemon_id, address, reason })| TakenOver {
            name,
            daemon_id,
            address,
            status,
            reason: Some(reason),
            note: None,
        }));
        Ok(results)
    }

    /// Listens where the peers that were taken over may call.
    async fn expect_calls(&self, kind: Kind) {
        if self.0.addresses.transport(kind).is_some()
            && let Err(error) = self.0.inbound.listen(kind).await
        {
            tracing::warn!(%error, "cannot listen for the peers of Go Thrum");
            self.0.inbound.keep_trying_to_listen(kind);
        }
    }

    async fn port(&self, kind: Kind) -> Option<u16> {
        self.address(kind).await.and_then(|address| Some(split_address(&address)?.1))
    }
}

/// Returns the note about a peer that cannot reach this daemon: a peer dials the address that it received during
/// pairing.
fn unreachable(port: u16, name: &str) -> String {
    format!(
        "it dials this machine where Go Thrum listened, at port {port} of its node, and not here: it is read, but reads nothing. \
         Pair it anew (first: thrum peer remove {name}), or listen there (THRUM_TS_PORT={port}, THRUM_TS_STATE_DIR of Go Thrum)"
    )
}
