//! The shell around the state machines: sockets, tasks, and the calls that the daemon makes.
//!
//! Every task belongs to one tracker and ends with [`Peers::shutdown`]. Locks are held for memory and for the desk's small
//! files, never while waiting for a peer; whatever touches a disk runs on the blocking pool.

mod answers;
mod driver;
mod exchange;
mod fetch;
mod heal;
mod join;
mod lacks;
mod link;
mod listener;
mod newer_go;
mod notes;
mod pair;
mod path;
mod ping;
mod place;
mod probe;
mod reach;
mod repair;
mod report;
mod takeover;
mod visitors;
mod ways;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use thrum_core::{Ambient, ErrorKind, Fault, exchange::Commit, limits};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use answers::{
    Compared, Forced, Found, Joined, Lack, Listener, Missing, PairingStarted, PeerStatus, Pinged, Repaired, Route, Verdict, Verified,
    Waited, Waiting,
};

use crate::{
    Log, Now,
    clock::go_duration,
    legacy::serving::Askers,
    pairing::Pairing,
    registry::{Peer, Registry},
    replicator::recent_within,
    server::{Desk, Me},
    transport::{Condition, Kind, Transport},
};
use driver::{Driver, First};
use listener::Listening;
pub use takeover::{Replaced, TakenOver};
use visitors::Visitors;
use ways::Ways;

/// Makes a source of time and randomness for each task that needs one.
pub type Ambients = Arc<dyn Fn() -> Box<dyn Ambient> + Send + Sync>;

/// Answers a challenge with our daemon's key: [`DaemonKey::prove`](thrum_core::DaemonKey::prove). The key itself stays where it is.
pub use crate::server::Prover;

/// What the peers of a daemon need to know about it.
#[derive(Clone)]
pub struct PeersConfig {
    /// Where `peers.json` and `pairing.json` are.
    pub var_dir: PathBuf,
    /// Our id.
    pub daemon_id: String,
    /// What other machines call us.
    pub name: String,
    /// Our program's version.
    pub version: String,
    /// How often each peer is asked, whatever it announces: [`limits::ROUND`] unless the user says otherwise.
    pub round: Duration,
    /// Speak to peers on this machine only, whatever transports there are.
    pub local_only: bool,
    /// At most one of each kind.
    pub transports: Vec<Arc<dyn Transport>>,
    /// Clock and randomness.
    pub ambients: Ambients,
    /// Proves to peers who we are, when our node is another one than when we were paired.
    pub prover: Prover,
}

/// The peers of a daemon. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    me: Me,
    log: Arc<dyn Log>,
    commits: watch::Receiver<Commit>,
    transports: Vec<Arc<dyn Transport>>,
    round: Duration,
    local_only: bool,
    ambients: Ambients,
    prover: Prover,
    clock: Clock,
    desk: Mutex<Desk>,
    drivers: Mutex<BTreeMap<String, Driver>>,
    /// Held while a listener is opened, so that it is opened once.
    listeners: tokio::sync::Mutex<Vec<Listening>>,
    /// A listener ended by itself.
    listener_ended: Notify,
    visitors: Visitors,
    ways: Ways,
    /// Old peers that read us.
    askers: Mutex<Askers>,
    /// The last call of a Go daemon that is too new.
    newer_go: Mutex<Option<newer_go::NewerGo>>,
    pairing_moved: Notify,
    /// Peers from which something was looked for and fetched that was missing.
    turns: Mutex<BTreeMap<String, Arc<repair::Turn>>>,
    tickets: std::sync::atomic::AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Peers {
    /// Reads who the peers are, starts to listen where we did before, and begins to replicate with each. A tailnet is
    /// listened on as soon as it is up, and again whenever it has come up; nothing here waits for it.
    ///
    /// # Errors
    /// `peers.json` or `pairing.json` cannot be used. A listener that cannot be opened is no error here: it is tried again
    /// every [`limits::ROUND`] and shown by [`listen_error`](Self::listen_error).
    pub async fn start(config: PeersConfig, log: Arc<dyn Log>, commits: watch::Receiver<Commit>) -> Result<Self, Fault> {
        let PeersConfig { var_dir, daemon_id, name, version, round, local_only, transports, ambients, prover } = config;
        let me = Me { daemon_id, name, version };
        let desk = {
            let me = me.clone();
            blocking(move || {
                let registry = Registry::open(var_dir.join("peers.json"), &me.daemon_id)?;
                let pairing = Pairing::open(var_dir.join("pairing.json"))?;
                Ok(Desk { me, registry, pairing })
            })
            .await?
        };
        let peers: Vec<Peer> = desk.registry.peers().to_vec();
        let listens = desk.registry.port(Kind::Local).is_some();
        let inner = Arc::new(Inner {
            me,
            log,
            commits,
            transports,
            round,
            local_only,
            clock: Clock::new(&ambients),
            ambients,
            prover,
            desk: Mutex::new(desk),
            drivers: Mutex::default(),
            listeners: tokio::sync::Mutex::default(),
            listener_ended: Notify::new(),
            visitors: Visitors::default(),
            ways: Ways::default(),
            askers: Mutex::default(),
            newer_go: Mutex::default(),
            pairing_moved: Notify::new(),
            turns: Mutex::default(),
            tickets: std::sync::atomic::AtomicU64::new(0),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        tracing::info!(
            "periodic_sync: starting with interval={}, recent_threshold={}",
            go_duration(round),
            go_duration(recent_within(round))
        );
        if listens && let Err(fault) = inner.listen(Kind::Local).await {
            tracing::error!("{fault}");
            inner.keep_trying_to_listen(Kind::Local);
        }
        if let Some(tailnet) = inner.transport(Kind::Tailnet) {
            inner.tasks.spawn(Arc::clone(&inner).attend(tailnet));
        }
        for peer in peers {
            inner.drive(peer, First::Dial);
        }
        Ok(Self(inner))
    }

    /// The paired daemons, in the order of pairing.
    pub fn list(&self) -> Vec<Peer> {
        self.0.desk().registry.peers().to_vec()
    }

    /// Where peers on this kind of transport reach us; `None` while nothing listens.
    pub async fn address(&self, kind: Kind) -> Option<String> {
        self.0.listeners.lock().await.iter().find(|one| one.kind == kind && one.is_open()).and_then(|one| one.address.clone().ok())
    }

    /// Whether and how a transport can be used, if there is one of this kind and the user lets us use it.
    pub fn condition(&self, kind: Kind) -> Option<Condition> {
        self.0.transport(kind).map(|transport| transport.condition().borrow().clone())
    }

    /// Why nothing listens although peers expect us, if that is so. It is tried again every [`limits::ROUND`].
    pub async fn listen_error(&self) -> Option<Fault> {
        self.0.listeners.lock().await.iter().find_map(|one| one.address.clone().err())
    }

    /// Gives a peer, by id or name, a name of a person's choice; returns what it was called.
    ///
    /// # Errors
    /// `NotFound`; those of [`Registry::rename`](crate::registry::Registry::rename).
    pub async fn rename(&self, id_or_name: &str, name: &str) -> Result<Peer, Fault> {
        let inner = Arc::clone(&self.0);
        let (wanted, name) = (id_or_name.to_owned(), name.to_owned());
        blocking(move || {
            let mut desk = inner.desk();
            let before = desk.registry.find(&wanted)?.clone();
            desk.registry.rename(&before.daemon_id, &name)?;
            tracing::info!("[pairing] {} is called {name} now", before.name);
            Ok(before)
        })
        .await
    }

    /// Removes a peer by id or name: its token is dead, its connections are closed in both directions, its checkpoints are
    /// forgotten when this returns.
    ///
    /// # Errors
    /// `NotFound`; the disk, in which case the peer stays.
    pub async fn remove(&self, id_or_name: &str) -> Result<Peer, Fault> {
        let inner = Arc::clone(&self.0);
        let wanted = id_or_name.to_owned();
        let peer = blocking(move || {
            let mut desk = inner.desk();
            let id = desk.registry.find(&wanted)?.daemon_id.clone();
            desk.registry.remove(&id)?.ok_or_else(|| Fault::new(ErrorKind::NotFound, format!("peer \"{id}\" not found")))
        })
        .await?;
        let driver = lock(&self.0.drivers).remove(&peer.daemon_id);
        self.0.visitors.close(&peer.daemon_id);
        self.0.ways.forget(&peer.daemon_id);
        lock(&self.0.askers).forget(&peer.daemon_id);
        if let Some(driver) = driver {
            driver.end().await;
        }
        let (log, id) = (Arc::clone(&self.0.log), peer.daemon_id.clone());
        let turn = lock(&self.0.turns).remove(&peer.daemon_id);
        blocking(move || {
            // A repair looks whether it is a peer before it stores something; what is being stored was looked at before.
            if let Some(turn) = turn {
                turn.settle();
            }
            log.forget(&id)
        })
        .await?;
        tracing::info!("[pairing] Removed {} ({})", peer.name, thrum_core::name::printable(&peer.daemon_id));
        Ok(peer)
    }

    /// Ends every task; at most [`limits::DRAIN`] long. What was acknowledged is durable whatever is cut off.
    pub async fn shutdown(&self) {
        tracing::info!("periodic_sync: stopping");
        self.0.stop.cancel();
        self.0.tasks.close();
        if timeout(limits::DRAIN, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("peers were still busy after {}", go_duration(limits::DRAIN));
        }
        let inner = Arc::clone(&self.0);
        if let Err(fault) = blocking(move || inner.desk().registry.flush()).await {
            tracing::warn!("{fault}");
        }
    }
}

impl Inner {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    /// The transport of this kind, unless the user keeps the daemon from using it.
    fn transport(&self, kind: Kind) -> Option<Arc<dyn Transport>> {
        self.transports.iter().find(|transport| transport.kind() == kind && !self.keeps_from(kind)).cloned()
    }

    /// Whether the user keeps the daemon from speaking to peers of this kind: they are on other machines.
    fn keeps_from(&self, kind: Kind) -> bool {
        self.local_only && kind != Kind::Local
    }

    /// # Errors
    /// `Refused` if there is a transport of this kind and the user keeps the daemon from using it.
    fn may_use(&self, kind: Kind) -> Result<(), Fault> {
        if self.keeps_from(kind) && self.transports.iter().any(|transport| transport.kind() == kind) {
            return Err(Fault::new(ErrorKind::Refused, "daemon.local_only keeps this daemon from other machines")
                .hint("thrum config set daemon.local_only false, then thrum daemon restart"));
        }
        Ok(())
    }

    fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
    }

    /// Starts the driver of a peer, in place of an earlier one of the same id. A peer that was removed meanwhile gets none:
    /// removal takes the entry first and the driver second, so that one of the two is seen here.
    fn drive(self: &Arc<Self>, peer: Peer, first: First) {
        let mut drivers = lock(&self.drivers);
        if self.desk().registry.get(&peer.daemon_id).is_none() {
            return;
        }
        let id = peer.daemon_id.clone();
        if let Some(earlier) = drivers.insert(id, Driver::start(self, peer, first)) {
            earlier.abandon();
        }
    }
}

/// Both clocks, counted from the start.
struct Clock {
    start: Instant,
    ambient: Mutex<Box<dyn Ambient>>,
}

impl Clock {
    fn new(ambients: &Ambients) -> Self {
        Self { start: Instant::now(), ambient: Mutex::new(ambients()) }
    }

    fn now(&self) -> Now {
        Now { tick: self.start.elapsed(), at: lock(&self.ambient).now() }
    }

    fn instant(&self, tick: Duration) -> Instant {
        self.start + tick
    }
}

/// What a panic left behind is still whole: every change is made on a copy or is a single assignment.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what may wait for a disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Fault::new(ErrorKind::Failed, format!("an internal task failed: {error}"))),
    }
}
