//! Handles calls from later versions of the Go daemon: answers with an error that says what to do, and records them for
//! the status.

use std::{fmt, time::Duration};

use thrum_core::{Timestamp, limits};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::Inbound;
use crate::{
    conn::Lines,
    environment::lock,
    legacy::newer::{self, Handshake},
    protocol::wire::NEWER_GO,
    transport::Caller,
};

/// The last call of a Go daemon of version 0.7 or later, which cannot exchange mail with this daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewerGo {
    /// The caller's address.
    whence: String,
    /// Time of the call.
    at: Timestamp,
    /// Number of such calls, up to this one, with pauses of at most [`limits::NEWER_GO_SHOWN`] between them.
    times: u64,
}

impl NewerGo {
    fn is_old(&self, now: Timestamp) -> bool {
        now.since(self.at) > limits::NEWER_GO_SHOWN
    }
}

impl fmt::Display for NewerGo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = if self.times > 1 { format!(" ({} times)", self.times) } else { String::new() };
        write!(
            f,
            "Go Thrum v0.7 or later called from {} at {}{times}: it cannot exchange mail with this daemon. {NEWER_GO}",
            self.whence,
            self.at.to_the_second()
        )
    }
}

impl Inbound {
    /// Returns the last call of a later Go daemon, if it was recent.
    pub(crate) fn newer_go(&self) -> Option<NewerGo> {
        let now = self.env.clock.now().at;
        lock(&self.newer_go).clone().filter(|newer| !newer.is_old(now))
    }

    /// Reads the rest of an HTTP request. If it comes from a later Go daemon, answers the daemon's first call with
    /// advice, and returns `true`.
    pub(super) async fn turn_newer_go_away<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &self,
        request: &[u8],
        lines: &mut Lines<R>,
        writer: &mut W,
        within: Duration,
    ) -> bool {
        if !Handshake::may_follow(request) {
            return false;
        }
        let answer = async {
            let mut handshake = Handshake::default();
            for _ in 0..newer::MAX_HEADERS {
                let line = lines.next(newer::MAX_HEADER_BYTES, within, within).await.ok()?;
                if line.trim_ascii_end().is_empty() {
                    break;
                }
                handshake.header(&line);
            }
            let accepted = handshake.accept()?;
            Some((accepted, lines))
        };
        let Ok(Some((accepted, lines))) = timeout(within, answer).await else { return false };
        // The daemon is recognized, whether or not it reads the answer.
        let _ = timeout(within, async {
            writer.write_all(accepted.as_bytes()).await.ok()?;
            let mut head = [0; 2];
            lines.exactly(&mut head, within).await.ok()?;
            let mut length = [0, head[1] & 0x7f];
            if newer::length_follows(head)? == 2 {
                lines.exactly(&mut length, within).await.ok()?;
            }
            let mut masked = zeroize::Zeroizing::new(vec![0; 4 + usize::from(u16::from_be_bytes(length))]);
            lines.exactly(&mut masked, within).await.ok()?;
            writer.write_all(&newer::answer(&masked)).await.ok()?;
            writer.flush().await.ok()
        })
        .await;
        true
    }

    /// Records a call of a later Go daemon for the status. Logs it, unless the previous call was recent.
    pub(super) fn note_newer_go(&self, caller: &Caller) {
        let whence =
            caller.node.as_ref().map_or_else(|| caller.address.clone(), |node| format!("{node} ({})", caller.address));
        let at = self.env.clock.now().at;
        let mut newer = lock(&self.newer_go);
        let is_news = newer.as_ref().is_none_or(|earlier| earlier.is_old(at));
        let times = newer.as_ref().filter(|_| !is_news).map_or(0, |earlier| earlier.times) + 1;
        *newer = Some(NewerGo { whence, at, times });
        if is_news && let Some(newer) = &*newer {
            tracing::warn!("{newer}");
        }
    }
}
