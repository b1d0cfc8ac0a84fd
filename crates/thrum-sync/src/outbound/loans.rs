//! Lent and borrowed connections: one side opens them, and the other side, which cannot dial, sends its requests over
//! them.
//!
//! **Borrowed**: a peer that we cannot dial opens a connection and sends `sync.lend` on it. From then on we send
//! requests and the peer answers. The connection stays encrypted with the keys of the peer's handshake, and both sides
//! prove their keys again for the exchanged roles (`sync.hello`). Other requests (a ping, a comparison) use this
//! connection, too. Meanwhile we dial the peer again and again, and switch to the first connection that succeeds: often
//! the peer was only starting.
//!
//! **Lent**: a peer that cannot dial us marks its replies with `unreached`. We open a connection, hand it over, and
//! serve the peer's requests on it as on any inbound connection.
//!
//! Both are only for daemons with keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use thrum_core::limits;
use tokio::{sync::mpsc, time::sleep};

use super::{Outbound, channel::Question, connection::Connection};
use crate::{conn::Halves, environment::lock, error::PeerError, registry::Peer, transport::Caller};

/// Minimum wait after a lent connection has ended before another is lent to the same peer.
const LEND_AGAIN: Duration = limits::BACKOFF_FIRST;

/// The borrowed and lent connections.
#[derive(Default)]
pub(super) struct Loans(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// Connections lent to us that are not used yet: at most one per peer.
    waiting: BTreeMap<String, Halves>,
    /// Peers to which we send requests over a borrowed connection.
    borrowed: BTreeSet<String>,
    /// By peer: the sender for other requests over its borrowed connection.
    shared: BTreeMap<String, mpsc::Sender<Question>>,
    /// Peers to which we lend a connection, and whether they have accepted it yet.
    lent: BTreeMap<String, bool>,
}

impl Loans {
    /// Stores a connection that a peer has lent to us, for later use. Replaces an earlier one.
    pub(super) fn keep(&self, peer: &str, halves: Halves) {
        lock(&self.0).waiting.insert(peer.to_owned(), halves);
    }

    /// Closes a lent connection that is not used yet, because the peer was dialled meanwhile.
    pub(super) fn drop_waiting(&self, peer: &str) {
        lock(&self.0).waiting.remove(peer);
    }

    /// Returns `true` if a peer has lent us a connection that is not used yet.
    pub(super) fn is_waiting(&self, peer: &str) -> bool {
        lock(&self.0).waiting.contains_key(peer)
    }

    /// Takes the connection that a peer has lent to us and that is not used yet. Returns `None` if there is none, and
    /// the peer must be dialled.
    pub(super) fn take(&self, peer: &str) -> Option<Halves> {
        let mut table = lock(&self.0);
        let taken = table.waiting.remove(peer);
        if taken.is_some() {
            table.borrowed.insert(peer.to_owned());
        } else {
            table.borrowed.remove(peer);
        }
        taken
    }

    /// Records that a connection that we dialled has replaced the borrowed one.
    pub(super) fn give_back(&self, peer: &str) {
        let mut table = lock(&self.0);
        table.borrowed.remove(peer);
        table.shared.remove(peer);
    }

    /// Makes a borrowed connection available for other requests, as long as the receiver lives.
    pub(super) fn share(&self, peer: &str, questions: mpsc::Sender<Question>) {
        lock(&self.0).shared.insert(peer.to_owned(), questions);
    }

    /// Returns the sender for other requests over a borrowed connection, while that is in use.
    pub(super) fn shared(&self, peer: &str) -> Option<mpsc::Sender<Question>> {
        lock(&self.0).shared.get(peer).filter(|questions| !questions.is_closed()).cloned()
    }

    /// Returns `true` if our requests to this peer use a borrowed connection.
    pub(super) fn borrows_from(&self, peer: &str) -> bool {
        lock(&self.0).borrowed.contains(peer)
    }

    /// Returns `true` if the peer, which cannot dial us, sends requests over a connection that we lent to it.
    pub(super) fn lends_to(&self, peer: &str) -> bool {
        lock(&self.0).lent.get(peer).is_some_and(|has_it| *has_it)
    }

    /// Forgets the connections that a removed peer has lent to us.
    pub(super) fn forget(&self, peer: &str) {
        let mut table = lock(&self.0);
        table.waiting.remove(peer);
        table.borrowed.remove(peer);
        table.shared.remove(peer);
    }

    /// Starts lending a connection to a peer. Returns `false` if that is already in progress.
    fn begin(&self, peer: &str) -> bool {
        let mut table = lock(&self.0);
        let is_new = !table.lent.contains_key(peer);
        if is_new {
            table.lent.insert(peer.to_owned(), false);
        }
        is_new
    }

    fn handed_over(&self, peer: &str) {
        lock(&self.0).lent.insert(peer.to_owned(), true);
    }

    fn end(&self, peer: &str) {
        lock(&self.0).lent.remove(peer);
    }
}

impl Outbound {
    /// Accepts a connection that a peer lends to us. Closes it if the peer could be dialled meanwhile.
    pub(crate) fn borrow(&self, peer: &str, halves: Halves) {
        self.loans.keep(peer, halves);
        // Checked after storing it: the driver first records that it reached the peer, and then drops the stored
        // connection.
        if !self.addresses.reachability.is_unreached(peer) {
            self.loans.drop_waiting(peer);
        }
        if let Some(signals) = self.signals(peer) {
            signals.reachable();
        }
    }

    /// Opens a connection for a peer that cannot dial us, and serves its requests on it. Does nothing while one is
    /// open.
    pub(super) fn lend(self: &Arc<Self>, peer: &Peer) {
        if !peer.has_key() || !self.loans.begin(&peer.daemon_id) {
            return;
        }
        let (outbound, peer) = (Arc::clone(self), peer.clone());
        self.env.tasks.spawn(async move {
            let stop = &outbound.env.stop;
            tokio::select! {
                () = stop.cancelled() => {}
                lent = outbound.serve_lent(&peer) => if let Err(error) = lent {
                    tracing::debug!(peer = %peer.name, %error, "cannot lend a connection");
                }
            }
            // Wait even if the peer asks for another one at once.
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(LEND_AGAIN) => {}
            }
            outbound.loans.end(&peer.daemon_id);
        });
    }

    async fn serve_lent(self: &Arc<Self>, peer: &Peer) -> Result<(), PeerError> {
        let (halves, address, node) = Connection::open(self, peer).await?.lend().await?;
        let peer = self.env.peer(&peer.daemon_id).ok_or(PeerError::NoPeer)?;
        let kind = peer.kind().ok_or(PeerError::NoNetwork)?;
        // The connection leads to this node and no other.
        let caller = Caller { address, kind, node };
        let handed_over = || {
            tracing::info!(peer = %peer.name, "the peer cannot dial this daemon: it uses a connection that was opened from here");
            self.loans.handed_over(&peer.daemon_id);
        };
        let why = self.inbound.serve_lent(halves, caller, handed_over).await.ok_or(PeerError::TooManyConnections)?;
        tracing::debug!(peer = %peer.name, reason = %why, "a lent connection ended");
        Ok(())
    }
}
