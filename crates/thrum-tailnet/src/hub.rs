//! The state shared by all parts of the transport: the settings, the published status, and the node while it is
//! running.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use thrum_core::{Timestamp, limits, name::printable};
use thrum_sync::{backoff::Backoff, transport::Condition};
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, Mode, State, Status,
    localapi::{LocalApi, NodeStatus, first_label},
    state::Verdict,
};

/// The backoff between attempts with a `tailscaled` that failed.
pub(crate) const fn patience() -> Backoff {
    Backoff::new(limits::TAILNET_RETRY_FIRST, limits::TAILNET_RETRY_LAST)
}

/// A running node. When this value changes, every listener must be reopened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Up {
    pub(crate) api: LocalApi,
    /// The node's addresses: at least one, IPv4 first.
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether the addresses belong to a kernel device, so that they can be bound and dialled like any other.
    pub(crate) tun: bool,
}

impl Up {
    /// The address at which peers reach this node.
    pub(crate) fn address(&self) -> IpAddr {
        self.addresses.first().copied().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
    }
}

pub(crate) struct Hub {
    pub(crate) config: Config,
    pub(crate) enabled: AtomicBool,
    pub(crate) started: AtomicBool,
    pub(crate) running: AtomicBool,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) condition: watch::Sender<Condition>,
    pub(crate) up: watch::Sender<Option<Arc<Up>>>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// A `tailscaled` that may forward connections to loopback, because it has no kernel device or has not been asked
    /// yet.
    hands_on: Mutex<Option<LocalApi>>,
    last_refusal_logged: Mutex<Option<Instant>>,
}

impl Hub {
    pub(crate) fn new(config: Config) -> Self {
        let now = (config.ambients)().now();
        Self {
            enabled: AtomicBool::new(config.enabled),
            started: AtomicBool::new(false),
            running: AtomicBool::new(false),
            status: watch::Sender::new(Status::unknown(config.enabled, now)),
            condition: watch::Sender::new(if config.enabled { starting() } else { Condition::Off }),
            up: watch::Sender::new(None),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            hands_on: Mutex::new(None),
            last_refusal_logged: Mutex::new(None),
            config,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.config.ambients)().now()
    }

    /// Waits for the duration of the backoff. Returns `false` if the transport is stopped meanwhile.
    pub(crate) async fn pause(&self, backoff: &mut Backoff) -> bool {
        let pause = backoff.next(&mut *(self.config.ambients)());
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    pub(crate) fn enable(&self) {
        if !self.enabled.swap(true, Ordering::SeqCst) {
            self.condition.send_replace(starting());
            self.status.send_modify(|status| *status = Status::unknown(true, status.since));
        }
    }

    /// Records and logs which node is used, and why.
    pub(crate) fn chose(&self, mode: Mode, why: &str) {
        tracing::info!(
            reason = why,
            "tailnet: using {}",
            if mode == Mode::Own { "a node of our own" } else { "this machine's node" }
        );
        self.status.send_modify(|status| {
            status.mode = Some(mode);
            why.clone_into(&mut status.why);
        });
    }

    /// Publishes the current state. Listeners learn of the node before the state is reported as running.
    pub(crate) fn publish(&self, verdict: &Verdict, node: Option<(&NodeStatus, Option<String>)>, up: Option<Up>) {
        let renewed = self.up.send_if_modified(|now| {
            let changed = now.as_deref() != up.as_ref();
            if changed {
                *now = up.map(Arc::new);
            }
            changed
        });
        let at = self.now();
        self.status.send_if_modified(|status| {
            let mut next = status.clone();
            next.state = verdict.state;
            next.sentence.clone_from(&verdict.sentence);
            next.hint.clone_from(&verdict.hint);
            next.login_url.clone_from(&verdict.login_url);
            next.warnings.clear();
            match node {
                Some((node, user)) => describe(&mut next, node, user),
                // The name stays known, but the addresses are removed: the node cannot be reached there now.
                None => next.addresses.clear(),
            }
            if next == *status {
                return false;
            }
            if next.state != status.state {
                next.since = at;
            }
            let moved = next.state == State::Running && next.addresses != status.addresses;
            if next.state != status.state
                || next.sentence != status.sentence
                || next.login_url != status.login_url
                || moved
            {
                log(&next);
            }
            *status = next;
            true
        });
        let condition = verdict.condition();
        self.condition.send_if_modified(|now| {
            let changed = *now != condition;
            *now = condition;
            changed || renewed
        });
    }

    /// Publishes the final state: off.
    pub(crate) fn ended(&self) {
        self.publish(&Verdict::plain(State::Off), None, None);
    }

    /// The error for an attempt to use the tailnet now.
    pub(crate) fn error(&self) -> thrum_core::Error {
        let status = self.status.borrow();
        let sentence = match status.state {
            State::Off if !status.enabled => Some("the tailnet is not enabled".to_owned()),
            _ => status.sentence.clone(),
        };
        Verdict { state: status.state, sentence, hint: status.hint.clone(), login_url: None }.error()
    }

    /// Records the `tailscaled` that may forward connections to loopback, if any.
    pub(crate) fn is_handed_on_to_by(&self, api: Option<&LocalApi>) {
        *self.hands_on.lock().unwrap_or_else(PoisonError::into_inner) = api.cloned();
    }

    pub(crate) fn hands_on(&self) -> Option<LocalApi> {
        self.hands_on.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a refused caller, and logs one at most once per [`limits::REFUSED_CALLERS_PAUSE`]. The tailnet's port
    /// refuses callers that are not another node; the local port refuses nodes.
    pub(crate) fn refused(&self, from: &str, why: &str) {
        let at = self.now();
        let mut count = 0;
        self.status.send_modify(|status| {
            status.refused.count += 1;
            status.refused.last = Some(from.to_owned());
            status.refused.at = Some(at);
            count = status.refused.count;
        });
        let mut logged = self.last_refusal_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|last: Instant| last.elapsed() >= limits::REFUSED_CALLERS_PAUSE) {
            *logged = Some(Instant::now());
            tracing::warn!(address = from, reason = why, count, "tailnet: turned away a caller");
        }
    }
}

fn starting() -> Condition {
    Condition::Starting("the tailnet is starting".to_owned())
}

fn describe(status: &mut Status, node: &NodeStatus, user: Option<String>) {
    let dns_name = node.me.dns_name.trim_end_matches('.');
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    status.hostname = some(first_label(dns_name));
    status.dns_name = some(dns_name);
    status.addresses.clone_from(&node.addresses);
    status.addresses.sort_by_key(IpAddr::is_ipv6);
    status.relay = some(&node.me.relay);
    if user.is_some() {
        status.user = user;
    }
    // Leave out the problems that the state already describes in our own words.
    let said = |text: &String| {
        text.contains("is starting") || text.contains("is stopped") || text.contains("You are logged out")
    };
    status.warnings = node.health.iter().filter(|text| !said(text)).cloned().collect();
    status.warnings.sort();
}

fn log(status: &Status) {
    let sentence = status.sentence.as_deref().unwrap_or_default();
    let url = status.login_url.as_deref().map(|url| format!("; visit {}", printable(url))).unwrap_or_default();
    let state = status.state.as_str();
    match status.state {
        State::Running => {
            let name = printable(status.dns_name.as_deref().unwrap_or_default());
            let address = status.addresses.first().map(ToString::to_string).unwrap_or_default();
            tracing::info!(node = name, address, "tailnet: running {sentence}");
        }
        State::Off | State::Starting => tracing::info!("tailnet: {state} {sentence}"),
        _ => tracing::warn!("tailnet: {state}: {sentence}{url}"),
    }
}

/// Waits for the tasks to end, at most `within`; logs a warning if some are still running then.
pub(crate) async fn drained(tasks: &TaskTracker, within: Duration) {
    tasks.close();
    if tokio::time::timeout(within, tasks.wait()).await.is_err() {
        tracing::warn!(seconds = within.as_secs(), "tailnet: still busy");
    }
}
