//! The public interface to all peers of a daemon.
//!
//! This module assembles the parts and delegates to them. Each part owns its state and is reached through a handle. A
//! part uses those above it in this list, and none below:
//!
//! | part | owns |
//! |---|---|
//! | `environment` | identity, authentication state, clock, tasks |
//! | `addresses` | transports, the peers' addresses, and the directions in which they can be reached |
//! | `inbound` | listeners, open connections, the requests of legacy peers |
//! | `outbound` | a driver and a connection for each peer, lent and borrowed connections |
//! | `reconcile` | a schedule of comparisons for each peer |
//! | `pair` | both sides of pairing |
//!
//! Inbound connections report to other parts through `Events`, which this module forwards. Each long-lived task belongs
//! to one tracker, or to a task of that tracker, and ends with [`Peers::shutdown`]. Locks that concern several peers
//! are held for memory access, small files and opening a listener, never while waiting for a peer. Disk I/O runs on the
//! blocking pool.

mod notes;
mod report;
mod takeover;

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use thrum_core::{Error, ErrorKind, exchange::Commit, limits};
use tokio::{sync::watch, time::timeout};
use zeroize::Zeroizing;

use crate::{
    Log,
    addresses::Addresses,
    blocking::blocking,
    clock::go_duration,
    conn::Halves,
    environment::Environment,
    inbound::{Events, Inbound},
    outbound::{First, Outbound},
    pair::{PairingFlow, wants_tailnet},
    pairing::{Pairing, SessionId},
    protocol::{AuthState, Effect, Me},
    reconcile::Reconcile,
    registry::{Peer, Registry},
    replicator::{ReplicatorStatus, recent_within},
    transport::{Condition, Kind, Transport},
};
pub use crate::{
    answers::{
        AbsentEvents, Compared, Forced, Joined, Listener, Missing, PairingStarted, PeerDetails, PeerStatus, Pinged,
        Repaired, Route, Verdict, Verified, Waited, Waiting, WaitingDaemons,
    },
    clock::Ambients,
    inbound::NewerGo,
    protocol::Prover,
};
pub use notes::SAME_KEY;
pub use takeover::{Replaced, TakenOver};

/// Configuration of a daemon's peers.
#[derive(Clone)]
pub struct PeersConfig {
    /// Directory of `peers.json` and `pairing.json`.
    pub var_dir: PathBuf,
    /// This daemon's id.
    pub daemon_id: String,
    /// This daemon's name on other machines.
    pub name: String,
    /// This program's version.
    pub version: String,
    /// Interval between periodic pulls from each peer, independent of its announcements: [`limits::SYNC_INTERVAL`]
    /// unless configured.
    pub sync_interval: Duration,
    /// Restricts sync to peers on this machine, whatever transports there are: the refusal of other peers.
    pub kept_here: Option<Error>,
    /// The transports, at most one of each kind.
    pub transports: Vec<Arc<dyn Transport>>,
    /// Clock and randomness.
    pub ambients: Ambients,
    /// Answers challenges of peers with a key, where the handshake does not prove this daemon's identity. Signs with
    /// the daemon's key ([`DaemonKey::prove`](thrum_core::DaemonKey::prove)); the key itself is not passed on.
    pub prover: Prover,
    /// The secret by which connections to peers with a key are encrypted
    /// ([`DaemonKey::exchange_secret`](thrum_core::DaemonKey::exchange_secret)).
    pub exchange_secret: Zeroizing<[u8; 32]>,
}

/// The peers of a daemon. A clone is another handle to the same peers.
#[derive(Clone)]
pub struct Peers(Arc<Parts>);

struct Parts {
    env: Arc<Environment>,
    addresses: Arc<Addresses>,
    inbound: Arc<Inbound>,
    outbound: Arc<Outbound>,
    reconcile: Arc<Reconcile>,
    pairing: PairingFlow,
}

impl Peers {
    /// Reads the peers, listens where this daemon listened before, and starts to replicate with each peer. The tailnet
    /// listener is opened as soon as the tailnet is up, and again each time it comes back up; this function does not
    /// wait for it.
    ///
    /// # Errors
    /// `peers.json` or `pairing.json` cannot be used. A listener that cannot be opened is not an error here: it is
    /// retried every [`limits::SYNC_INTERVAL`] and reported by [`listen_error`](Self::listen_error).
    pub async fn start(
        config: PeersConfig,
        log: Arc<dyn Log>,
        commits: watch::Receiver<Commit>,
    ) -> Result<Self, Error> {
        let PeersConfig {
            var_dir,
            daemon_id,
            name,
            version,
            sync_interval,
            kept_here,
            transports,
            ambients,
            prover,
            exchange_secret,
        } = config;
        let me = Me { daemon_id, name, version, instance: format!("{:016x}", ambients().random_u64()) };
        let auth = blocking(move || {
            let registry = Registry::open(var_dir.join("peers.json"), &me.daemon_id)?;
            let pairing = Pairing::open(var_dir.join("pairing.json"))?;
            Ok(AuthState { me, registry, pairing })
        })
        .await?;
        let peers: Vec<Peer> = auth.registry.peers().to_vec();
        let listens = auth.registry.port(Kind::Local).is_some();
        let env = Arc::new(Environment::new(auth, log, commits, sync_interval, ambients, prover, exchange_secret));
        let parts = Arc::new_cyclic(|parts| Parts::new(env, transports, kept_here, parts));
        tracing::info!(
            "periodic_sync: starting with interval={}, recent_threshold={}",
            go_duration(sync_interval),
            go_duration(recent_within(sync_interval))
        );
        if listens && let Err(error) = parts.inbound.listen(Kind::Local).await {
            tracing::error!(%error, "cannot listen for peers on this machine");
            parts.inbound.keep_trying_to_listen(Kind::Local);
        }
        if let Some(tailnet) = parts.addresses.transport(Kind::Tailnet) {
            parts.env.tasks.spawn(Arc::clone(&parts.inbound).attend(tailnet));
        }
        for peer in peers {
            parts.drive(peer, First::Dial);
        }
        Ok(Self(parts))
    }

    /// Returns the paired daemons, in the order of pairing.
    pub fn list(&self) -> Vec<Peer> {
        self.0.env.auth().registry.peers().to_vec()
    }

    /// Returns the address at which peers reach us on this kind of transport; `None` while nothing listens.
    pub async fn address(&self, kind: Kind) -> Option<String> {
        self.0.inbound.address(kind).await
    }

    /// Returns the condition of a transport, if one of this kind exists and the user permits it.
    pub fn condition(&self, kind: Kind) -> Option<Condition> {
        self.0.addresses.transport(kind).map(|transport| transport.condition().borrow().clone())
    }

    /// Returns the error of a listener that should be open and is not; `None` if there is none.
    pub async fn listen_error(&self) -> Option<Error> {
        self.0.inbound.listen_error().await
    }

    /// Gives a peer, found by id or name, a name chosen by the user. Returns its previous entry.
    ///
    /// # Errors
    /// `NotFound`; those of [`Registry::rename`](crate::registry::Registry::rename).
    pub async fn rename(&self, id_or_name: &str, name: &str) -> Result<Peer, Error> {
        let env = Arc::clone(&self.0.env);
        let (wanted, name) = (id_or_name.to_owned(), name.to_owned());
        blocking(move || {
            let mut auth = env.auth();
            let before = auth.registry.find(&wanted)?.clone();
            auth.registry.rename(&before.daemon_id, &name)?;
            tracing::info!(
                peer = %name,
                former_name = %before.name,
                "[pairing] {} is called {} now",
                thrum_core::name::quoted(&before.name),
                thrum_core::name::quoted(&name)
            );
            Ok(before)
        })
        .await
    }

    /// Removes a peer by id or name. On return its token is invalid, its connections are closed in both directions, and
    /// its checkpoints are deleted.
    ///
    /// # Errors
    /// `NotFound`; those of the disk if `peers.json` cannot be written, and the peer stays then. A failure afterwards
    /// is only logged, because the peer is gone, and a retry would not find it. A checkpoint that stays matters only if
    /// the peer is paired again: reading then goes on from there, and anti-entropy finds what is missing.
    pub async fn remove(&self, id_or_name: &str) -> Result<Peer, Error> {
        let env = Arc::clone(&self.0.env);
        let wanted = id_or_name.to_owned();
        let peer = blocking(move || {
            let mut auth = env.auth();
            let id = auth.registry.find(&wanted)?.daemon_id.clone();
            auth.registry
                .remove(&id)?
                .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("peer \"{id}\" not found")))
        })
        .await?;
        let id = &peer.daemon_id;
        self.0.inbound.remove(id);
        self.0.addresses.reachability.forget(id);
        self.0.outbound.remove(id).await;
        let stopped = self.0.reconcile.remove(id).await;
        let (env, id) = (Arc::clone(&self.0.env), id.clone());
        let forgotten = blocking(move || env.log.forget(&id)).await;
        for error in [stopped, forgotten].into_iter().filter_map(Result::err) {
            tracing::warn!(peer = %peer.name, %error, "cannot delete the checkpoint of a removed peer");
        }
        tracing::info!(
            peer = %peer.name,
            daemon_id = %peer.daemon_id,
            "[pairing] Removed {} ({})",
            thrum_core::name::quoted(&peer.name),
            thrum_core::name::printable(&peer.daemon_id)
        );
        Ok(peer)
    }

    /// Starts a pairing session with a code to display, for at most `within` (limited to [`limits::PAIRING_SESSION`]).
    /// Opens the listener if necessary.
    ///
    /// # Errors
    /// `Refused` while another session is open, while pairing is locked, or if the user's configuration forbids this
    /// kind of transport; `Unavailable` or `TryAgain` if no peer could reach us; those of the disk.
    pub async fn start_pairing(&self, kind: Kind, within: Duration) -> Result<PairingStarted, Error> {
        self.0.pairing.start(kind, within).await
    }

    /// Waits for the end of the pairing session, and then for the first exchange, at most [`limits::FIRST_EXCHANGE`].
    /// The outcome of a session that ended before this call is still available, once.
    ///
    /// # Errors
    /// `no active pairing session`, `pairing timed out`, `pairing canceled`, too many wrong codes, why the joiner was
    /// refused, or that the daemon is stopping.
    pub async fn wait_pairing(&self) -> Result<Joined, Error> {
        loop {
            if let Waited::Joined(joined) = self.wait_pairing_or_attempt(usize::MAX).await? {
                return Ok(joined);
            }
        }
    }

    /// Waits like [`wait_pairing`](Self::wait_pairing), but also returns when the session has seen more than `seen`
    /// wrong codes and refused callers, so that the user learns about the attempts.
    ///
    /// # Errors
    /// Those of [`wait_pairing`](Self::wait_pairing).
    pub async fn wait_pairing_or_attempt(&self, seen: usize) -> Result<Waited, Error> {
        self.0.pairing.wait(seen).await
    }

    /// Ends the given pairing session if it is still open, for example because its initiator has disconnected.
    pub fn cancel_pairing(&self, session: SessionId) {
        self.0.pairing.cancel(session);
    }

    /// Asks which daemon is at `target` and how it pairs; see [`join`](Self::join). Sends no secret.
    ///
    /// # Errors
    /// Those of [`join`](Self::join) that concern the target.
    pub async fn inspect(&self, target: &str) -> Result<Listener, Error> {
        self.0.pairing.inspect(target).await
    }

    /// Joins the daemon at `target`, which displays `code`, and then waits for the first exchange, at most
    /// [`limits::FIRST_EXCHANGE`]. A target is `host:port` or `host`. A host is an address, or the name of a tailnet
    /// node. Without a port, the only daemon that waits on the host is joined, or, if none waits, the one on the first
    /// of [`limits::PORTS`]; on loopback always the latter. The code itself is not sent.
    ///
    /// # Errors
    /// `Invalid` for a malformed code or target, or if several nodes have the name or several daemons wait on the host;
    /// `NotFound` for a target that does not exist. `Unavailable` if the target does not answer, the tailnet is not up
    /// (`TryAgain` while it starts), or this daemon cannot listen. `Refused` with the other side's message; if the
    /// other side does not prove that it knows the code, or would have to be sent the code; for ourselves and existing
    /// peers; and if the user's configuration forbids the kind of transport. Those of the disk.
    pub async fn join(&self, target: &str, code: &str) -> Result<Joined, Error> {
        self.join_by(target, code, false).await
    }

    /// Joins like [`join`](Self::join), but sends the code itself to a daemon that supports no other pairing, such as
    /// Go Thrum.
    ///
    /// # Errors
    /// Those of [`join`](Self::join).
    pub async fn join_even_plainly(&self, target: &str, code: &str) -> Result<Joined, Error> {
        self.join_by(target, code, true).await
    }

    async fn join_by(&self, target: &str, code: &str, plainly: bool) -> Result<Joined, Error> {
        let peer = self.0.pairing.join(target, code, plainly).await?;
        self.0.drive(peer.clone(), First::Dial);
        Ok(self.0.pairing.first_exchange(&peer).await)
    }

    /// Returns `true` if the target is a tailnet address: joining it shows that the user wants a tailnet. A name does
    /// not count, because it may be mistyped.
    ///
    /// # Errors
    /// `Invalid` for a malformed target, and for an address that is neither on this machine nor on a tailnet.
    pub fn wants_tailnet(target: &str) -> Result<bool, Error> {
        wants_tailnet(target)
    }

    /// Finds the daemons that wait to be joined: on the tailnet nodes that are online, at most
    /// [`limits::PROBED_NODES`], or on this machine if no tailnet is enabled. Takes at most [`limits::PROBE_ALL`],
    /// after at most [`limits::TAILNET_UP`] for a tailnet that is starting.
    ///
    /// # Errors
    /// The tailnet is not up or cannot be queried, or there is no transport.
    pub async fn waiting(&self) -> Result<WaitingDaemons, Error> {
        self.0.pairing.waiting().await
    }

    /// Pings a peer (by id or name) over a new connection, or over the one that the peer has lent, and reports how
    /// packets travel to the peer. Takes at most [`limits::PEER_PING`].
    ///
    /// # Errors
    /// `NotFound`; `TryAgain` with the reason if the peer does not answer; the log cannot be read.
    pub async fn ping(&self, id_or_name: &str) -> Result<Pinged, Error> {
        self.0.outbound.ping(id_or_name).await
    }

    /// Pulls now from one peer (id or name) or from all, regardless of backoff. Waits at most [`limits::FORCE`].
    ///
    /// # Errors
    /// `NotFound`. A peer that cannot be pulled has its own error in the result.
    pub async fn force(&self, from: Option<&str>) -> Result<Vec<Forced>, Error> {
        self.0.outbound.force(from).await
    }

    /// Compares events and projection with each peer until all agree, for at most `within`. If a peer still differs
    /// after normal sync, finds and fetches exactly the missing events.
    ///
    /// # Errors
    /// The log cannot be read, or cannot be rebuilt after the disk lost rows.
    pub async fn verify(&self, within: Duration) -> Result<Verified, Error> {
        self.0.reconcile.verify(within).await
    }

    /// Subscribes to the status of one peer. For tests and displays.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn watch(&self, id_or_name: &str) -> Result<watch::Receiver<ReplicatorStatus>, Error> {
        let id = self.0.env.auth().registry.find(id_or_name)?.daemon_id.clone();
        self.0.outbound.status(&id).ok_or_else(|| Error::new(ErrorKind::NotFound, format!("peer \"{id}\" not found")))
    }

    /// Returns the last call of a Go daemon of a later version, if it was recent.
    pub fn newer_go(&self) -> Option<NewerGo> {
        self.0.inbound.newer_go()
    }

    /// Ends all tasks, and waits for them, at most [`limits::DRAIN`]. Each driver tells its peer that this daemon is
    /// stopping. Acknowledged data is durable even if a task is cut off.
    pub async fn shutdown(&self) {
        tracing::info!("periodic_sync: stopping");
        self.0.env.stop.cancel();
        self.0.env.tasks.close();
        if timeout(limits::DRAIN, self.0.env.tasks.wait()).await.is_err() {
            tracing::warn!(seconds = limits::DRAIN.as_secs(), "peers are still busy");
        }
        let env = Arc::clone(&self.0.env);
        if let Err(error) = blocking(move || env.auth().registry.flush()).await {
            tracing::warn!(%error, "cannot store the peer registry");
        }
    }
}

impl Parts {
    fn new(
        env: Arc<Environment>,
        transports: Vec<Arc<dyn Transport>>,
        kept_here: Option<Error>,
        parts: &Weak<Self>,
    ) -> Self {
        let addresses = Arc::new(Addresses::new(Arc::clone(&env), transports, kept_here));
        let inbound =
            Arc::new(Inbound::new(Arc::clone(&env), Arc::clone(&addresses), Box::new(Dispatch(Weak::clone(parts)))));
        let outbound = Arc::new(Outbound::new(Arc::clone(&env), Arc::clone(&addresses), Arc::clone(&inbound)));
        let reconcile = Arc::new(Reconcile::new(Arc::clone(&env), Arc::clone(&outbound)));
        let pairing =
            PairingFlow::new(Arc::clone(&env), Arc::clone(&addresses), Arc::clone(&inbound), Arc::clone(&outbound));
        Self { env, addresses, inbound, outbound, reconcile, pairing }
    }

    /// Starts replication and periodic anti-entropy with a peer.
    fn drive(&self, peer: Peer, first: First) {
        let id = peer.daemon_id.clone();
        if let Some(status) = self.outbound.start(peer, first) {
            self.reconcile.start(&id, status);
        }
    }
}

/// Forwards events from inbound connections to the other parts.
struct Dispatch(Weak<Parts>);

impl Events for Dispatch {
    fn happened(&self, peer: &str, effect: Effect) {
        let Some(parts) = self.0.upgrade() else { return };
        let signals = || parts.outbound.signals(peer);
        match effect {
            Effect::Paired(peer) => parts.drive(*peer, First::WaitForCall),
            Effect::PairingMoved => parts.pairing.moved(),
            Effect::TokenMisused { peer, node } => parts.outbound.warn(peer, node),
            Effect::Differs => parts.reconcile.hint(peer),
            // The connection is handed over after the reply is written.
            Effect::Lent => {}
            Effect::Authenticated => {
                if let Some(signals) = signals() {
                    signals.called();
                }
            }
            Effect::Stopping => {
                if let Some(signals) = signals() {
                    signals.stopping();
                }
            }
            Effect::Lacks => {
                if let Some(signals) = signals() {
                    signals.lacks();
                }
            }
            Effect::Notified { latest, pushed } => {
                if let Some(signals) = signals() {
                    signals.notified(latest, pushed);
                }
            }
            Effect::Acknowledged { log, upto } => {
                if *log == *parts.env.log.id() {
                    parts.env.log.acknowledged(peer, upto, parts.env.clock.now().at);
                    if let Some(signals) = signals() {
                        signals.acknowledged(upto);
                    }
                }
            }
        }
    }

    fn moved(&self, peer: &str) {
        if let Some(signals) = self.0.upgrade().and_then(|parts| parts.outbound.signals(peer)) {
            signals.moved();
        }
    }

    fn lent(&self, peer: &str, halves: Halves) {
        if let Some(parts) = self.0.upgrade() {
            parts.outbound.borrow(peer, halves);
        }
    }

    fn port_changed(&self, kind: Kind) {
        if let Some(parts) = self.0.upgrade() {
            parts.outbound.tell_port(kind);
        }
    }
}
