//! `thrum config`: shows every setting with its value and source, and changes settings in the file.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use thrum_core::{Error, ErrorKind, name::printable};
use thrum_daemon::{
    config::{self, Config, Key, Setting, Source},
    env::{Effective, Environment, Origin, VARIABLES},
};

use crate::{
    answers::SyncStatus,
    context::Context,
    render::{
        Page, Render, boxed,
        style::{DIM, YELLOW},
    },
    text, time,
    variables::{self, OF_THE_COMMAND},
};

/// Show and change settings
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show all settings with their values and the source of each value
    #[command(after_help = "\
In order of precedence: the environment, .thrum/.env, .env beside it, .thrum/config.json. Keys and tokens are not shown.

Examples:
  thrum config show
  thrum config show --json")]
    Show,
    /// Change a setting in .thrum/config.json; `default` removes it
    #[command(after_help = "\
Keys:
  daemon.local_only     true: connect only to peers on this machine, through 127.0.0.1,
                        regardless of all other settings, and exchange nothing through git;
                        default false. THRUM_LOCAL=1 enables it as well
  daemon.sync_interval  how often each peer is asked for events that it has not announced: 5s to
                        1h, default 15s. Announced events are fetched immediately. Overridden
                        by THRUM_SYNC_INTERVAL (in seconds)
  tailnet.enabled       true: connect to peers on the tailnet; default false. Joining a tailnet
                        address and `peer add --via tailnet` set it. Overridden by
                        THRUM_TS_ENABLED
  peers.max_mb          maximum size of the events kept of one peer, in megabytes; default 1024.
                        Beyond it, the peer is not read. Overridden by THRUM_PEER_MAX_MB
  peers.max_agents      maximum number of agents of one peer; default 1000. Overridden by
                        THRUM_PEER_MAX_AGENTS
  peers.max_daemons     maximum number of daemons whose events one peer sends; default 1000.
                        Overridden by THRUM_PEER_MAX_DAEMONS
  peers.max_parked      maximum number of parked events of one peer; default 50000. Overridden
                        by THRUM_PEER_MAX_PARKED
  codex.wake            true: mail starts a turn in an idle Codex session, at most ten an hour;
                        default false. `thrum setup codex --wake` sets it. Overridden by
                        THRUM_CODEX_WAKE
  agents.exchange       maximum number of messages between two agents without a prompt of a
                        person or a change of a file; default 30, 0 for no limit. Overridden by
                        THRUM_EXCHANGE
  git.interval          how often events are exchanged through git without news: 1m to 24h,
                        default 5m. Overridden by THRUM_GIT_INTERVAL (in seconds)
  git.ref_prefix        the beginning of the names of the refs on the git remote; default
                        refs/thrum/. Overridden by THRUM_GIT_REF_PREFIX

A running daemon applies changes of `peers` within seconds, and other changes after `thrum daemon restart`. `codex.wake` \
applies from the end of the next turn, `agents.exchange` from the next message, `git` with the next exchange.

Examples:
  thrum config set daemon.sync_interval 30s
  thrum config set daemon.local_only true
  thrum config set daemon.sync_interval default")]
    Set {
        /// The name of the setting, from the list below
        key: String,
        /// The new value, or `default`
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
}

impl Command {
    pub(crate) fn run(self, cx: &Context) -> Result<Box<dyn Render>, Error> {
        match self {
            Self::Show => boxed(show(cx)),
            Self::Set { key, value } => boxed(set(&key, &value, cx)),
        }
    }
}

/// Shown in place of a secret.
const HIDDEN: &str = "********";

/// The current settings.
struct CurrentSettings {
    file: String,
    config: Config,
    variables: Vec<(String, String, String)>,
    unknown_variables: Vec<String>,
    warnings: Vec<String>,
    /// The settings that the running daemon uses; the file may have changed since.
    running: Option<SyncStatus>,
    /// The variables whose value in the running daemon differs from the one here, or that only the daemon or only this
    /// environment has. Each with the daemon's value, or with words for a value that is not shown.
    other_variables: Vec<(String, String)>,
}

fn show(cx: &Context) -> Result<CurrentSettings, Error> {
    let repo = cx.repo()?;
    let env = Environment::load(repo, std::env::vars_os());
    let config = Config::load(repo, &env);
    let value = |name: &str, secret: bool| {
        let value = env.get(name)?;
        // A URL may contain a password, which must not be shown.
        let shown = if secret || value.contains('@') { HIDDEN } else { value };
        Some((name.to_owned(), shown.to_owned(), env.origin(name)?.to_string()))
    };
    let is_read = |name: &str| !OF_THE_COMMAND.contains(&name) || env.origin(name) == Some(Origin::Process);
    let known = VARIABLES
        .iter()
        .map(|variable| (variable.name, variable.secret))
        .chain(OF_THE_COMMAND.map(|name| (name, false)));
    let known = known.filter(|(name, _)| is_read(name));
    let variables = known.filter_map(|(name, secret)| value(name, secret)).collect();
    let unknown_variables =
        env.names().filter(|name| !variables::is_known(name) || !is_read(name)).map(str::to_owned).collect();
    let warnings = env.warnings().iter().chain(&config.warnings).map(ToString::to_string).collect();
    let mut client = cx.running_daemon().ok().flatten();
    let running = client.as_mut().and_then(|client| client.call::<SyncStatus>("sync.status", json!({})).ok());
    // A daemon of another version may not have this method.
    let there = client.as_mut().and_then(|client| client.call::<RunningSettings>("daemon.settings", json!({})).ok());
    let other_variables = there.map_or_else(Vec::new, |there| differing(&env.effective(), &there.variables));
    let shown = CurrentSettings {
        file: repo.config().display().to_string(),
        config,
        variables,
        unknown_variables,
        warnings,
        running: running.filter(|sync| sync.sync_interval > 0),
        other_variables,
    };
    if !shown.other_variables.is_empty() || Key::ALL.iter().any(|key| shown.outdated(*key).is_some()) {
        cx.output.hint("thrum daemon restart");
    }
    Ok(shown)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RunningSettings {
    variables: Vec<Effective>,
}

/// Returns the variables that differ between here and the running daemon, with the daemon's values.
fn differing(here: &[Effective], there: &[Effective]) -> Vec<(String, String)> {
    let of = |all: &[Effective], name: &str| all.iter().find(|variable| variable.name == name).cloned();
    let shown = |name: &str, there: Option<Effective>| match (there, of(here, name)) {
        (None, _) => "not set".to_owned(),
        (Some(Effective { value: Some(value), .. }), _) => value,
        (Some(_), None) => "set".to_owned(),
        (Some(_), Some(_)) => "another value".to_owned(),
    };
    let names: BTreeSet<&String> = here.iter().chain(there).map(|variable| &variable.name).collect();
    let differ = names.into_iter().filter(|name| of(here, name) != of(there, name));
    differ.map(|name| (name.clone(), shown(name, of(there, name)))).collect()
}

impl CurrentSettings {
    /// Describes the running daemon's value of a variable, if it differs from ours.
    fn other(&self, name: &str) -> Option<&str> {
        self.other_variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Returns the running daemon's value of a setting, if it differs from the one here.
    fn outdated(&self, key: Key) -> Option<Value> {
        let running = of_running(key)?(self.running.as_ref()?);
        (running != self.config.get(key).value).then_some(running)
    }
}

/// How to read a setting of the running daemon. `None` for a setting that is read anew whenever it is used, so that no
/// restart is needed.
fn of_running(key: Key) -> Option<fn(&SyncStatus) -> Value> {
    match key {
        Key::LocalOnly => Some(|sync| sync.local_only.into()),
        Key::SyncInterval => Some(|sync| sync.sync_interval.into()),
        Key::Tailnet => Some(|sync| sync.tailnet.into()),
        Key::Quota(_) | Key::WakeCodex | Key::Exchange | Key::GitInterval | Key::GitPrefix => None,
    }
}

impl Render for CurrentSettings {
    fn human(&self, page: &mut Page) {
        let mut rows = Vec::new();
        for key in Key::ALL {
            let Setting { value, source } = self.config.get(key);
            let running = self
                .outdated(key)
                .map(|value| format!(" (the running daemon: {})", written(key, &value)))
                .unwrap_or_default();
            rows.push(vec![key.name().to_owned(), written(key, value), format!("{source}{running}")]);
        }
        let running =
            |name: &str| self.other(name).map(|value| format!(" (the running daemon: {value})")).unwrap_or_default();
        rows.extend(
            self.variables
                .iter()
                .map(|(name, value, source)| vec![name.clone(), value.clone(), format!("{source}{}", running(name))]),
        );
        let only_there =
            self.other_variables.iter().filter(|(name, _)| self.variables.iter().all(|(here, ..)| here != name));
        rows.extend(
            only_there.map(|(name, _)| vec![name.clone(), "not set".to_owned(), running(name).trim_start().to_owned()]),
        );
        page.table(&["SETTING", "VALUE", "FROM"], rows);
        page.line("");
        page.line(format!("{DIM}File: {}{DIM:#}", printable(&self.file)));
        for (what, names) in
            [("Kept in it for other programs", &self.config.unknown), ("Unknown variables", &self.unknown_variables)]
        {
            if !names.is_empty() {
                page.line(format!("{DIM}{what}: {}{DIM:#}", printable(&names.join(", "))));
            }
        }
        for warning in &self.warnings {
            page.line(format!("{YELLOW}Warning:{YELLOW:#} {}", text::lines(warning)));
        }
    }

    fn json(&self) -> Value {
        let mut sections: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        for key in Key::ALL {
            let Setting { value, source } = self.config.get(key);
            let setting = json!({
                "value": value, "source": source.to_string(), "variable": key.variable(), "running": self.outdated(key).unwrap_or_else(|| value.clone()),
            });
            let (section, name) = key.name().split_once('.').unwrap_or_default();
            sections.entry(section).or_default().insert(name.to_owned(), setting);
        }
        let variables = self
            .variables
            .iter()
            .map(|(name, value, source)| (name.clone(), json!({"value": value, "source": source})));
        let overrides = Key::ALL
            .iter()
            .filter(|key| matches!(self.config.get(**key).source, Source::Variable(_)))
            .map(|key| key.variable());
        let mut shown = json!({
            "config_file": self.file, "variables": variables.collect::<Map<_, _>>(),
            "running_variables": self.other_variables.iter().cloned().collect::<BTreeMap<_, _>>(),
            "overrides": overrides.collect::<Vec<_>>(), "unknown_keys": self.config.unknown,
            "unknown_variables": self.unknown_variables, "warnings": self.warnings,
        });
        for (section, settings) in sections {
            shown[section] = settings.into();
        }
        shown
    }
}

/// Formats a value as users write it.
fn written(key: Key, value: &Value) -> String {
    match (key, value.as_u64()) {
        (Key::SyncInterval | Key::GitInterval, Some(seconds)) => time::brief(Duration::from_secs(seconds)),
        _ => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
    }
}

/// The result of changing a setting.
struct Changed {
    key: Key,
    setting: Setting,
    changed: bool,
    restart: bool,
}

fn set(name: &str, value: &str, cx: &Context) -> Result<Changed, Error> {
    let key = Key::ALL.into_iter().find(|key| key.name() == name).ok_or_else(|| unknown(name))?;
    let repo = cx.repo()?;
    let value = if value == "default" { None } else { Some(key.parse(value)?) };
    let before = config::set(repo, key, value.clone())?;
    let config = Config::current(repo);
    let setting = config.get(key).clone();
    if let Source::Variable(origin) = setting.source {
        cx.output.warn(&format!("{} is set in {origin} and wins over the file", key.variable()));
    }
    let changed = before != value;
    let restart = changed && of_running(key).is_some() && cx.running_daemon().ok().flatten().is_some();
    if restart {
        cx.output.hint("To apply it to the running daemon: thrum daemon restart");
    }
    Ok(Changed { key, setting, changed, restart })
}

/// The error for an unknown key. Its hint explains how to set a variable that was named instead, or gives the closest
/// match or the list of keys.
fn unknown(name: &str) -> Error {
    let error = Error::new(ErrorKind::NotFound, format!("there is no setting '{}'", printable(name)));
    let where_to = if OF_THE_COMMAND.contains(&name) { "" } else { ", or in .thrum/.env" };
    if let Some(variable) =
        VARIABLES.iter().map(|variable| variable.name).chain(OF_THE_COMMAND).find(|variable| *variable == name)
    {
        return Error::new(ErrorKind::Invalid, format!("{variable} is a variable, no key of config.json"))
            .hint(format!("Set it in the environment{where_to}: {variable}=VALUE"));
    }
    if let Some(key) = Key::ALL.into_iter().find(|key| key.variable() == name) {
        return error.hint(format!("In the file it is {0}: thrum config set {0} VALUE", key.name()));
    }
    let distance = |key: &Key| {
        let whole = strsim::damerau_levenshtein(name, key.name());
        let last = strsim::damerau_levenshtein(
            name.rsplit('.').next().unwrap_or(name),
            key.name().rsplit('.').next().unwrap_or_default(),
        );
        whole.min(last)
    };
    match Key::ALL.into_iter().min_by_key(distance).filter(|key| distance(key) <= 3) {
        Some(key) => error.hint(format!("Did you mean {}?", key.name())),
        None => error.hint(format!("There are: {}", Key::ALL.map(Key::name).join(", "))),
    }
}

impl Render for Changed {
    fn human(&self, page: &mut Page) {
        let Setting { value, source } = &self.setting;
        let was = if self.changed { "" } else { " already" };
        page.line(format!("{} is{was} {} {DIM}({source}){DIM:#}", self.key.name(), written(self.key, value)));
    }

    fn json(&self) -> Value {
        let Setting { value, source } = &self.setting;
        json!({
            "status": if self.changed { "changed" } else { "unchanged" }, "key": self.key.name(), "value": value,
            "source": source.to_string(), "restart_needed": self.restart,
        })
    }
}
