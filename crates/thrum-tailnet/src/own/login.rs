//! Logs the own node in: what `tailscale up` does, and nothing that it would ask a person first.

use serde_json::{Value, json};
use thrum_core::limits;
use thrum_sync::backoff::Backoff;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{
    Config, DEFAULT_CONTROL_URL, State,
    hub::patience,
    localapi::{ApiError, LocalApi, NodeStatus},
};

/// How far the login of one life of the process is.
#[derive(Debug)]
pub(crate) struct Login {
    /// The settings were given.
    begun: bool,
    /// The key was shown to a `tailscaled` that began with it. That is once in a life: control either takes it or never will.
    key_shown: bool,
    /// A person was asked for last.
    asked: Option<Instant>,
    /// Its `tailscaled` did not take it: in what words, and when it is tried again.
    failed: Option<(String, Instant)>,
    backoff: Backoff,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Registered: only the settings that may have changed. The key is not shown again.
    Resume,
    /// Not registered, or not any more: settings, key if there is one, login.
    Register,
    /// Registered once, but a person must log it in again: ask for the URL.
    Renew,
}

impl Default for Login {
    fn default() -> Self {
        Self { begun: false, key_shown: false, asked: None, failed: None, backoff: patience() }
    }
}

impl Login {
    /// Does what is to be done at this status, which was judged to be `state`.
    ///
    /// # Errors
    /// `Failed` if `tailscaled` does not take the settings; the same is tried again at a status after [`Self::retry_at`], and
    /// until then the answer is the same.
    pub(crate) async fn step(&mut self, config: &Config, api: &LocalApi, status: &NodeStatus, state: State) -> Result<(), ApiError> {
        if let Some((words, until)) = &self.failed
            && Instant::now() < *until
        {
            return Err(ApiError::Failed(words.clone()));
        }
        let control = config.control_url.as_deref().unwrap_or(DEFAULT_CONTROL_URL);
        let moved = !self.begun && status.have_node_key && !same_server(&api.prefs().await?.control_url, control);
        let done = match self.next(status, state, moved, config.auth_key.is_some()) {
            Step::Nothing => Ok(()),
            Step::Resume => api.edit_prefs(&masked(config)).await,
            Step::Register => match api.start(options(config, control)).await {
                Ok(()) => api.login_interactive().await,
                error => error,
            },
            Step::Renew => api.login_interactive().await,
        };
        self.begun &= done.is_ok();
        self.failed = match &done {
            Err(ApiError::Failed(words)) => Some((words.clone(), Instant::now() + self.backoff.next(&mut *(config.ambients)()))),
            _ => None,
        };
        done
    }

    /// When a status is wanted although nothing has changed.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.failed.as_ref().map(|(_, at)| *at)
    }

    /// `moved`: the state belongs to another control server.
    fn next(&mut self, status: &NodeStatus, state: State, moved: bool, has_key: bool) -> Step {
        if !self.begun {
            self.begun = true;
            if status.have_node_key && !moved {
                return Step::Resume;
            }
            (self.key_shown, self.asked) = (has_key, Some(Instant::now()));
            return Step::Register;
        }
        // A registered node that control does not take any more: the key brings it back, as it brought it in.
        let lost = status.have_node_key && matches!(state, State::Deleted | State::Expired | State::NeedsLogin);
        if lost && has_key && !self.key_shown {
            (self.key_shown, self.asked) = (true, Some(Instant::now()));
            return Step::Register;
        }
        if lost && status.auth_url.is_empty() && self.asked.is_none_or(|last| last.elapsed() >= limits::TAILNET_LOOK) {
            self.asked = Some(Instant::now());
            return Step::Renew;
        }
        Step::Nothing
    }
}

/// An empty one is one that was never chosen: Tailscale's.
fn same_server(one: &str, other: &str) -> bool {
    let plain = |url: &str| if url.is_empty() { DEFAULT_CONTROL_URL } else { url }.trim_end_matches('/').to_owned();
    plain(one) == plain(other)
}

/// What differs from `tailscaled`'s own choice: the machine's DNS, routes and filters stay as they are.
fn prefs(config: &Config) -> Value {
    json!({
        "WantRunning": true,
        "LoggedOut": false,
        "Hostname": config.hostname,
        "CorpDNS": false,
        "RouteAll": false,
        "ShieldsUp": false,
    })
}

fn masked(config: &Config) -> Value {
    let mut masked = prefs(config);
    let names: Vec<String> = masked.as_object().into_iter().flat_map(|map| map.keys()).map(|name| format!("{name}Set")).collect();
    for name in names {
        // Logged out is what a person did; it is not undone behind their back.
        masked[&*name] = Value::Bool(name != "LoggedOutSet");
    }
    masked
}

fn options(config: &Config, control: &str) -> Zeroizing<String> {
    let mut prefs = prefs(config);
    prefs["ControlURL"] = control.into();
    prefs["NoStatefulFiltering"] = true.into();
    prefs["AutoUpdate"] = json!({"Check": false, "Apply": false});
    let key = config.auth_key.as_ref().map_or("", |key| key.reveal());
    // Written by hand, so that the key is in no value that is freed without being wiped.
    let key = Zeroizing::new(serde_json::to_string(key).unwrap_or_default());
    Zeroizing::new(format!(r#"{{"AuthKey":{},"UpdatePrefs":{prefs}}}"#, *key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, have_node_key: bool, auth_url: &str) -> NodeStatus {
        NodeStatus { backend_state: state.into(), have_node_key, auth_url: auth_url.into(), ..NodeStatus::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_registered_node_shows_its_key_only_when_control_has_lost_it_and_only_once() {
        let mut login = Login::default();
        assert_eq!(login.next(&status("NeedsLogin", false, ""), State::Starting, false, true), Step::Register);
        assert_eq!(login.next(&status("NeedsLogin", false, ""), State::KeyRefused, false, true), Step::Nothing);
        assert_eq!(login.next(&status("Running", true, ""), State::Running, false, true), Step::Nothing);
        let mut login = Login::default();
        assert_eq!(login.next(&status("NoState", true, ""), State::Starting, false, true), Step::Resume);
        assert_eq!(login.next(&status("Running", true, ""), State::Running, false, true), Step::Nothing);
        assert_eq!(login.next(&status("NoState", true, ""), State::ControlUnreachable, false, true), Step::Nothing);
        assert_eq!(login.next(&status("NoState", true, ""), State::Deleted, false, true), Step::Register);
        assert_eq!(login.next(&status("NoState", true, ""), State::Deleted, false, true), Step::Nothing);
        assert_eq!(
            Login::default().next(&status("Running", true, ""), State::Running, true, true),
            Step::Register,
            "another control server knows nobody"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_key_an_expired_node_asks_for_a_person_now_and_then() {
        let mut login = Login::default();
        assert_eq!(login.next(&status("NoState", true, ""), State::Starting, false, false), Step::Resume);
        assert_eq!(login.next(&status("NeedsLogin", true, ""), State::Expired, false, false), Step::Renew);
        assert_eq!(login.next(&status("NeedsLogin", true, ""), State::Expired, false, false), Step::Nothing);
        tokio::time::advance(limits::TAILNET_LOOK).await;
        assert_eq!(login.next(&status("NeedsLogin", true, "https://login/x"), State::Expired, false, false), Step::Nothing);
        assert_eq!(login.next(&status("NeedsLogin", true, ""), State::Expired, false, false), Step::Renew);
    }

    #[test]
    fn an_unset_control_server_is_tailscales() {
        assert!(same_server("", DEFAULT_CONTROL_URL));
        assert!(same_server("https://hs.example.org/", "https://hs.example.org"));
        assert!(!same_server("", "https://hs.example.org"));
    }
}
