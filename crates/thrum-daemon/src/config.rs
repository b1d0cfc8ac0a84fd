//! `.thrum/config.json` and the environment variables that override it: each setting with its value and its source.
//!
//! The file is Go Thrum's and may contain keys that are not ours; unknown keys survive a change. An unreadable value
//! never keeps the daemon from starting: it becomes a warning and counts as not set. The exception is
//! `daemon.local_only`, which is on if the file, or the value of the key in it, cannot be used.

use std::{fmt, fs::File, ops::RangeInclusive, time::Duration};

use serde_json::{Map, Value};
use thrum_core::{
    Error, ErrorKind, limits,
    quota::{Amounts, Measure},
};

use crate::{
    env::{Environment, Origin},
    paths::Repo,
    private_files,
};

/// A setting that can be changed in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Communicate with peers on this machine only.
    LocalOnly,
    /// Interval at which every peer is asked for news, regardless of its announcements.
    SyncInterval,
    /// Communicate with peers on the tailnet.
    Tailnet,
    /// How much data of one peer is stored before the daemon stops reading from that peer.
    Quota(Measure),
    /// Let mail start a turn in an idle Codex session.
    WakeCodex,
    /// How many messages two agents may exchange without a person; 0 for no limit.
    Exchange,
    /// Interval at which events are exchanged through git without news.
    GitInterval,
    /// The beginning of the names of the refs on a git remote.
    GitPrefix,
}

/// Generates [`Key::ALL`] from a list of the keys. A list that lacks a key does not compile; a key that is listed twice
/// causes a warning, which the checks of a change treat as an error.
macro_rules! list_of_keys {
    ($($key:ident $(($measure:ident))?),+ $(,)?) => {
        impl Key {
            /// All keys, in the order in which they are shown.
            pub const ALL: [Self; [$(stringify!($key)),+].len()] = [$(Self::$key $((Measure::$measure))?),+];

            /// Returns the index of the key in [`ALL`](Self::ALL).
            fn place(self) -> usize {
                match self {
                    $(Self::$key $((Measure::$measure))?)|+ => {}
                }
                Self::ALL.iter().position(|key| *key == self).expect("the match above has exactly the keys of the list")
            }
        }
    };
}

list_of_keys! {
    LocalOnly,
    SyncInterval,
    Tailnet,
    Quota(Bytes),
    Quota(Agents),
    Quota(Origins),
    Quota(Parked),
    WakeCodex,
    Exchange,
    GitInterval,
    GitPrefix,
}

impl Key {
    /// Returns the key's name in the form `SECTION.KEY`, as in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LocalOnly => "daemon.local_only",
            Self::SyncInterval => "daemon.sync_interval",
            Self::Tailnet => "tailnet.enabled",
            Self::Quota(Measure::Bytes) => "peers.max_mb",
            Self::Quota(Measure::Agents) => "peers.max_agents",
            Self::Quota(Measure::Origins) => "peers.max_daemons",
            Self::Quota(Measure::Parked) => "peers.max_parked",
            Self::WakeCodex => "codex.wake",
            Self::Exchange => "agents.exchange",
            Self::GitInterval => "git.interval",
            Self::GitPrefix => "git.ref_prefix",
        }
    }

    /// Returns the environment variable that overrides the file.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::LocalOnly => "THRUM_LOCAL",
            Self::SyncInterval => "THRUM_SYNC_INTERVAL",
            Self::Tailnet => "THRUM_TS_ENABLED",
            Self::Quota(Measure::Bytes) => "THRUM_PEER_MAX_MB",
            Self::Quota(Measure::Agents) => "THRUM_PEER_MAX_AGENTS",
            Self::Quota(Measure::Origins) => "THRUM_PEER_MAX_DAEMONS",
            Self::Quota(Measure::Parked) => "THRUM_PEER_MAX_PARKED",
            Self::WakeCodex => "THRUM_CODEX_WAKE",
            Self::Exchange => "THRUM_EXCHANGE",
            Self::GitInterval => "THRUM_GIT_INTERVAL",
            Self::GitPrefix => "THRUM_GIT_REF_PREFIX",
        }
    }

    /// Parses a value as a person types it: `true`, `30s`, `1m`, `500`. An interval without a unit is in seconds.
    ///
    /// # Errors
    /// `invalid`, with a description of the valid values.
    pub fn parse(self, text: &str) -> Result<Value, Error> {
        let wrong = || Error::new(ErrorKind::Invalid, format!("'{text}' is not {}", self.expected()));
        match self.form() {
            Form::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" | "on" | "yes" | "1" => Ok(true.into()),
                "false" | "off" | "no" | "0" => Ok(false.into()),
                _ => Err(wrong()),
            },
            Form::Interval(range) => {
                let seconds = match text.parse::<u64>() {
                    Ok(seconds) => Duration::from_secs(seconds),
                    Err(_) => text
                        .parse::<jiff::SignedDuration>()
                        .ok()
                        .and_then(|length| length.try_into().ok())
                        .ok_or_else(wrong)?,
                };
                if !range.contains(&seconds) || seconds.subsec_nanos() > 0 {
                    return Err(wrong());
                }
                Ok(seconds.as_secs().into())
            }
            Form::Number(range) => match text.parse::<u64>() {
                Ok(number) if range.contains(&number) => Ok(number.into()),
                _ => Err(wrong()),
            },
            Form::Refs if is_prefix(text) => Ok(text.into()),
            Form::Refs => Err(wrong()),
        }
    }

    fn expected(self) -> String {
        match self.form() {
            Form::Boolean => "true or false".to_owned(),
            Form::Interval(range) => {
                format!("a whole number of seconds from {} to {}", range.start().as_secs(), range.end().as_secs())
            }
            Form::Number(range) => format!("a whole number from {} to {}", range.start(), range.end()),
            Form::Refs => "the beginning of names of refs, such as refs/heads/thrum/".to_owned(),
        }
    }

    /// Returns the permitted values of the key.
    const fn form(self) -> Form {
        match self {
            Self::LocalOnly | Self::Tailnet | Self::WakeCodex => Form::Boolean,
            Self::SyncInterval => Form::Interval(limits::SYNC_INTERVAL_RANGE),
            Self::Quota(_) => Form::Number(QUOTAS),
            Self::Exchange => Form::Number(EXCHANGES),
            Self::GitInterval => Form::Interval(GIT_INTERVALS),
            Self::GitPrefix => Form::Refs,
        }
    }

    fn path(self) -> (&'static str, &'static str) {
        self.name().split_once('.').unwrap_or_default()
    }

    /// Returns the value in the file; `None` if the file has none. `Err` if the value is not valid for this key.
    fn in_file(self, file: &Map<String, Value>) -> Result<Option<Value>, Error> {
        let (section, key) = self.path();
        let Some(value) = file.get(section).and_then(|section| section.get(key)) else { return Ok(None) };
        let fits = match self.form() {
            Form::Boolean => value.is_boolean(),
            Form::Interval(range) => {
                value.as_u64().is_some_and(|seconds| range.contains(&Duration::from_secs(seconds)))
            }
            Form::Number(range) => value.as_u64().is_some_and(|number| range.contains(&number)),
            Form::Refs => value.as_str().is_some_and(is_prefix),
        };
        let wrong = || {
            Error::new(
                ErrorKind::Invalid,
                format!("{} in config.json is not {} and is ignored", self.name(), self.expected()),
            )
        };
        if fits {
            Ok(Some(value.clone()))
        } else {
            Err(wrong().hint(format!("thrum config set {} default", self.name())))
        }
    }

    /// Returns the value in the environment. `THRUM_LOCAL` can only switch the setting on, as in Go Thrum: a `.env`
    /// that came with a repository must not open what the user has closed. In a `.env`, `THRUM_CODEX_WAKE` can only
    /// switch the setting off: such a file must not start turns that the user pays for. `THRUM_GIT_REF_PREFIX` is not
    /// taken from a `.env`: such a file must not choose which refs are pushed.
    ///
    /// # Errors
    /// `invalid` if the value is not permitted for the key, or not permitted in a `.env`.
    fn in_environment(self, env: &Environment) -> Result<Option<Value>, Error> {
        let Some(text) = env.get(self.variable()) else { return Ok(None) };
        match (self, text) {
            (Self::LocalOnly, "1" | "true") => Ok(Some(true.into())),
            (Self::LocalOnly, "0" | "false") => Ok(None),
            (Self::WakeCodex, text) => match (self.parse(text), env.origin(self.variable())) {
                (Ok(wanted), Some(Origin::ThrumFile | Origin::RootFile)) if wanted == true => {
                    Err(format!("{} cannot be enabled by a .env and is ignored", self.variable()))
                }
                (Ok(wanted), _) => Ok(Some(wanted)),
                (Err(_), _) => Err(format!("{} is not {} and is ignored", self.variable(), self.expected())),
            },
            (Self::LocalOnly, _) => Err(format!("{} is not 1 or true and is ignored", self.variable())),
            (Self::GitPrefix, _) if env.origin(self.variable()) != Some(Origin::Process) => {
                Err(format!("{} cannot be set by a .env and is ignored", self.variable()))
            }
            (
                Self::SyncInterval
                | Self::Tailnet
                | Self::Quota(_)
                | Self::Exchange
                | Self::GitInterval
                | Self::GitPrefix,
                text,
            ) => self
                .parse(text)
                .map(Some)
                .map_err(|_| format!("{} is not {} and is ignored", self.variable(), self.expected())),
        }
        .map_err(|message| {
            let error = Error::new(ErrorKind::Invalid, message);
            match env.origin(self.variable()) {
                Some(Origin::Process) | None => error.hint(format!("unset {}", self.variable())),
                Some(file) => error.hint(format!("Mend it in {file}.")),
            }
        })
    }

    fn default(self) -> Value {
        match self {
            Self::LocalOnly | Self::Tailnet | Self::WakeCodex => false.into(),
            Self::SyncInterval => limits::SYNC_INTERVAL.as_secs().into(),
            Self::Exchange => limits::EXCHANGE.into(),
            Self::GitInterval => thrum_git::limits::INTERVAL.as_secs().into(),
            Self::GitPrefix => thrum_git::PREFIX.into(),
            Self::Quota(Measure::Bytes) => (Amounts::QUOTA.bytes / MEGABYTE).into(),
            Self::Quota(measure) => Amounts::QUOTA.of(measure).into(),
        }
    }
}

/// The permitted values of a key.
enum Form {
    /// `true` and `false`.
    Boolean,
    /// Whole seconds in this range.
    Interval(RangeInclusive<Duration>),
    /// Whole numbers in this range.
    Number(RangeInclusive<u64>),
    /// The beginning of names of refs.
    Refs,
}

/// Valid intervals of exchanges through git. Shorter ones would only cost the host: news are published at once.
const GIT_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(86_400);

/// Returns `true` for the beginning of names of refs: `refs/`, at least one more part, a slash at its end.
fn is_prefix(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let is_part = |part: &&str| {
        !part.is_empty() && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    match &parts[..] {
        // All branches, all tags, and what was fetched, are no place of our own.
        ["refs", "heads" | "tags" | "remotes", ""] => false,
        ["refs", names @ .., ""] => !names.is_empty() && names.iter().all(is_part) && text.len() <= 100,
        _ => false,
    }
}

/// Valid quotas, in megabytes for [`Measure::Bytes`]. The upper bound is more than any machine stores.
const QUOTAS: RangeInclusive<u64> = 1..=1_000_000_000;

/// Valid limits of an exchange; 0 means no limit.
const EXCHANGES: RangeInclusive<u64> = 0..=10_000;

const MEGABYTE: u64 = 1 << 20;

/// The source of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Neither a variable nor `config.json` sets the value.
    Default,
    /// `config.json`.
    File,
    /// No variable sets the value, and `config.json`, or the value in it, cannot be used.
    Unusable,
    /// An environment variable.
    Variable(Origin),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("config.json"),
            Self::Unusable => f.write_str("config.json cannot be used"),
            Self::Variable(origin) => origin.fmt(f),
        }
    }
}

/// A value and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// A boolean, a number of seconds, or another whole number.
    pub value: Value,
    /// The source of the value.
    pub source: Source,
}

/// The settings of a repository.
#[derive(Clone, Debug)]
pub struct Config {
    settings: [Setting; Key::ALL.len()],
    /// Keys in the file, as `SECTION` or `SECTION.KEY`, that are kept but have no meaning here.
    pub unknown: Vec<String>,
    /// Problems in the file and the variables, one sentence each.
    pub warnings: Vec<Error>,
}

impl Config {
    /// Reads the file; the variables of `env` take precedence. Never fails: an unreadable value becomes a warning.
    ///
    /// A file that cannot be read, or whose `local_only` is invalid, may have been meant to set `local_only`, so that
    /// setting is then assumed to be on.
    pub fn load(repo: &Repo, env: &Environment) -> Self {
        let mut warnings = Vec::new();
        let (file, readable) = match read(repo) {
            Ok(file) => (file, true),
            Err(error) => {
                warnings.push(error);
                (Map::new(), false)
            }
        };
        let settings = Key::ALL.map(|key| {
            let said = key.in_environment(env).unwrap_or_else(|error| {
                warnings.push(error);
                None
            });
            if let Some(value) = said {
                return Setting {
                    value,
                    source: Source::Variable(env.origin(key.variable()).unwrap_or(Origin::Process)),
                };
            }
            match key.in_file(&file) {
                Ok(Some(value)) => Setting { value, source: Source::File },
                Ok(None) if readable => Setting { value: key.default(), source: Source::Default },
                unusable => {
                    warnings.extend(unusable.err());
                    let value = if key == Key::LocalOnly { true.into() } else { key.default() };
                    Setting { value, source: Source::Unusable }
                }
            }
        });
        Self { settings, unknown: unknown(&file), warnings }
    }

    /// Reads the current value of every [`Key`]: from `config.json`, or from a variable of this process or of a `.env`
    /// file, which overrides it. Does not run git. Some variables count in a `.env` only if git does not track that
    /// file; they are ignored here, and none of them overrides a key ([`Environment::load_without_git`]). Leaves out
    /// the warnings about the `.env` files.
    pub fn current(repo: &Repo) -> Self {
        Self::load(repo, &Environment::load_without_git(repo, std::env::vars_os()))
    }

    /// Returns one setting.
    pub fn get(&self, key: Key) -> &Setting {
        &self.settings[key.place()]
    }

    /// Returns how much data of one peer may be stored.
    pub fn quota(&self) -> Amounts {
        let of = |measure| self.get(Key::Quota(measure)).value.as_u64().unwrap_or_else(|| Amounts::QUOTA.of(measure));
        Amounts {
            bytes: of(Measure::Bytes).saturating_mul(MEGABYTE),
            agents: of(Measure::Agents),
            origins: of(Measure::Origins),
            parked: of(Measure::Parked),
        }
    }

    /// Returns `agents.exchange`, or `None` if there is no limit.
    pub fn exchange(&self) -> Option<u64> {
        self.get(Key::Exchange).value.as_u64().filter(|limit| *limit > 0)
    }

    /// Returns `git.interval`.
    pub fn git_interval(&self) -> Duration {
        self.get(Key::GitInterval).value.as_u64().map_or(thrum_git::limits::INTERVAL, Duration::from_secs)
    }

    /// Returns `git.ref_prefix`.
    pub fn git_prefix(&self) -> String {
        self.get(Key::GitPrefix).value.as_str().unwrap_or(thrum_git::PREFIX).to_owned()
    }

    /// Returns `daemon.local_only`.
    pub fn local_only(&self) -> bool {
        self.get(Key::LocalOnly).value != false
    }

    /// Returns the error for what `daemon.local_only` forbids; `None` while it is off. Message and hint name the
    /// variable if that switched it on, because the file cannot switch it off then.
    pub fn kept_here(&self) -> Option<Error> {
        if !self.local_only() {
            return None;
        }
        let what = "daemon.local_only keeps this daemon from other machines";
        let variable = Key::LocalOnly.variable();
        let (why, hint) = match self.get(Key::LocalOnly).source {
            Source::Variable(Origin::Process) => (
                format!(", because {variable} is set in its environment"),
                format!("unset {variable}, then thrum daemon restart"),
            ),
            Source::Variable(file) => (
                format!(", because {variable} is set in {file}"),
                format!("Remove {variable} from {file}, then thrum daemon restart"),
            ),
            Source::File | Source::Default | Source::Unusable => {
                (String::new(), "thrum config set daemon.local_only false, then thrum daemon restart".to_owned())
            }
        };
        Some(Error::new(ErrorKind::Refused, format!("{what}{why}")).hint(hint))
    }

    /// Returns `tailnet.enabled`.
    pub fn tailnet(&self) -> bool {
        self.get(Key::Tailnet).value == true
    }

    /// Returns `daemon.sync_interval`, which is within [`limits::SYNC_INTERVAL_RANGE`].
    pub fn sync_interval(&self) -> Duration {
        self.get(Key::SyncInterval).value.as_u64().map_or(limits::SYNC_INTERVAL, Duration::from_secs)
    }
}

/// Changes one key of the file, or removes it with `None`. All other content stays. Returns the previous value.
///
/// # Errors
/// `invalid` if the file is neither blank nor a JSON object, or if the key's section is not an object; file system
/// errors. A file that is missing, empty or blank counts as an empty object.
pub fn set(repo: &Repo, key: Key, value: Option<Value>) -> Result<Option<Value>, Error> {
    // The lock serialises concurrent changes, so that the second one reads what the first one wrote. The directory is
    // locked because it always exists.
    let dir = repo.thrum_dir();
    let lock = File::open(dir)
        .and_then(|dir| dir.lock().map(|()| dir))
        .map_err(|error| private_files::io_error("lock", dir, &error))?;
    let mut file = read(repo)?;
    let (section, name) = key.path();
    let section = file.entry(section).or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(section) = section else {
        return Err(unusable(repo, &format!("'{}' is no object", key.path().0)));
    };
    let before = match value {
        Some(value) => section.insert(name.to_owned(), value),
        None => section.remove(name),
    };
    let text = format!("{:#}\n", Value::Object(file));
    private_files::write_private(&repo.config(), text.as_bytes())?;
    drop(lock);
    Ok(before)
}

fn read(repo: &Repo) -> Result<Map<String, Value>, Error> {
    let Some(bytes) = private_files::read_private(&repo.config(), limits::MAX_ENV_FILE_BYTES)? else {
        return Ok(Map::new());
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(file)) => Ok(file),
        Ok(_) => Err(unusable(repo, "it is no JSON object")),
        Err(error) => Err(unusable(repo, &format!("it is no JSON: {error}"))),
    }
}

fn unusable(repo: &Repo, why: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("{} cannot be used: {why}", repo.config().display()))
        .hint(format!("Mend it, or move it away: mv {0} {0}.unusable", repo.config().display()))
}

fn unknown(file: &Map<String, Value>) -> Vec<String> {
    let mut names = Vec::new();
    for (section, value) in file {
        match value {
            Value::Object(keys) if Key::ALL.iter().any(|key| key.path().0 == section) => {
                let known = |name: &String| Key::ALL.iter().any(|key| key.path() == (section.as_str(), name.as_str()));
                names.extend(keys.keys().filter(|name| !known(name)).map(|name| format!("{section}.{name}")));
            }
            _ => names.push(section.clone()),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use serde_json::json;

    use super::*;

    fn fixture() -> (tempfile::TempDir, Repo) {
        let guard = tempfile::tempdir().unwrap();
        let repo = Repo::create(guard.path(), None).unwrap();
        (guard, repo)
    }

    fn load(repo: &Repo, process: &[(&str, &str)]) -> Config {
        Config::load(repo, &Environment::load(repo, process.iter().map(|(name, value)| (name.into(), value.into()))))
    }

    #[test]
    fn the_environment_wins_over_the_file_wins_over_the_default() {
        let (_guard, repo) = fixture();
        let config = load(&repo, &[]);
        assert_eq!(
            (config.local_only(), config.sync_interval(), config.warnings.len()),
            (false, limits::SYNC_INTERVAL, 0)
        );
        assert_eq!(config.get(Key::LocalOnly).source, Source::Default);
        fs::write(repo.config(), r#"{"daemon":{"local_only":false,"sync_interval":60}}"#).unwrap();
        let config = load(&repo, &[]);
        assert_eq!(
            (config.sync_interval(), config.get(Key::SyncInterval).source),
            (Duration::from_secs(60), Source::File)
        );
        fs::write(&repo.env_files()[0], "THRUM_SYNC_INTERVAL=120\n").unwrap();
        fs::set_permissions(&repo.env_files()[0], fs::Permissions::from_mode(0o600)).unwrap();
        let config = load(&repo, &[("THRUM_LOCAL", "1")]);
        assert!(config.local_only());
        assert_eq!(config.get(Key::LocalOnly).source.to_string(), "environment");
        assert_eq!(
            (config.sync_interval(), config.get(Key::SyncInterval).source.to_string()),
            (Duration::from_secs(120), ".thrum/.env".into())
        );
    }

    #[test]
    fn the_refusal_of_other_machines_names_what_has_to_be_changed() {
        let (_guard, repo) = fixture();
        let hint = |process: &[(&str, &str)]| load(&repo, process).kept_here().and_then(|refusal| refusal.hint);
        assert_eq!(hint(&[]), None);
        let variable = [("THRUM_LOCAL", "1")];
        assert_eq!(hint(&variable).unwrap(), "unset THRUM_LOCAL, then thrum daemon restart");
        fs::write(repo.config(), r#"{"daemon":{"local_only":true}}"#).unwrap();
        assert_eq!(hint(&[]).unwrap(), "thrum config set daemon.local_only false, then thrum daemon restart");
        fs::write(repo.thrum_dir().join(".env"), "THRUM_LOCAL=true\n").unwrap();
        assert_eq!(hint(&[]).unwrap(), "Remove THRUM_LOCAL from .thrum/.env, then thrum daemon restart");
    }

    #[test]
    fn the_variable_switches_local_only_on_and_never_off() {
        let (_guard, repo) = fixture();
        fs::write(repo.config(), r#"{"daemon":{"local_only":true}}"#).unwrap();
        for value in ["0", "false", "", "maybe"] {
            let config = load(&repo, &[("THRUM_LOCAL", value)]);
            assert!(config.local_only(), "{value}");
            assert_eq!(config.warnings.len(), usize::from(value == "maybe"), "{value}");
        }
    }

    #[test]
    fn a_file_of_variables_lets_mail_start_no_turns() {
        let (_guard, repo) = fixture();
        let wakes = |process: &[(&str, &str)]| load(&repo, process).get(Key::WakeCodex).value == true;
        fs::write(&repo.env_files()[0], "THRUM_CODEX_WAKE=1\n").unwrap();
        fs::set_permissions(&repo.env_files()[0], fs::Permissions::from_mode(0o600)).unwrap();
        assert!(!wakes(&[]));
        let warnings = load(&repo, &[]).warnings;
        assert!(
            matches!(&warnings[..], [one] if one.message.contains("THRUM_CODEX_WAKE") && one.hint.as_deref().is_some_and(|hint| hint.contains(".thrum/.env"))),
            "{warnings:?}"
        );
        assert!(wakes(&[("THRUM_CODEX_WAKE", "1")]), "its user says so");
        set(&repo, Key::WakeCodex, Some(true.into())).unwrap();
        assert!(wakes(&[]));
        fs::write(&repo.env_files()[0], "THRUM_CODEX_WAKE=0\n").unwrap();
        assert!(!wakes(&[]), "but it may switch it off");
        assert_eq!(load(&repo, &[]).warnings.len(), 0);
    }

    #[test]
    fn an_unreadable_setting_is_a_warning_and_never_enables_the_network() {
        let (_guard, repo) = fixture();
        for text in [
            "{",
            "[]",
            r#"{"daemon":{"local_only":"no","sync_interval":1}}"#,
            r#"{"daemon":{"local_only":0,"sync_interval":"60"}}"#,
        ] {
            fs::write(repo.config(), text).unwrap();
            let config = load(&repo, &[("THRUM_SYNC_INTERVAL", "4")]);
            assert!(config.local_only() && !config.warnings.is_empty(), "{text}");
            assert_eq!(config.sync_interval(), limits::SYNC_INTERVAL, "{text}");
            assert_eq!(config.get(Key::LocalOnly).source, Source::Unusable, "{text}");
        }
    }

    #[test]
    fn a_change_keeps_everything_else_and_makes_the_file_private() {
        let (_guard, repo) = fixture();
        fs::write(
            repo.config(),
            r#"{"runtime":{"primary":"claude"},"daemon":{"ws_port":"auto","local_only":true},"z":[1,{"a":null}]}"#,
        )
        .unwrap();
        assert_eq!(set(&repo, Key::LocalOnly, Some(false.into())).unwrap(), Some(true.into()));
        assert_eq!(set(&repo, Key::SyncInterval, Some(30.into())).unwrap(), None);
        assert_eq!(set(&repo, Key::LocalOnly, None).unwrap(), Some(false.into()));
        let file: Value = serde_json::from_slice(&fs::read(repo.config()).unwrap()).unwrap();
        let expected = json!({"runtime": {"primary": "claude"}, "daemon": {"ws_port": "auto", "sync_interval": 30}, "z": [1, {"a": null}]});
        assert_eq!(file, expected);
        assert_eq!(fs::metadata(repo.config()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load(&repo, &[]).unknown, ["daemon.ws_port", "runtime", "z"]);
        for text in ["", " \n"] {
            fs::write(repo.config(), text).unwrap();
            assert_eq!(
                set(&repo, Key::LocalOnly, Some(true.into())).unwrap(),
                None,
                "{text:?} counts as an empty object"
            );
        }
        for text in ["no json", "[]", r#"{"daemon":7}"#] {
            fs::write(repo.config(), text).unwrap();
            assert_eq!(set(&repo, Key::LocalOnly, Some(true.into())).unwrap_err().kind, ErrorKind::Invalid);
            assert_eq!(fs::read_to_string(repo.config()).unwrap(), text, "what somebody wrote is not lost");
        }
    }

    #[test]
    fn every_key_has_its_own_setting_and_range() {
        for key in Key::ALL {
            let same = Key::ALL.into_iter().filter(|other| {
                other.place() == key.place() || other.name() == key.name() || other.variable() == key.variable()
            });
            assert_eq!(same.count(), 1, "{key:?}");
        }
        let (_guard, repo) = fixture();
        fs::write(repo.config(), r#"{"peers":{"max_agents":0},"agents":{"exchange":0}}"#).unwrap();
        let config = load(&repo, &[("THRUM_EXCHANGE", "10001"), ("THRUM_PEER_MAX_PARKED", "10001")]);
        assert_eq!(config.quota().agents, Amounts::QUOTA.agents, "a quota is at least 1");
        assert_eq!(config.quota().parked, 10_001);
        assert_eq!(config.get(Key::Exchange).value, 0, "no limit, and the variable is out of range");
        assert_eq!(config.warnings.len(), 2);
    }

    #[test]
    fn values_are_parsed_in_the_usual_spellings_and_bounded() {
        for (text, seconds) in [("30", 30), ("30s", 30), ("2m", 120), ("1h", 3600), ("5", 5)] {
            assert_eq!(Key::SyncInterval.parse(text).unwrap(), seconds, "{text}");
        }
        for text in ["", "4", "3601", "0", "-30", "soon", "1.5", "5500ms", "99999999999999999999"] {
            assert!(Key::SyncInterval.parse(text).is_err(), "{text}");
        }
        assert_eq!(
            (Key::LocalOnly.parse("ON").unwrap(), Key::LocalOnly.parse("0").unwrap()),
            (true.into(), false.into())
        );
        assert!(Key::LocalOnly.parse("perhaps").unwrap_err().message.contains("true or false"));
    }
}
