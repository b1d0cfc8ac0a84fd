//! Maps the answers of a `tailscaled` to one state with a sentence and the next command. A pure function of its inputs.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use thrum_core::{Error, ErrorKind, Timestamp, limits, name};
use thrum_sync::transport::Condition;

use crate::{
    Mode,
    localapi::{ApiError, NodeStatus, first_label},
};

/// The state of the tailnet transport, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The tailnet is not enabled, or the transport has ended.
    Off,
    /// The node is starting; no action is needed.
    Starting,
    /// A user must log the node in.
    NeedsLogin,
    /// An administrator of the tailnet must approve the node.
    NeedsApproval,
    /// The control server does not accept the auth key.
    KeyRefused,
    /// The node's own key has expired.
    Expired,
    /// The tailnet no longer knows the node.
    Deleted,
    /// The control server does not answer or asks the node to wait, and the node cannot start without it.
    ControlUnreachable,
    /// No `tailscaled` program was found.
    BinaryMissing,
    /// The state directory cannot be used, or another process uses it.
    StateDir,
    /// The own `tailscaled` does not start, refuses the settings, no longer answers, or has ended.
    Crashed,
    /// The node was stopped.
    Stopped,
    /// The machine's Tailscale is not running or does not answer.
    NotRunning,
    /// This user may not query the machine's Tailscale.
    NotPermitted,
    /// The machine's Tailscale currently serves another user.
    InUse,
    /// The node is running.
    Running,
}

impl State {
    /// The state's name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::NeedsLogin => "needs_login",
            Self::NeedsApproval => "needs_approval",
            Self::KeyRefused => "key_refused",
            Self::Expired => "expired",
            Self::Deleted => "deleted",
            Self::ControlUnreachable => "control_unreachable",
            Self::BinaryMissing => "binary_missing",
            Self::StateDir => "state_dir",
            Self::Crashed => "crashed",
            Self::Stopped => "stopped",
            Self::NotRunning => "not_running",
            Self::NotPermitted => "not_permitted",
            Self::InUse => "in_use",
            Self::Running => "running",
        }
    }
}

/// A state with its message and hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) state: State,
    pub(crate) sentence: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) login_url: Option<String>,
}

impl Verdict {
    pub(crate) const fn plain(state: State) -> Self {
        Self { state, sentence: None, hint: None, login_url: None }
    }

    pub(crate) fn new(state: State, sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { state, sentence: Some(sentence.into()), hint: Some(hint.into()), login_url: None }
    }

    fn url(mut self, url: &str) -> Self {
        self.login_url = (!url.is_empty()).then(|| url.to_owned());
        self
    }

    /// The corresponding condition for code that listens and dials.
    pub(crate) fn condition(&self) -> Condition {
        let words = || self.sentence.clone().unwrap_or_else(|| "the tailnet is starting".to_owned());
        match self.state {
            State::Off => Condition::Off,
            State::Running => Condition::Up,
            State::Starting | State::NeedsApproval => Condition::Starting(words()),
            State::NeedsLogin => match &self.login_url {
                Some(url) => Condition::Starting(format!("visit {url} to log this machine in")),
                None => Condition::Down(self.error()),
            },
            _ => Condition::Down(self.error()),
        }
    }

    /// The error for a caller that wants to use the tailnet now.
    pub(crate) fn error(&self) -> Error {
        let error = Error::new(
            ErrorKind::Unavailable,
            self.sentence.clone().unwrap_or_else(|| "the tailnet is starting".to_owned()),
        );
        match &self.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        }
    }
}

/// The inputs for judging a node whose `tailscaled` answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) mode: Mode,
    /// Whether the user left the choice of the node to us.
    pub(crate) auto: bool,
    pub(crate) status: &'a NodeStatus,
    /// The reason of the last refusal by the control server since the node last ran; `None` if there was none.
    pub(crate) refusal: Option<&'a str>,
    /// How long the node has been watched without running.
    pub(crate) waited: Duration,
    pub(crate) now: Timestamp,
    /// The host name that the own node requests.
    pub(crate) hostname: &'a str,
    /// Whether there is an auth key.
    pub(crate) has_key: bool,
    /// The own node's control server.
    pub(crate) control_url: &'a str,
    /// The directory where the own node stores its keys.
    pub(crate) state_dir: &'a Path,
}

/// Tailscale's text before the reason of a failed login.
const LOGIN_ERROR: &str = "last login error was: ";

/// Prefixes of login errors that mean that the control server did not answer, or not as a control server does. Other
/// login errors are the control server's own words, apart from those that end with `context canceled`.
const ON_THE_WAY: [&str; 4] = ["fetch control key:", "register request:", "getNoiseClient:", "context deadline"];

/// Part of Tailscale's message if the control server reports the node's key as expired before the node has seen the
/// tailnet.
const EXPIRED_AT_CONTROL: &str = "NodeKeyExpired";

/// Judges a node whose `tailscaled` answers.
pub(crate) fn judge(seen: &Seen<'_>) -> Verdict {
    let status = seen.status;
    let expired = status.me.expired
        || status.me.key_expiry.as_deref().and_then(Timestamp::parse).is_some_and(|at| at <= seen.now);
    match status.backend_state.as_str() {
        "Running" => running(seen),
        "Stopped" => stopped(seen),
        "NeedsMachineAuth" => needs_approval(seen),
        "InUseOtherUser" => Verdict::new(
            State::InUse,
            "this machine's Tailscale serves another user of the machine now",
            "Switch Tailscale to this user, or set THRUM_TS_MODE=own for a node of this daemon's own.",
        ),
        _ if expired => expiry(seen),
        _ if !status.auth_url.is_empty() => login(seen),
        other => waiting(seen, other),
    }
}

fn running(seen: &Seen<'_>) -> Verdict {
    let mut verdict = Verdict::plain(State::Running);
    let name = first_label(&seen.status.me.dns_name);
    let wanted = host_label(seen.hostname);
    // The tailnet appends a number to a name that is taken. Go Thrum's documentation mentions "-1".
    let numbered = name.strip_prefix(&*wanted).and_then(|rest| rest.strip_prefix('-'));
    if seen.mode == Mode::Own
        && numbered.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    {
        verdict.sentence = Some(format!(
            "the name {wanted} is taken on the tailnet, so that this node is called {}",
            name::printable(name)
        ));
        verdict.hint =
            Some("Remove the other one from the tailnet or set another THRUM_TS_HOSTNAME, if that matters.".to_owned());
    }
    verdict
}

/// Converts a host name as Tailscale does: `Ann's Mac` becomes `ann-s-mac`.
fn host_label(name: &str) -> String {
    let label: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    label.trim_matches('-').to_owned()
}

fn stopped(seen: &Seen<'_>) -> Verdict {
    match seen.mode {
        Mode::Own => Verdict::new(
            State::Stopped,
            "this daemon's own Tailscale node was stopped",
            "`thrum daemon restart` starts it.",
        ),
        _ => Verdict::new(
            State::Stopped,
            "this machine's Tailscale is stopped",
            or_own(seen.auto, "`sudo tailscale up` starts it"),
        ),
    }
}

fn needs_approval(seen: &Seen<'_>) -> Verdict {
    let who = match seen.mode {
        Mode::Own => "this daemon's Tailscale node",
        _ => "this machine",
    };
    let where_to = if seen.mode == Mode::Own && seen.control_url != crate::DEFAULT_CONTROL_URL {
        format!("the administration of {}", name::printable(seen.control_url))
    } else {
        "https://login.tailscale.com/admin/machines".to_owned()
    };
    Verdict::new(
        State::NeedsApproval,
        format!("{who} waits for an administrator of the tailnet to approve it"),
        format!("Approve it in {where_to}; it goes on by itself."),
    )
}

fn expiry(seen: &Seen<'_>) -> Verdict {
    let since = seen.status.me.key_expiry.as_deref().and_then(Timestamp::parse).map(Timestamp::to_the_second);
    let since = since.map_or(String::new(), |at| format!(" (since {at})"));
    match seen.mode {
        Mode::Own => Verdict::new(
            State::Expired,
            format!("the key of this daemon's Tailscale node has expired{since}"),
            match seen.status.auth_url.as_str() {
                "" => {
                    "Extend its key in the tailnet's administration, or put a new THRUM_TS_AUTHKEY into .env, then `thrum daemon restart`."
                        .to_owned()
                }
                url => format!("Visit {} to log it in again.", name::printable(url)),
            },
        ),
        _ => Verdict::new(
            State::Expired,
            format!("this machine's Tailscale key has expired{since}"),
            or_own(seen.auto, "`sudo tailscale up --force-reauth` logs it in again"),
        ),
    }
    .url(&seen.status.auth_url)
}

fn login(seen: &Seen<'_>) -> Verdict {
    let url = seen.status.auth_url.as_str();
    let visit = format!("Visit {}", name::printable(url));
    match (seen.mode, seen.status.have_node_key) {
        (Mode::Own, true) => Verdict::new(
            State::Deleted,
            "the tailnet does not know this daemon's node any more: it was removed or logged out",
            format!("{visit} to log it in again."),
        ),
        (Mode::Own, false) => Verdict::new(
            State::NeedsLogin,
            "this daemon's Tailscale node is not logged in",
            format!("{visit} or set THRUM_TS_AUTHKEY; it goes on by itself after the visit."),
        ),
        _ => Verdict::new(State::NeedsLogin, "this machine's Tailscale is logged out", or_own(seen.auto, &visit)),
    }
    .url(url)
}

/// Judges a node that is not running and does not ask for a login yet.
fn waiting(seen: &Seen<'_>, backend_state: &str) -> Verdict {
    let status = seen.status;
    let login_error = status.health.iter().find_map(|text| text.split_once(LOGIN_ERROR)).map(|(_, why)| why.trim());
    // This error means that we interrupted the attempt ourselves, by starting another.
    let login_error = login_error.filter(|error| !error.ends_with("context canceled"));
    let refusal = match login_error {
        Some(error) if ON_THE_WAY.iter().any(|start| error.starts_with(start)) => None,
        Some(error) => Some(error),
        None => seen.refusal,
    };
    if refusal.is_some_and(|words| words.contains(EXPIRED_AT_CONTROL)) {
        return expiry(seen);
    }
    if seen.mode != Mode::Own {
        return match (backend_state, login_error) {
            ("NeedsLogin", _) => Verdict::new(
                State::NeedsLogin,
                "this machine's Tailscale is logged out",
                or_own(seen.auto, "`sudo tailscale up` logs it in"),
            ),
            (_, Some(why)) if refusal.is_none() => Verdict::new(
                State::ControlUnreachable,
                format!("this machine's Tailscale cannot reach its control server: {}", name::printable(why)),
                "Is the machine online? It goes on by itself.",
            ),
            _ => Verdict {
                sentence: Some("this machine's Tailscale is starting".to_owned()),
                ..Verdict::plain(State::Starting)
            },
        };
    }
    if let Some(words) = refusal {
        return refused(seen, words);
    }
    let control = name::printable(seen.control_url);
    let unreachable = |why: String| {
        Verdict::new(
            State::ControlUnreachable,
            format!("the tailnet's control server {control} {why}"),
            "Is the machine online, and is THRUM_TS_CONTROL_URL right? It goes on by itself.",
        )
    };
    match login_error {
        Some(why) => unreachable(format!("cannot be reached: {}", name::printable(why))),
        None if seen.waited >= limits::TAILNET_STARTING => unreachable("does not answer".to_owned()),
        None => Verdict {
            sentence: Some("this daemon's Tailscale node is starting".to_owned()),
            ..Verdict::plain(State::Starting)
        },
    }
}

/// Judges an own node that the control server refused.
fn refused(seen: &Seen<'_>, words: &str) -> Verdict {
    let words = name::printable(words);
    if words.contains("rate limited") {
        Verdict::new(
            State::ControlUnreachable,
            format!("the tailnet's control server asks to wait: {words}"),
            "It goes on by itself.",
        )
    } else if seen.status.have_node_key {
        Verdict::new(
            State::Deleted,
            format!("the tailnet does not accept this daemon's node any more: {words}"),
            format!(
                "Put a new auth key into .env as THRUM_TS_AUTHKEY, then `thrum daemon restart`; to begin as a new node, remove {} first.",
                seen.state_dir.display()
            ),
        )
    } else if seen.has_key {
        Verdict::new(
            State::KeyRefused,
            format!("the tailnet refused the auth key: {words}"),
            "Make a new key in the tailnet's administration, put it into .env as THRUM_TS_AUTHKEY, then `thrum daemon restart`.",
        )
    } else {
        Verdict::new(
            State::NeedsLogin,
            format!("the tailnet refused this daemon's node: {words}"),
            "Put an auth key into .env as THRUM_TS_AUTHKEY, then `thrum daemon restart`.",
        )
    }
}

/// The state when the machine's `tailscaled` cannot be queried.
pub(crate) fn host_unreachable(error: &ApiError, socket: &Path, auto: bool) -> Verdict {
    let socket = socket.display();
    match error {
        ApiError::NotRunning | ApiError::Ended => Verdict::new(
            State::NotRunning,
            format!("Tailscale does not run on this machine (nobody answers at {socket})"),
            or_own(auto, "Install or start Tailscale, then `sudo tailscale up`"),
        ),
        ApiError::NotPermitted(why) => Verdict::new(
            State::NotPermitted,
            format!("this user may not ask this machine's Tailscale at {socket}: {}", name::printable(why)),
            or_own(auto, "`sudo tailscale set --operator=$USER` permits it"),
        ),
        other => Verdict::new(
            State::NotRunning,
            format!("this machine's Tailscale at {socket} cannot be asked: {}", name::printable(&other.to_string())),
            or_own(auto, "`tailscale status` shows more"),
        ),
    }
}

/// Returns the hint `what` about the machine's node. If the user left the choice of node to us, also mentions the own
/// node.
fn or_own(auto: bool, what: &str) -> String {
    if auto {
        format!(
            "{what}; or set THRUM_TS_AUTHKEY (or THRUM_TS_MODE=own, to log in by hand) for a node of this daemon's own."
        )
    } else {
        format!("{what}.")
    }
}

#[cfg(test)]
mod tests;
