//! One outgoing connection: dials, then sends what it is given and hands back what comes.

use std::sync::Arc;

use thrum_core::limits;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Token,
    conn::{self, NoLine},
    replicator::Input,
    transport::Transport,
    wire::Call,
};

/// Lines longer than this are decoded on the blocking pool.
const LARGE_LINE: usize = 64 << 10;

/// A connection to a peer, or the attempt. Dropping it closes both.
pub(super) struct Link {
    requests: mpsc::Sender<(u64, Call)>,
    events: mpsc::Receiver<Input>,
    _task: AbortOnDropHandle<()>,
}

/// What a link needs to know.
pub(super) struct Target {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) address: String,
    pub(super) own_id: String,
    pub(super) token: Token,
}

impl Link {
    pub(super) fn open(target: Target) -> Self {
        // One request is in flight at a time, and each brings one event after `Connected`.
        let (requests, asked) = mpsc::channel(1);
        let (tell, events) = mpsc::channel(2);
        let task = tokio::spawn(async move {
            let last = run(&target, asked, &tell).await;
            if let Some(last) = last {
                let _ = tell.send(last).await;
            }
        });
        Self { requests, events, _task: AbortOnDropHandle::new(task) }
    }

    pub(super) fn send(&self, id: u64, call: Call) {
        // Full or closed means that the link has just ended; its last event says so.
        let _ = self.requests.try_send((id, call));
    }

    /// The next thing that happens. May be cancelled.
    pub(super) async fn event(&mut self) -> Input {
        self.events.recv().await.unwrap_or_else(|| Input::Disconnected("the connection ended".into()))
    }
}

/// Returns the link's last event.
async fn run(target: &Target, mut asked: mpsc::Receiver<(u64, Call)>, tell: &mpsc::Sender<Input>) -> Option<Input> {
    let conn = match target.transport.dial(&target.address).await {
        Ok(conn) => conn,
        Err(fault) => return Some(Input::ConnectFailed(fault.message)),
    };
    let (mut lines, mut writer) = conn::halves(conn);
    tell.send(Input::Connected).await.ok()?;
    loop {
        let (id, call) = tokio::select! {
            request = asked.recv() => request?,
            gone = lines.unasked() => return Some(Input::Disconnected(gone.to_string())),
        };
        let request = zeroize::Zeroizing::new(call.line(id, &target.own_id, &target.token));
        if let Err(error) = conn::write_line(&mut writer, &request, limits::PEER_WRITE).await {
            return Some(Input::Disconnected(error.to_string()));
        }
        let line = match lines.next(limits::MAX_LINE_BYTES, limits::PULL, limits::PULL).await {
            Ok(line) => line,
            Err(NoLine::TooLong(_)) => return Some(Input::TooLong),
            Err(other) => return Some(Input::Disconnected(other.to_string())),
        };
        let reply = if line.len() > LARGE_LINE {
            match tokio::task::spawn_blocking(move || call.read(&line, id)).await {
                Ok(reply) => reply,
                Err(error) => return Some(Input::Disconnected(error.to_string())),
            }
        } else {
            call.read(&line, id)
        };
        tell.send(Input::Replied(reply)).await.ok()?;
    }
}
