//! Peers of a Go Thrum that this daemon replaces.

use std::sync::Arc;

use serde::Serialize;
use thrum_core::Fault;

use super::{Peers, blocking, driver::First};
use crate::{
    legacy::peers::{GoPeers, Judged, Refused},
    registry::Peer,
    transport::Kind,
};

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
    /// Takes over what a `peers.json` of Go Thrum names, durably and as a whole, and begins to replicate with each. `known_as`
    /// is the id under which they know this daemon, `own` are further ids of it. `same_node`: whether this daemon is the tailnet
    /// node that Go Thrum was. With `dry_run` it only says what would come of it.
    ///
    /// # Errors
    /// The disk; no peer was taken then. Repeating it takes nobody twice.
    pub async fn take_over(
        &self,
        file: GoPeers,
        known_as: &str,
        own: &[String],
        same_node: bool,
        dry_run: bool,
    ) -> Result<Vec<TakenOver>, Fault> {
        let port = file.port;
        let listens = [self.port(Kind::Local).await, self.port(Kind::Tailnet).await];
        let note = |kind: Kind| match kind {
            Kind::Local => (listens[0] != Some(port)).then(|| unreachable(port)),
            Kind::Tailnet => (listens[1] != Some(port) || !same_node).then(|| unreachable(port)),
        };
        let inner = Arc::clone(&self.0);
        let (known_as, own) = (known_as.to_owned(), [own, &[self.0.me.daemon_id.clone()]].concat());
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
        let mut results = Vec::new();
        for peer in taken {
            if !dry_run {
                tracing::info!(
                    "[pairing] Took {} over from Go Thrum ({}) at {}",
                    peer.name,
                    thrum_core::name::printable(&peer.daemon_id),
                    peer.address
                );
                self.0.drive(peer.clone(), First::Dial);
            }
            let Peer { name, daemon_id, address, .. } = peer;
            let note = note(Kind::of_address(&address));
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

    async fn port(&self, kind: Kind) -> Option<u16> {
        self.address(kind).await.and_then(|address| address.rsplit_once(':')?.1.parse().ok())
    }
}

/// A peer dials the address that it was told when it was paired.
fn unreachable(port: u16) -> String {
    format!(
        "it dials this machine where Go Thrum listened, at port {port} of its node, and not here: it is read, but reads nothing. \
         Pair it anew, or listen there (THRUM_TS_PORT={port}, THRUM_TS_STATE_DIR of Go Thrum)"
    )
}
