//! Peers of a Go Thrum that this daemon replaces.

use std::sync::Arc;

use serde::Serialize;
use thrum_core::{Fault, name::printable};

use super::{Peers, blocking, driver::First};
use crate::{
    legacy::peers::{GoPeers, Judged, Refused},
    registry::Peer,
    transport::Kind,
};

/// What is known of the Go Thrum that is replaced.
#[derive(Clone, Debug, Default)]
pub struct Replaced {
    /// The id under which its peers know it.
    pub known_as: String,
    /// All its ids: nobody is paired with itself.
    pub own_ids: Vec<String>,
    /// Whether this daemon is the tailnet node that it was.
    pub same_node: bool,
    /// Where this daemon will listen on the tailnet, if that is fixed.
    pub fixed_port: Option<u16>,
}

/// What became of a peer of Go Thrum's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TakenOver {
    /// What it is called, here if it is a peer here.
    pub name: String,
    /// Who it is, as far as the file says.
    pub daemon_id: String,
    /// Where it is dialled.
    pub address: String,
    /// `taken`, `would_be_taken`, `known` or `refused`.
    pub status: &'static str,
    /// Of a refused one, why; of a known one, that it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a taken one that cannot reach this daemon: why, and what helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Peers {
    /// Takes over what a `peers.json` of Go Thrum names, durably and as a whole, and begins to replicate with each. With `dry_run`
    /// it only says what would come of it.
    ///
    /// # Errors
    /// The disk; no peer was taken then. Repeating it takes nobody twice.
    pub async fn take_over(&self, file: GoPeers, replaced: Replaced, dry_run: bool) -> Result<Vec<TakenOver>, Fault> {
        let port = file.port;
        let Replaced { known_as, own_ids, same_node, fixed_port } = replaced;
        let inner = Arc::clone(&self.0);
        let own = [own_ids, vec![self.0.me.daemon_id.clone()]].concat();
        let (taken, others) = blocking(move || {
            let mut desk = inner.desk();
            let (mut new, mut others) = (Vec::new(), Vec::new());
            for judged in file.judge(&own, &known_as, desk.registry.peers()) {
                match judged {
                    Judged::New(peer) => new.push(*peer),
                    Judged::Known(other) => others.push(("known", other)),
                    Judged::Refused(other) => others.push(("refused", other)),
                }
            }
            let taken = if dry_run { new } else { desk.registry.take_over(new)? };
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
                tracing::info!("[pairing] Took {name} over from Go Thrum ({id}) at {address}");
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

    /// Listens where the peers taken over may call.
    async fn expect_calls(&self, kind: Kind) {
        if self.0.transport(kind).is_some()
            && let Err(fault) = self.0.listen(kind).await
        {
            tracing::warn!("{fault}");
            self.0.keep_trying_to_listen(kind);
        }
    }

    async fn port(&self, kind: Kind) -> Option<u16> {
        self.address(kind).await.and_then(|address| address.rsplit_once(':')?.1.parse().ok())
    }
}

/// A peer dials the address that it was told when it was paired.
fn unreachable(port: u16, name: &str) -> String {
    format!(
        "it dials this machine where Go Thrum listened, at port {port} of its node, and not here: it is read, but reads nothing. \
         Pair it anew (first: thrum peer remove {name}), or listen there (THRUM_TS_PORT={port}, THRUM_TS_STATE_DIR of Go Thrum)"
    )
}
