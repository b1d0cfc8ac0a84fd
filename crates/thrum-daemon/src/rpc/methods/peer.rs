//! `peer.*`: pairing with peers and showing their state.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thrum_core::{Ambient, Error, ErrorKind, Timestamp, limits, name, quota::OverQuota};
use thrum_sync::{
    Peers,
    clock::go_duration,
    pairing::{Attempt, Code, SessionId},
    peers::{Joined, Listener, PeerStatus, Pinged, Waited, WaitingDaemons},
    replicator::State,
    transport::{Condition, Kind},
};

use super::required;
use crate::{ambient::System, daemon::Daemon, rpc::connection::Kept};

/// Summarises the state of all peers in Go Thrum's terms: `error`, `syncing`, `synced`; `idle` without peers.
pub(super) fn sync_state(peers: &[PeerStatus]) -> &'static str {
    let behind = |backlog: Option<u64>| backlog.is_some_and(|events| events > 0);
    if peers.is_empty() {
        "idle"
    } else if peers.iter().any(|peer| peer.state.needs_attention()) {
        "error"
    } else if peers.iter().any(|peer| {
        peer.state == State::Connecting
            || behind(peer.details.backlog_from_them)
            || behind(peer.details.backlog_to_them)
    }) {
        "syncing"
    } else {
        "synced"
    }
}

/// Formats the time of the last contact with a peer as Go Thrum does: `30s ago`, `2026-03-28 10:05` (local time) after
/// a day, or `never`.
pub(super) fn ago(last_sync: Option<Timestamp>) -> String {
    let Some(at) = last_sync else { return "never".to_owned() };
    let since = System.now().since(at);
    if since <= Duration::from_secs(24 * 60 * 60) {
        return format!("{} ago", go_duration(since));
    }
    let local = jiff::Timestamp::from_nanosecond(at.nanos().into()).map(|at| at.to_zoned(jiff::tz::TimeZone::system()));
    local.map_or_else(|_| at.to_string(), |local| local.strftime("%Y-%m-%d %H:%M").to_string())
}

#[derive(Deserialize)]
pub(super) struct StartPairing {
    #[serde(default)]
    timeout_seconds: Option<u64>,
    #[serde(default)]
    transport: Option<String>,
}

#[derive(Serialize)]
pub(super) struct PairingShown {
    code: String,
    address: String,
    join: String,
    peercode: String,
    name: String,
    transport: &'static str,
    expires_at: Timestamp,
}

/// Returns the transport with this name. People write `tailnet`; the registry and Go Thrum write `tailscale`.
fn parse_transport(name: &str) -> Result<Kind, Error> {
    match name {
        "tailnet" => Ok(Kind::Tailnet),
        name => Kind::parse(name).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("unknown transport '{}'", name::printable(name)))
                .hint("Known are `tailnet`, and `local`: two repositories on this machine.")
        }),
    }
}

/// Ends the pairing session when the connection that started it ends.
struct SessionGuard {
    peers: Peers,
    session: SessionId,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.peers.cancel_pairing(self.session);
    }
}

pub(super) async fn start_pairing(
    daemon: &Daemon,
    params: StartPairing,
    kept: &mut Kept,
) -> Result<PairingShown, Error> {
    let kind = match params.transport.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => parse_transport(name)?,
        // If the tailnet is in use, it is the way to reach other machines.
        None => match daemon.peers.condition(Kind::Tailnet) {
            None | Some(Condition::Off) => Kind::Local,
            Some(_) => Kind::Tailnet,
        },
    };
    if kind == Kind::Tailnet {
        daemon.enable_tailnet().await?;
    }
    let within =
        params.timeout_seconds.filter(|seconds| *seconds > 0).map_or(limits::PAIRING_SESSION, Duration::from_secs);
    let started = daemon.peers.start_pairing(kind, within).await?;
    kept.keep(SessionGuard { peers: daemon.peers.clone(), session: started.session });
    Ok(PairingShown {
        code: started.code.reveal().to_owned(),
        join: started.join(),
        peercode: started.peercode(),
        address: started.address,
        name: started.name,
        transport: started.transport.as_str(),
        expires_at: started.expires_at,
    })
}

#[derive(Serialize)]
pub(super) struct PairedWith {
    status: &'static str,
    #[serde(flatten)]
    joined: Joined,
}

#[derive(Deserialize)]
pub(super) struct WaitPairing {
    /// The number of failed attempts that the caller knows of. Without it, failed attempts are not reported.
    #[serde(default)]
    attempts_seen: Option<usize>,
}

/// The result of waiting for the other side.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum WaitedFor {
    Paired(PairedWith),
    /// No peer has joined yet, but there are failed attempts that the caller does not know of.
    Waiting {
        status: &'static str,
        /// All failed attempts of the pairing session, in order: wrong codes, and callers that were refused without a
        /// check of their code.
        attempts: Vec<Attempt>,
    },
}

pub(super) async fn wait_pairing(daemon: &Daemon, params: WaitPairing) -> Result<WaitedFor, Error> {
    Ok(match daemon.peers.wait_pairing_or_attempt(params.attempts_seen.unwrap_or(usize::MAX)).await? {
        Waited::Joined(joined) => WaitedFor::Paired(PairedWith { status: "paired", joined }),
        Waited::Tried(attempts) => WaitedFor::Waiting { status: "waiting", attempts },
    })
}

#[derive(Deserialize)]
pub(super) struct Join {
    #[serde(default)]
    address: Option<String>,
    /// The pairing code. Its type is checked by hand, because serde's error would show the code.
    #[serde(default)]
    code: Value,
    /// Join even if the code has to be sent to the other side in the clear.
    #[serde(default)]
    plain: bool,
}

pub(super) async fn join(daemon: &Daemon, params: Join) -> Result<PairedWith, Error> {
    let address = required("address", params.address)?;
    let code = match &params.code {
        Value::Null => return Err(Error::new(ErrorKind::Invalid, "code is required")),
        Value::String(code) => code,
        _ => return Err(Error::new(ErrorKind::Invalid, "invalid params: code is a string of four digits")),
    };
    Code::parse(code)?;
    if Peers::wants_tailnet(&address)? {
        daemon.enable_tailnet().await?;
    }
    let joined = if params.plain {
        daemon.peers.join_even_plainly(&address, code).await?
    } else {
        daemon.peers.join(&address, code).await?
    };
    Ok(PairedWith { status: "paired", joined })
}

#[derive(Deserialize)]
pub(super) struct Lookup {
    #[serde(default)]
    address: Option<String>,
}

/// Returns which daemon listens at an address, and how it can be joined.
pub(super) async fn look_up(daemon: &Daemon, params: Lookup) -> Result<Listener, Error> {
    let address = required("address", params.address)?;
    if Peers::wants_tailnet(&address)? {
        daemon.enable_tailnet().await?;
    }
    daemon.peers.inspect(&address).await
}

/// Lists the daemons that wait to be joined.
pub(super) async fn waiting(daemon: &Daemon) -> Result<WaitingDaemons, Error> {
    daemon.peers.waiting().await
}

#[derive(Deserialize)]
pub(super) struct Ping {
    #[serde(default)]
    name: Option<String>,
}

pub(super) async fn ping(daemon: &Daemon, params: Ping) -> Result<Pinged, Error> {
    daemon.peers.ping(&required("name", params.name)?).await
}

/// A peer in a list.
#[derive(Serialize)]
pub(super) struct Listed {
    daemon_id: String,
    name: String,
    address: String,
    /// When there was last contact with the peer, as a text for people ([`ago`]).
    last_sync: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sync_at: Option<Timestamp>,
    last_synced_seq: u64,
    transport: String,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    over_quota: Option<OverQuota>,
}

impl Listed {
    pub(super) fn of(peer: &PeerStatus) -> Self {
        Self {
            daemon_id: peer.daemon_id.clone(),
            name: peer.name.clone(),
            address: peer.address.clone(),
            last_sync: ago(peer.last_sync),
            last_sync_at: peer.last_sync,
            last_synced_seq: peer.last_synced_seq,
            transport: peer.transport.clone(),
            over_quota: peer.exchange.over_quota,
            state: peer.state,
        }
    }
}

pub(super) async fn list(daemon: &Daemon) -> Result<Vec<Listed>, Error> {
    Ok(daemon.peers.status().await?.iter().map(Listed::of).collect())
}

/// A peer with everything that is known about it. `last_sync` is for people, as in Go Thrum; `last_sync_at` is for
/// programs.
#[derive(Serialize)]
pub(super) struct FullStatus {
    last_sync: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sync_at: Option<Timestamp>,
    #[serde(flatten)]
    peer: PeerStatus,
}

impl FullStatus {
    pub(super) fn of(peer: PeerStatus) -> Self {
        Self { last_sync: ago(peer.last_sync), last_sync_at: peer.last_sync, peer }
    }
}

pub(super) async fn status(daemon: &Daemon) -> Result<Vec<FullStatus>, Error> {
    Ok(daemon.peers.status().await?.into_iter().map(FullStatus::of).collect())
}

#[derive(Deserialize)]
pub(super) struct Rename {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    daemon_id: Option<String>,
    #[serde(default)]
    new_name: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Renamed {
    status: &'static str,
    name: String,
    former_name: String,
    daemon_id: String,
}

/// Gives a peer a name chosen by a person, which the peer's own name does not replace.
pub(super) async fn rename(daemon: &Daemon, params: Rename) -> Result<Renamed, Error> {
    let wanted = required("name or daemon_id", params.daemon_id.filter(|id| !id.is_empty()).or(params.name))?;
    let name = required("new_name", params.new_name)?;
    let before = daemon.peers.rename(&wanted, &name).await?;
    Ok(Renamed { status: "ok", name, former_name: before.name, daemon_id: before.daemon_id })
}

#[derive(Deserialize)]
pub(super) struct Remove {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    daemon_id: Option<String>,
    /// Also drop the data that the peer brought; not in Go Thrum.
    #[serde(default)]
    forget: bool,
}

#[derive(Serialize)]
pub(super) struct Removed {
    status: &'static str,
    name: String,
    daemon_id: String,
    /// `true` if the data that the peer brought is being dropped now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    forgetting: bool,
}

pub(super) async fn remove(daemon: &Daemon, params: Remove) -> Result<Removed, Error> {
    let wanted = required("name or daemon_id", params.daemon_id.filter(|id| !id.is_empty()).or(params.name))?;
    let (name, daemon_id) = match daemon.peers.remove(&wanted).await {
        Ok(peer) => (peer.name, peer.daemon_id),
        // The peer was removed before, but the data that it brought may still be here.
        Err(error) if params.forget && error.kind == ErrorKind::NotFound => {
            let former = wanted.clone();
            if !daemon.storage.read(move |reader| reader.has_received_from(&former)).await? {
                return Err(error);
            }
            (wanted.clone(), wanted)
        }
        Err(error) => return Err(error),
    };
    if params.forget {
        let peer = daemon_id.clone();
        let begun = daemon.storage.write(move |tx| {
            // If the peer is paired again, its log is read from the start.
            tx.forget(&peer)?;
            tx.begin_forgetting(&peer)
        });
        // A retry by name would not find the peer.
        begun.await.map_err(|error| Error {
            message: format!("{name} is removed, but its events stay: {}", error.message),
            ..error.hint(format!("Later: thrum peer remove {daemon_id} --forget"))
        })?;
        daemon.forgetting.notify_one();
    }
    Ok(Removed { status: "ok", name, daemon_id, forgetting: params.forget })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_sync_reads_as_gos() {
        assert_eq!(ago(None), "never");
        let now = System.now();
        assert_eq!(ago(Some(now.plus(Duration::from_secs(60)))), "0s ago", "a clock that is ahead");
        assert!(ago(Some(now.minus(Duration::from_secs(7205)))).starts_with("2h0m"));
        let shape: String = ago(Some(now.minus(Duration::from_secs(100_000))))
            .chars()
            .map(|c| if c.is_ascii_digit() { '9' } else { c })
            .collect();
        assert_eq!(shape, "9999-99-99 99:99");
    }
}
