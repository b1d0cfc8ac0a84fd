//! The connection of a replicator: a task that dials, sends requests and returns the results.

use std::sync::Arc;

use thrum_core::limits;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{Outbound, channel::Question, connection::Connection};
use crate::{error::PeerError, protocol::wire::Call, registry::Peer, replicator::Input};

/// Lower bound for the ids of other requests than the replicator's. The replicator numbers its requests from 1.
const OTHERS: u64 = 1 << 48;

/// The id of the last request, `sync.goodbye`.
const GOODBYE: u64 = OTHERS;

/// A connection to a peer, or the attempt to open one. Dropping the link ends either.
pub(super) struct Link {
    requests: mpsc::Sender<(u64, Call)>,
    events: mpsc::Receiver<Input>,
    _task: AbortOnDropHandle<()>,
}

impl Link {
    pub(super) fn open(outbound: Arc<Outbound>, peer: Peer) -> Self {
        // One request is in flight at a time, and causes one event. `Connected` may still be queued before it.
        let (requests, asked) = mpsc::channel(1);
        let (tell, events) = mpsc::channel(2);
        let task = tokio::spawn(async move {
            let last = run(&outbound, &peer, asked, &tell).await;
            if let Some(last) = last {
                let _ = tell.send(last).await;
            }
        });
        Self { requests, events, _task: AbortOnDropHandle::new(task) }
    }

    pub(super) fn send(&self, id: u64, call: Call) {
        // If the channel is full or closed, the link has just ended; its last event reports that.
        let _ = self.requests.try_send((id, call));
    }

    /// Tells the peer that this daemon is stopping, once the request in flight is answered. Returns when the peer has
    /// answered or the connection has ended.
    pub(super) async fn say_goodbye(self) {
        let Self { requests, mut events, _task } = self;
        if requests.send((GOODBYE, Call::Goodbye)).await.is_ok() {
            // The task ends after this request, because no other can follow.
            drop(requests);
            while events.recv().await.is_some() {}
        }
    }

    /// Waits for the next event. Cancel-safe.
    pub(super) async fn event(&mut self) -> Input {
        self.events.recv().await.unwrap_or(Input::Disconnected(PeerError::Closed))
    }
}

/// Runs the connection. Returns its last event; `None` if the link was dropped.
async fn run(
    outbound: &Arc<Outbound>,
    peer: &Peer,
    mut asked: mpsc::Receiver<(u64, Call)>,
    tell: &mpsc::Sender<Input>,
) -> Option<Input> {
    let lent = outbound.loans.take(&peer.daemon_id);
    let is_lent = lent.is_some();
    let mut connection = match Connection::open_over(outbound, peer, lent).await {
        Ok(connection) => connection,
        Err(error) => return Some(Input::ConnectFailed(error)),
    };
    tell.send(Input::Connected).await.ok()?;
    // Hold a sender here, so that the channel stays open when no one else holds one.
    let (share, mut questions) = mpsc::channel::<Question>(1);
    if is_lent {
        outbound.loans.share(&peer.daemon_id, share.clone());
    }
    let dialled = async { if is_lent { dial_again(outbound, peer).await } else { std::future::pending().await } };
    tokio::pin!(dialled);
    let mut is_lent = is_lent;
    let mut others = OTHERS;
    loop {
        let (id, call) = tokio::select! {
            request = asked.recv() => request?,
            anew = &mut dialled, if is_lent => {
                (connection, is_lent) = (anew, false);
                outbound.loans.give_back(&peer.daemon_id);
                tracing::info!(peer = %peer.name, "the peer can be dialled again");
                continue;
            }
            Some(Question { call, answer }) = questions.recv() => {
                others += 1;
                let reply = connection.ask(others, call).await;
                let is_lost = reply.is_err();
                // The requester may be gone.
                let _ = answer.send(reply);
                if is_lost {
                    return Some(Input::Disconnected(PeerError::LoanEnded));
                }
                continue;
            }
            end = connection.unsolicited() => return Some(Input::Disconnected(PeerError::Lost(end))),
        };
        let reply = match connection.ask(id, call).await {
            Ok(reply) => reply,
            Err(PeerError::TooLong) => return Some(Input::TooLong),
            Err(error) => return Some(Input::Disconnected(error)),
        };
        tell.send(Input::Replied(reply)).await.ok()?;
    }
}

/// Dials a peer that has lent us a connection, again and again, until a dial succeeds.
async fn dial_again(outbound: &Arc<Outbound>, peer: &Peer) -> Connection {
    let mut pause = limits::BACKOFF_FIRST;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(limits::BACKOFF_LAST);
        // The peer's listening address may have changed.
        if let Some(peer) = outbound.env.peer(&peer.daemon_id)
            && let Ok(connection) = Connection::open(outbound, &peer).await
        {
            return connection;
        }
    }
}
