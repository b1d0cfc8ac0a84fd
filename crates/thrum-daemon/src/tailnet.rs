//! The tailnet of this daemon: its configuration from the settings, and its state for clients.

use std::path::{Path, PathBuf};

use serde::Serialize;
use thrum_core::{Error, ErrorKind, Timestamp};
use thrum_sync::peers::Ambients;
use thrum_tailnet::{AuthKey, Config as TailnetConfig, Mode, State, Status, Tailnet};

use crate::{
    config::{self, Config, Key, Source},
    env::Settings,
    paths::{self, Repo},
};

/// The socket of a machine's own Tailscale on Linux.
const HOST_SOCKET: &str = "/var/run/tailscale/tailscaled.sock";

/// Creates the tailnet from the settings, without starting it.
pub(crate) fn of(repo: &Repo, settings: &Settings, config: &Config, name: &str, ambients: Ambients) -> Tailnet {
    let from_root = |path: &PathBuf| repo.main_root().join(path);
    Tailnet::new(TailnetConfig {
        enabled: config.tailnet() && !config.local_only(),
        mode: settings.ts_mode.as_deref().and_then(Mode::parse).unwrap_or_default(),
        hostname: name.to_owned(),
        auth_key: settings.ts_authkey.as_ref().and_then(|key| AuthKey::new(key.reveal())),
        control_url: settings.ts_control_url.clone(),
        state_dir: settings.ts_state_dir.as_ref().map_or_else(|| repo.node_dir(), from_root),
        port: settings.ts_port,
        host_socket: settings.ts_socket.as_ref().map_or_else(|| Path::new(HOST_SOCKET).to_owned(), from_root),
        tailscaled: settings.ts_tailscaled.as_ref().map(from_root),
        log_file: repo.var().join("tailscaled.log"),
        runtime_dir: paths::runtime_dir(),
        ambients,
    })
}

/// Switches the tailnet on permanently, because somebody wants to pair over it.
///
/// # Errors
/// `refused` if the user keeps the daemon off the tailnet; file system errors.
pub(crate) fn enable(tailnet: &Tailnet, repo: &Repo, config: &Config) -> Result<(), Error> {
    if tailnet.status().borrow().enabled {
        return Ok(());
    }
    if let Some(refusal) = config.kept_here() {
        return Err(refusal);
    }
    if let Source::Variable(origin) = config.get(Key::Tailnet).source {
        return Err(Error::new(ErrorKind::Refused, format!("THRUM_TS_ENABLED is off in {origin}"))
            .hint("Set it to true or remove it, then thrum daemon restart."));
    }
    config::set(repo, Key::Tailnet, Some(true.into()))?;
    tailnet.enable();
    tracing::info!("tailnet: switched on by config.json");
    Ok(())
}

/// The state of the tailnet, as shown by `health`.
#[derive(Serialize)]
pub(crate) struct TailnetHealth {
    enabled: bool,
    /// `host` or `own`.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    why: String,
    state: State,
    since: Timestamp,
    /// The current problem, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The page on which a person logs the node in.
    #[serde(skip_serializing_if = "Option::is_none")]
    login_url: Option<String>,
    /// The name of this node on the tailnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns_name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    /// The address for peers, once the daemon listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// Warnings of Tailscale itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// Number of callers refused since the start: local programs on the tailnet's port, and tailnet nodes on the local
    /// port.
    refused_callers: u64,
}

impl TailnetHealth {
    pub(crate) fn of(status: &Status, address: Option<String>, config: &Config) -> Self {
        let kept_here = config.kept_here().filter(|_| !status.enabled);
        let (why, hint) = match kept_here {
            Some(Error { message, hint, .. }) => (message, hint),
            None => (status.why.clone(), status.hint.clone()),
        };
        Self {
            enabled: status.enabled,
            mode: status.mode.map(|mode| if mode == Mode::Own { "own" } else { "host" }),
            why,
            state: status.state,
            since: status.since,
            message: status.sentence.clone(),
            hint,
            login_url: status.login_url.clone(),
            hostname: status.hostname.clone(),
            dns_name: status.dns_name.clone(),
            addresses: status.addresses.iter().map(ToString::to_string).collect(),
            address,
            user: status.user.clone(),
            warnings: status.warnings.clone(),
            refused_callers: status.refused.count,
        }
    }
}
