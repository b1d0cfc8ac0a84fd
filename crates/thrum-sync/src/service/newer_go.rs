//! Go daemons of later versions that call here: they are told what to do, and remembered for the status.

use std::{fmt, time::Duration};

use thrum_core::{Stamp, limits};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{Inner, Peers, lock};
use crate::{
    conn::Lines,
    legacy::newer::{self, Handshake},
    transport::Caller,
    wire::NEWER_GO,
};

/// The last call of a Go daemon of version 0.7 or later, which cannot exchange mail with this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewerGo {
    /// From where it called.
    whence: String,
    /// When.
    at: Stamp,
    /// How many times such daemons have called without a pause of [`limits::NEWER_GO_SHOWN`].
    times: u64,
}

impl NewerGo {
    fn is_old(&self, now: Stamp) -> bool {
        now.since(self.at) > limits::NEWER_GO_SHOWN
    }
}

impl fmt::Display for NewerGo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = if self.times > 1 { format!(" ({} times)", self.times) } else { String::new() };
        write!(
            f,
            "Go Thrum v0.7 or later called from {} at {}{times}: it cannot exchange mail with this daemon. {NEWER_GO}",
            self.whence, self.at
        )
    }
}

impl Peers {
    /// The Go daemon of a later version that called last, if that was lately.
    pub fn newer_go(&self) -> Option<NewerGo> {
        let now = self.0.clock.now().at;
        lock(&self.0.newer_go).clone().filter(|newer| !newer.is_old(now))
    }
}

impl Inner {
    /// Reads the rest of a request of HTTP. If it is a later Go daemon's, its first call is answered with what to do.
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
        // It is recognised; whether it hears the answer is its own affair.
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

    /// Remembers that a later Go daemon called, for the status and the log.
    pub(super) fn note_newer_go(&self, caller: Option<&Caller>) {
        let Some(caller) = caller else { return };
        let whence = caller.node.as_ref().map_or_else(|| caller.address.clone(), |node| format!("{node} ({})", caller.address));
        let at = self.clock.now().at;
        let mut newer = lock(&self.newer_go);
        let is_news = newer.as_ref().is_none_or(|earlier| earlier.is_old(at));
        let times = newer.as_ref().filter(|_| !is_news).map_or(0, |earlier| earlier.times) + 1;
        *newer = Some(NewerGo { whence, at, times });
        if is_news && let Some(newer) = &*newer {
            tracing::warn!("{newer}");
        }
    }
}
