//! The state of the daemon.

use serde::Deserialize;
use thrum_core::Timestamp;

use crate::text::quote;

/// The answer to `health`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Health {
    pub(crate) uptime_ms: u64,
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) daemon_id: String,
    pub(crate) events: u64,
    pub(crate) messages: u64,
    pub(crate) agents: u64,
    pub(crate) parked: u64,
    pub(crate) rejected: u64,
    pub(crate) tailscale_sync: TailscaleSync,
    pub(crate) tailnet: Tailnet,
    pub(crate) purges: Option<Purges>,
    pub(crate) storing: Vec<Storing>,
    pub(crate) forgetting: Vec<Forgetting>,
    pub(crate) not_listening: Option<NotListening>,
    pub(crate) warnings: Vec<String>,
}

/// A long-running job of the writer: a batch of a peer or of an import, or work left by earlier events.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Storing {
    pub(crate) daemon_id: Option<String>,
    pub(crate) peer: Option<String>,
    pub(crate) for_ms: u64,
    pub(crate) done: u64,
    pub(crate) events: u64,
}

impl std::fmt::Display for Storing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.for_ms / 1000;
        match self.peer.as_ref().or(self.daemon_id.as_ref()) {
            Some(peer) => {
                let peer = quote(peer);
                write!(f, "a batch of {peer} for {since}s, {} of {} events done", self.done, self.events)
            }
            None if self.events > 0 => {
                write!(f, "an import for {since}s, {} of {} events done", self.done, self.events)
            }
            None => write!(f, "work that earlier events left, for {since}s"),
        }
    }
}

/// Progress of dropping the events of a removed peer, in rows of the log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Forgetting {
    pub(crate) daemon_id: String,
    pub(crate) done: u64,
    pub(crate) rows: u64,
}

impl std::fmt::Display for Forgetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the events of {}, {} of {} rows of the log examined", quote(&self.daemon_id), self.done, self.rows)
    }
}

/// Why peers cannot dial this daemon.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NotListening {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// The purge cutoff, and the last purges.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Purges {
    pub(crate) before: Option<Timestamp>,
    pub(crate) last: Vec<SaidPurge>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SaidPurge {
    pub(crate) by: String,
    pub(crate) by_name: Option<String>,
    pub(crate) signed: Option<bool>,
    pub(crate) via: Option<String>,
    pub(crate) at: Option<Timestamp>,
    pub(crate) before: Option<Timestamp>,
    pub(crate) named: u64,
    pub(crate) waiting: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TailscaleSync {
    pub(crate) enabled: bool,
    pub(crate) hostname: String,
}

/// The state of the tailnet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Tailnet {
    pub(crate) enabled: bool,
    pub(crate) mode: Option<String>,
    pub(crate) why: String,
    pub(crate) state: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) message: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) login_url: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) warnings: Vec<String>,
    pub(crate) refused_callers: u64,
}
