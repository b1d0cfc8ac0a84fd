//! Logs the daemon's own node in: does what `tailscale up` does, except for steps that `tailscale up` would have the
//! user confirm first.

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

/// The progress of the login during one run of the process.
#[derive(Debug)]
pub(crate) struct Login {
    /// Whether the settings were passed to the running `tailscaled`.
    begun: bool,
    /// Whether the auth key was passed to the running `tailscaled`. It is passed again only if `tailscaled` refused the
    /// settings: the control server accepts the key at once or never.
    key_shown: bool,
    /// When a login was last requested; `None` if never.
    asked: Option<Instant>,
    /// The message with which `tailscaled` refused the settings, and when to try again.
    failed: Option<(String, Instant)>,
    backoff: Backoff,
}

/// The next step of the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// The node is registered: apply only the settings that may have changed. The key is not passed again.
    Resume,
    /// The node is not registered, no longer accepted, or registered with another control server: apply the settings,
    /// pass the key if there is one, and log in.
    Register,
    /// The node was registered, but a user must log it in again: request the URL.
    Renew,
}

impl Default for Login {
    fn default() -> Self {
        Self { begun: false, key_shown: false, asked: None, failed: None, backoff: patience() }
    }
}

impl Login {
    /// Performs the step that is due for this status, which was judged to be `state`.
    ///
    /// # Errors
    /// `Failed` if `tailscaled` refuses the settings. They are tried again with the first status after
    /// [`Self::retry_at`]; until then, every call returns the same error. Other errors are those of [`LocalApi`].
    pub(crate) async fn step(
        &mut self,
        config: &Config,
        api: &LocalApi,
        status: &NodeStatus,
        state: State,
    ) -> Result<(), ApiError> {
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
            Err(ApiError::Failed(words)) => {
                Some((words.clone(), Instant::now() + self.backoff.next(&mut *(config.ambients)())))
            }
            _ => None,
        };
        done
    }

    /// The time at which a status must be fetched even if nothing has changed; `None` unless the settings were refused.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.failed.as_ref().map(|(_, at)| *at)
    }

    /// Decides the next step. `moved` means that the stored state belongs to another control server.
    fn next(&mut self, status: &NodeStatus, state: State, moved: bool, has_key: bool) -> Step {
        if !self.begun {
            self.begun = true;
            if status.have_node_key && !moved {
                return Step::Resume;
            }
            (self.key_shown, self.asked) = (has_key, Some(Instant::now()));
            return Step::Register;
        }
        // A registered node that the control server no longer accepts: the key registers it again.
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

/// Returns `true` if both URLs name the same control server. An empty URL means that none was ever set, so Tailscale's
/// server is used.
fn same_server(one: &str, other: &str) -> bool {
    let plain = |url: &str| if url.is_empty() { DEFAULT_CONTROL_URL } else { url }.trim_end_matches('/').to_owned();
    plain(one) == plain(other)
}

/// The preferences set at every start: the node runs, accepts connections, and leaves the machine's DNS and routes
/// alone.
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
    let names: Vec<String> =
        masked.as_object().into_iter().flat_map(|map| map.keys()).map(|name| format!("{name}Set")).collect();
    for name in names {
        // `LoggedOut` stays as it is: if a user logged the node out, that is not undone without their knowledge.
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
    // Formatted by hand, so that the key is never in a value that is freed without being wiped.
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
        assert_eq!(
            login.next(&status("NeedsLogin", true, "https://login/x"), State::Expired, false, false),
            Step::Nothing
        );
        assert_eq!(login.next(&status("NeedsLogin", true, ""), State::Expired, false, false), Step::Renew);
    }

    #[test]
    fn an_unset_control_server_is_tailscales() {
        assert!(same_server("", DEFAULT_CONTROL_URL));
        assert!(same_server("https://hs.example.org/", "https://hs.example.org"));
        assert!(!same_server("", "https://hs.example.org"));
    }
}
