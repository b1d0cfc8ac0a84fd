//! The tailnet of this daemon: what the settings say of it, and how it stands, for clients.

use std::path::{Path, PathBuf};

use serde::Serialize;
use thrum_core::{ErrorKind, Fault, Stamp};
use thrum_sync::service::Ambients;
use thrum_tailnet::{AuthKey, Config as TailnetConfig, Mode, State, Status, Tailnet};

use crate::{
    config::{self, Config, Key, Source},
    env::Settings,
    paths::{self, Repo},
};

/// Where a machine's own Tailscale answers on Linux.
const HOST_SOCKET: &str = "/var/run/tailscale/tailscaled.sock";

/// The tailnet as the settings want it. Nothing of it runs yet.
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

/// Switches the tailnet on, now and for every start from now on: somebody wants to pair over it.
///
/// # Errors
/// `refused` where the user keeps the daemon from it; the file system's.
pub(crate) fn enable(tailnet: &Tailnet, repo: &Repo, config: &Config) -> Result<(), Fault> {
    if tailnet.status().borrow().enabled {
        return Ok(());
    }
    if config.local_only() {
        return Err(Fault::new(ErrorKind::Refused, "daemon.local_only keeps this daemon from other machines")
            .hint("thrum config set daemon.local_only false, then thrum daemon restart"));
    }
    if let Source::Variable(origin) = config.get(Key::Tailnet).source {
        return Err(Fault::new(ErrorKind::Refused, format!("THRUM_TS_ENABLED is off in {origin}"))
            .hint("Set it to true or take it out, then thrum daemon restart."));
    }
    config::set(repo, Key::Tailnet, Some(true.into()))?;
    tailnet.enable();
    tracing::info!("tailnet: switched on, as config.json now says");
    Ok(())
}

/// How the tailnet stands, as `health` shows it.
#[derive(Serialize)]
pub(crate) struct Shown {
    enabled: bool,
    /// `host` or `own`.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    why: String,
    state: State,
    since: Stamp,
    /// What is the matter, unless it simply works.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Where a person logs the node in.
    #[serde(skip_serializing_if = "Option::is_none")]
    login_url: Option<String>,
    /// What the tailnet calls this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns_name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    /// Where peers reach this daemon, once it listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// What Tailscale itself complains of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// Callers turned away since the start: programs of this machine on the port of the tailnet, nodes on the local one.
    refused_callers: u64,
}

impl Shown {
    pub(crate) fn of(status: &Status, address: Option<String>) -> Self {
        Self {
            enabled: status.enabled,
            mode: status.mode.map(|mode| if mode == Mode::Own { "own" } else { "host" }),
            why: status.why.clone(),
            state: status.state,
            since: status.since,
            message: status.sentence.clone(),
            hint: status.hint.clone(),
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
