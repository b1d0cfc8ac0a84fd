//! Dependencies shared by all parts of the peers: identity, log, clock and randomness, authentication state, and the
//! tracker of tasks.
//!
//! Holds no connection and makes no decision. The lock on the authentication state is held for memory access and its
//! small files, never while waiting for a peer.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use thrum_core::{Ambient, exchange::Commit};
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zeroize::Zeroizing;

use crate::{
    Log, Now,
    clock::Ambients,
    encrypted::Identity,
    protocol::{AuthState, Me, Prover},
    registry::Peer,
};

/// Shared by inbound and outbound connections, addresses, pairing and reconciliation.
pub(crate) struct Environment {
    pub(crate) me: Me,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) commits: watch::Receiver<Commit>,
    /// Interval between periodic pulls from each peer, independent of its announcements.
    pub(crate) sync_interval: Duration,
    pub(crate) ambients: Ambients,
    pub(crate) prover: Prover,
    /// This daemon in the handshakes that encrypt connections.
    pub(crate) identity: Identity,
    pub(crate) clock: Clock,
    auth: Mutex<AuthState>,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the daemon stops; ends all tasks.
    pub(crate) stop: CancellationToken,
}

impl Environment {
    pub(crate) fn new(
        auth: AuthState,
        log: Arc<dyn Log>,
        commits: watch::Receiver<Commit>,
        sync_interval: Duration,
        ambients: Ambients,
        prover: Prover,
        secret: Zeroizing<[u8; 32]>,
    ) -> Self {
        let Me { daemon_id, instance, .. } = auth.me.clone();
        let identity = Identity { daemon_id, instance, secret: Arc::new(secret), ambients: Arc::clone(&ambients) };
        Self {
            me: auth.me.clone(),
            log,
            commits,
            sync_interval,
            clock: Clock::new(&ambients),
            ambients,
            prover,
            identity,
            auth: Mutex::new(auth),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Locks the authentication state: the peers, and pairing.
    pub(crate) fn auth(&self) -> MutexGuard<'_, AuthState> {
        lock(&self.auth)
    }

    /// Returns the current entry of a peer; `None` once the peer is removed.
    pub(crate) fn peer(&self, daemon_id: &str) -> Option<Peer> {
        self.auth().registry.get(daemon_id).cloned()
    }

    /// Creates a source of time and randomness for one task.
    pub(crate) fn ambient(&self) -> Box<dyn Ambient> {
        (self.ambients)()
    }
}

/// Both clocks; the monotonic one counts from the start of the daemon.
pub(crate) struct Clock {
    start: Instant,
    ambient: Mutex<Box<dyn Ambient>>,
}

impl Clock {
    fn new(ambients: &Ambients) -> Self {
        Self { start: Instant::now(), ambient: Mutex::new(ambients()) }
    }

    pub(crate) fn now(&self) -> Now {
        Now { tick: self.start.elapsed(), at: lock(&self.ambient).now() }
    }

    /// Converts a monotonic `tick` into an `Instant`.
    pub(crate) fn instant(&self, tick: Duration) -> Instant {
        self.start + tick
    }
}

/// Locks a mutex even after a panic. The data stays usable, because most changes are made on a copy or are single
/// assignments.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
