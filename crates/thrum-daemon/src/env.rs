//! Settings from three sources: the process environment, then `.thrum/.env`, then the `.env` beside `.thrum`. The first
//! source that sets a variable wins.
//!
//! A `.env` file may come from the author of a cloned repository. It can therefore set Thrum's own variables only: no
//! `PATH`, no `LD_PRELOAD`. Its content goes into a map and never into the process environment, which child processes
//! inherit. Warnings never contain a value, because it may be a key.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thrum_core::{Error, ErrorKind, SetDigest, limits};

use crate::{logging::LogFormat, origin, paths::Repo, private_files};

/// Variables that a `.env` may not set if git tracks the file, or cannot say whether it does. A cloned repository
/// could otherwise send mail to somebody else's tailnet, and a tracked key is readable by anyone with a clone of the
/// repository.
pub const NOT_FROM_THE_REPOSITORY: [&str; 4] =
    ["THRUM_TS_AUTHKEY", "THRUM_TS_CONTROL_URL", "THRUM_TAILSCALE_CONTROL_URL", "THRUM_TS_STATE_DIR"];

/// Variables that no file may set: the program that the daemon runs, and the Tailscale socket that it asks to identify
/// callers. Files also arrive with unpacked archives and packages, which git knows nothing about.
pub const NOT_FROM_A_FILE: [&str; 2] = ["THRUM_TS_TAILSCALED", "THRUM_TS_SOCKET"];

/// A variable that has no key in `config.json`.
pub struct Variable {
    /// The variable's name.
    pub name: &'static str,
    /// `true` if the value is never shown.
    pub secret: bool,
}

/// The variables that a daemon reads in addition to those of the keys in `config.json`, in display order.
pub const VARIABLES: [Variable; 11] = [
    Variable { name: "THRUM_HOSTNAME", secret: false },
    Variable { name: "THRUM_LOG", secret: false },
    Variable { name: "THRUM_TS_HOSTNAME", secret: false },
    Variable { name: "THRUM_TS_PORT", secret: false },
    Variable { name: "THRUM_TS_MODE", secret: false },
    Variable { name: "THRUM_TS_STATE_DIR", secret: false },
    Variable { name: "THRUM_TS_SOCKET", secret: false },
    Variable { name: "THRUM_TS_TAILSCALED", secret: false },
    Variable { name: "THRUM_TS_CONTROL_URL", secret: false },
    Variable { name: "THRUM_TAILSCALE_CONTROL_URL", secret: false },
    Variable { name: "THRUM_TS_AUTHKEY", secret: true },
];

/// Thrum's own variables by name, and the problems found in the files.
#[derive(Default)]
pub struct Environment {
    values: BTreeMap<String, (String, Origin)>,
    warnings: Vec<Error>,
}

/// The source of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The process's environment.
    Process,
    /// `.thrum/.env`.
    ThrumFile,
    /// The `.env` beside `.thrum`.
    RootFile,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "environment",
            Self::ThrumFile => ".thrum/.env",
            Self::RootFile => ".env",
        })
    }
}

/// A variable in effect, in a form that may be shown: a secret is replaced by a mark that is equal for equal secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effective {
    /// The variable's name.
    pub name: String,
    /// The value; `None` if it is a secret or contains `@`, as a URL with a password does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The mark of a value that is not shown: eight hexadecimal digits, equal for equal values of this variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
}

impl Environment {
    /// Returns those of [`VARIABLES`] that are set, as a daemon started now would read them. Variables that override a
    /// key of `config.json` are not included.
    pub fn effective(&self) -> Vec<Effective> {
        let shown = |variable: &Variable| {
            let (name, value) = (variable.name.to_owned(), self.get(variable.name)?);
            // A URL with a password in it is not meant to be shown.
            let secret = variable.secret || value.contains('@');
            let mark =
                || SetDigest::of(format!("thrum variable {name} {value}").as_bytes()).to_string()[..8].to_owned();
            Some(if secret {
                Effective { mark: Some(mark()), value: None, name }
            } else {
                Effective { mark: None, value: Some(value.to_owned()), name }
            })
        };
        VARIABLES.iter().filter_map(shown).collect()
    }

    /// Reads the two files of `repo`; the variables of `process` take precedence. Never fails: a file that cannot be
    /// read or is not UTF-8 becomes a [warning](Self::warnings). So does a single line about Thrum's variables that
    /// cannot be read; the other lines of its file still count.
    pub fn load(repo: &Repo, process: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self::read(repo, process, origin::is_tracked)
    }

    /// Reads like [`load`](Self::load), but without git: ignores the variables in files for which git would have to be
    /// run, [`NOT_FROM_THE_REPOSITORY`]. None of them overrides a key of `config.json`, so this suffices for
    /// [`Config`](crate::config::Config).
    pub fn load_without_git(repo: &Repo, process: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self::read(repo, process, |_, _| None)
    }

    /// Reads the sources. `is_tracked` returns whether git tracks a file; `None` if that is unknown.
    fn read(
        repo: &Repo,
        process: impl IntoIterator<Item = (OsString, OsString)>,
        is_tracked: fn(&Path, &str) -> Option<bool>,
    ) -> Self {
        let mut all = Self::default();
        for (name, value) in process {
            if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) {
                all.offer(name, value, Origin::Process);
            }
        }
        for (file, origin) in repo.env_files().iter().zip([Origin::ThrumFile, Origin::RootFile]) {
            if let Err(error) = all.read_file(file, origin, is_tracked) {
                all.warnings.push(error);
            }
        }
        all
    }

    /// Returns the value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(value, _)| value.as_str())
    }

    /// Returns the source of a variable.
    pub fn origin(&self, name: &str) -> Option<Origin> {
        self.values.get(name).map(|(_, origin)| *origin)
    }

    /// Returns the names of all of Thrum's variables that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Problems in the files that the user should know about, one sentence each.
    pub fn warnings(&self) -> &[Error] {
        &self.warnings
    }

    /// Records one of Thrum's variables unless an earlier source has set it. An empty value counts as not set, as in Go
    /// Thrum.
    fn offer(&mut self, name: String, value: String, origin: Origin) {
        if is_ours(&name) && !value.is_empty() {
            self.values.entry(name).or_insert((value, origin));
        }
    }

    /// Offers a variable as if it stood in the repository's `.env`.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn offer_of_file(&mut self, name: String, value: String) {
        self.offer(name, value, Origin::RootFile);
    }

    fn read_file(
        &mut self,
        path: &Path,
        origin: Origin,
        is_tracked: fn(&Path, &str) -> Option<bool>,
    ) -> Result<(), Error> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(private_files::io_error("read", path, &error)),
        };
        let bytes = private_files::read_bounded(&file, path, limits::MAX_ENV_FILE_BYTES)?;
        let Parsed { mut values, unreadable: wrong, may_hold_secret } =
            Parsed::read(bytes).map_err(|line| unreadable(path, line))?;
        self.warnings.extend(wrong.into_iter().map(|line| unreadable(path, line)));
        self.leave_out_what_came_with_the_repository(path, &mut values, is_tracked);
        values.into_iter().for_each(|(name, value)| self.offer(name, value, origin));
        let mode = file.metadata().map_err(|error| private_files::io_error("look at", path, &error))?.mode();
        if may_hold_secret && mode & 0o044 != 0 {
            let warning = Error::new(ErrorKind::Refused, format!("{} can be read by other users", path.display()));
            self.warnings.push(warning.hint(format!("Run `chmod 600 {}`.", path.display())));
        }
        Ok(())
    }
}

impl Environment {
    fn leave_out_what_came_with_the_repository(
        &mut self,
        path: &Path,
        values: &mut BTreeMap<String, String>,
        is_tracked: fn(&Path, &str) -> Option<bool>,
    ) {
        self.leave_out(
            &NOT_FROM_A_FILE,
            path,
            values,
            "a file",
            "Set it in the environment of the shell that starts the daemon.",
        );
        // Run git only if the file sets one of these variables.
        let (dir, name) =
            (path.parent().unwrap_or(path), path.file_name().and_then(|name| name.to_str()).unwrap_or_default());
        if NOT_FROM_THE_REPOSITORY.iter().any(|name| values.contains_key(*name)) && is_tracked(dir, name) != Some(false)
        {
            let hint = format!("git rm --cached {name} && echo {name} >> .gitignore");
            self.leave_out(&NOT_FROM_THE_REPOSITORY, path, values, "a file that git tracks", &hint);
        }
    }

    fn leave_out(
        &mut self,
        names: &[&str],
        path: &Path,
        values: &mut BTreeMap<String, String>,
        source: &str,
        hint: &str,
    ) {
        let found: Vec<&str> = names.iter().copied().filter(|name| values.remove(*name).is_some()).collect();
        if !found.is_empty() {
            let what = format!("{} may not be set in {source} ({}) and is ignored", found.join(", "), path.display());
            self.warnings.push(Error::new(ErrorKind::Refused, what).hint(hint));
        }
    }
}

/// Returns `true` if a settings file contains one of Thrum's secrets, or may contain one because the file, or one of
/// its lines about Thrum, cannot be read.
pub fn may_hold_secret(path: &Path) -> bool {
    let bytes = match File::open(path) {
        Ok(file) => private_files::read_bounded(&file, path, limits::MAX_ENV_FILE_BYTES),
        Err(error) => return error.kind() != io::ErrorKind::NotFound,
    };
    bytes.map_or(true, |bytes| Parsed::read(bytes).map_or(true, |parsed| parsed.may_hold_secret))
}

/// The parsed content of one file.
#[derive(Default)]
pub(crate) struct Parsed {
    /// Thrum's own variables.
    pub(crate) values: BTreeMap<String, String>,
    /// Numbers, from 1, of the lines about Thrum's variables that cannot be read.
    pub(crate) unreadable: Vec<usize>,
    /// `true` if the file contains one of Thrum's secrets, or an unreadable line about Thrum that may contain one.
    may_hold_secret: bool,
}

impl Parsed {
    /// Parses a file's bytes. If they are not UTF-8, the error is the number of the first invalid line.
    pub(crate) fn read(bytes: Vec<u8>) -> Result<Self, usize> {
        let text =
            String::from_utf8(bytes).map_err(|error| line_of(error.as_bytes(), error.utf8_error().valid_up_to()))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut parsed = Self::default();
        for item in dotenvy::from_read_iter(text.as_bytes()) {
            match item {
                Ok((name, value)) if is_ours(&name) => {
                    parsed.may_hold_secret |= VARIABLES.iter().any(|variable| variable.secret && variable.name == name);
                    // Within one file the last assignment wins, as in every shell.
                    parsed.values.insert(name, value);
                }
                Err(dotenvy::Error::LineParse(wrong, _)) => {
                    // The error may contain only the value, or everything from an open quote to the end of the file.
                    let wrong = wrong.trim();
                    let Some(at) = text.find(wrong) else { continue };
                    let begin = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
                    if names_ours(&text[begin..at + wrong.len()]) {
                        parsed.may_hold_secret = true;
                        parsed.unreadable.push(line_of(text.as_bytes(), at));
                    }
                }
                // A variable of another program. No other error occurs, because the text is in memory.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(parsed)
    }
}

impl fmt::Debug for Environment {
    /// Shows names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("THRUM_") || name.starts_with("TAILSCALE_")
}

/// Returns `true` if another host on the network could pose as the control server of this URL: the URL is plain http
/// and its host is not this machine.
fn is_open_to_others(url: &str) -> bool {
    let plain = url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let host = url.get(7..).unwrap_or_default().split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.split(']').next())
        .unwrap_or_else(|| host.split(':').next().unwrap_or_default());
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    plain && !is_here
}

fn names_ours(text: &str) -> bool {
    text.contains("THRUM_") || text.contains("TAILSCALE_")
}

fn line_of(text: &[u8], at: usize) -> usize {
    text.iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

fn unreadable(path: &Path, line: usize) -> Error {
    Error::new(ErrorKind::Invalid, format!("{}: line {line} cannot be read and is ignored", path.display()))
        .hint("Write NAME=value; quote a value that contains spaces, quotes or #.")
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns the value itself, for callers that have to pass it on.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The variables with their types. An invalid value counts as not set and causes a warning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `THRUM_TS_HOSTNAME`: this daemon's name towards its peers.
    pub ts_hostname: Option<String>,
    /// `THRUM_TS_PORT`: the port for peers.
    pub ts_port: Option<u16>,
    /// `THRUM_TS_AUTHKEY`: the key that logs the daemon's own node in to the tailnet.
    pub ts_authkey: Option<Secret>,
    /// `THRUM_TS_STATE_DIR`: where the daemon's own node keeps its identity; may be relative to the repository.
    pub ts_state_dir: Option<PathBuf>,
    /// `THRUM_TS_CONTROL_URL`, or its other name `THRUM_TAILSCALE_CONTROL_URL`: the control server of the tailnet.
    pub ts_control_url: Option<String>,
    /// `THRUM_TS_MODE`: which Tailscale node is used, `auto`, `host` or `own`.
    pub ts_mode: Option<String>,
    /// `THRUM_TS_SOCKET`: the socket of the machine's own Tailscale.
    pub ts_socket: Option<PathBuf>,
    /// `THRUM_TS_TAILSCALED`: the program that runs the daemon's own node.
    pub ts_tailscaled: Option<PathBuf>,
    /// `THRUM_HOSTNAME`: the host name shown with agents registered here. Defaults to the machine's name.
    pub hostname: Option<String>,
    /// `THRUM_LOG`: the form of the lines of the log file, `text` or `json`.
    pub log_format: LogFormat,
}

impl Settings {
    /// Reads the settings. The second part of the result contains the warnings.
    pub fn read(env: &Environment) -> (Self, Vec<Error>) {
        let mut warnings = Vec::new();
        let mut wrong = |name: &str, expected: &str| {
            warnings.push(Error::new(ErrorKind::Invalid, format!("{name} is not {expected} and is ignored")));
        };
        let text = |name: &str| env.get(name).map(str::to_owned);
        let ts_port = env.get("THRUM_TS_PORT").and_then(|port| match port.parse() {
            Ok(port) if port > 0 => Some(port),
            _ => {
                wrong("THRUM_TS_PORT", "a port between 1 and 65535");
                None
            }
        });
        let ts_hostname = text("THRUM_TS_HOSTNAME").filter(|name| {
            let fine = thrum_core::name::check_peer(name).is_ok();
            if !fine {
                wrong("THRUM_TS_HOSTNAME", "a name of 1 to 255 printable characters");
            }
            fine
        });
        let ts_mode = text("THRUM_TS_MODE").filter(|mode| {
            let fine = ["auto", "host", "own"].contains(&mode.as_str());
            if !fine {
                wrong("THRUM_TS_MODE", "auto, host or own");
            }
            fine
        });
        let log_format = env.get("THRUM_LOG").map_or_else(LogFormat::default, |name| {
            LogFormat::parse(name).unwrap_or_else(|| {
                wrong("THRUM_LOG", "text or json");
                LogFormat::default()
            })
        });
        let ts_control_url = text("THRUM_TS_CONTROL_URL").or_else(|| text("THRUM_TAILSCALE_CONTROL_URL"));
        if ts_control_url.as_deref().is_some_and(is_open_to_others) {
            warnings.push(
                Error::new(
                    ErrorKind::Refused,
                    "THRUM_TS_CONTROL_URL is plain http: anyone on the network path can choose the members of the tailnet",
                )
                .hint("Use https, or a control server on this machine."),
            );
        }
        let settings = Self {
            ts_hostname,
            ts_port,
            ts_authkey: text("THRUM_TS_AUTHKEY").map(Secret),
            ts_state_dir: env.get("THRUM_TS_STATE_DIR").map(PathBuf::from),
            ts_control_url,
            ts_mode,
            ts_socket: env.get("THRUM_TS_SOCKET").map(PathBuf::from),
            ts_tailscaled: env.get("THRUM_TS_TAILSCALED").map(PathBuf::from),
            hostname: text("THRUM_HOSTNAME"),
            log_format,
        };
        (settings, warnings)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    struct Fixture {
        _guard: tempfile::TempDir,
        repo: Repo,
    }

    fn fixture() -> Fixture {
        let guard = tempfile::tempdir().unwrap();
        let repo = Repo::create(guard.path(), None).unwrap();
        Fixture { _guard: guard, repo }
    }

    impl Fixture {
        fn write(&self, which: usize, content: impl AsRef<[u8]>) {
            let path = &self.repo.env_files()[which];
            fs::write(path, content).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }

        fn load(&self, process: &[(&str, &str)]) -> Environment {
            Environment::load(&self.repo, process.iter().map(|(name, value)| (name.into(), value.into())))
        }
    }

    #[test]
    fn the_environment_wins_then_the_thrum_file_then_the_root_file() {
        let place = fixture();
        place.write(0, "THRUM_A=near\nTHRUM_B=near\n");
        place.write(1, "THRUM_A=far\nTHRUM_B=far\nTHRUM_C=far\nTAILSCALE_X=far\nTHRUM_EMPTY=far\n");
        let env = place.load(&[("THRUM_A", "process"), ("THRUM_EMPTY", "")]);
        let found: Vec<_> =
            ["THRUM_A", "THRUM_B", "THRUM_C", "TAILSCALE_X", "THRUM_EMPTY"].iter().map(|name| env.get(name)).collect();
        assert_eq!(found, [Some("process"), Some("near"), Some("far"), Some("far"), Some("far")]);
        assert_eq!(env.warnings(), []);
    }

    #[test]
    fn c36_a_tracked_file_cannot_set_the_tailnet_and_no_file_can_set_a_program() {
        use std::time::{Duration, Instant};

        let place = fixture();
        let root = place.repo.main_root().to_owned();
        let all = NOT_FROM_THE_REPOSITORY.iter().chain(&NOT_FROM_A_FILE);
        let text = all.map(|name| format!("{name}=tskey-secret\n")).collect::<String>() + "THRUM_TS_HOSTNAME=laptop\n";
        place.write(1, &text);
        let outside = place.load(&[]);
        assert_eq!((outside.get("THRUM_TS_AUTHKEY"), outside.get("THRUM_TS_TAILSCALED")), (Some("tskey-secret"), None));
        let git = |args: &[&str]| {
            assert_eq!(crate::git::status(&root, args, Instant::now() + Duration::from_secs(60)), Some(0), "{args:?}")
        };
        git(&["init", "--quiet"]);
        assert_eq!(place.load(&[]).get("THRUM_TS_AUTHKEY"), Some("tskey-secret"), "git does not track it");
        git(&["add", "--force", ".env"]);
        let env = place.load(&[("THRUM_TS_STATE_DIR", "mine"), ("THRUM_TS_TAILSCALED", "mine")]);
        let names = ["THRUM_TS_HOSTNAME", "THRUM_TS_STATE_DIR", "THRUM_TS_TAILSCALED"];
        assert_eq!(env.names().collect::<Vec<_>>(), names, "the environment is the user's");
        let [of_files, of_git] = env.warnings() else { panic!("{:?}", env.warnings()) };
        assert!(of_files.message.contains("THRUM_TS_SOCKET") && of_git.message.contains("THRUM_TS_AUTHKEY"));
        assert!(!format!("{of_files}{of_git}").contains("tskey"), "{of_git}");
        assert_eq!(of_git.hint.as_deref(), Some("git rm --cached .env && echo .env >> .gitignore"));
        // If git cannot tell whether the file is tracked, the key is left out as well.
        fs::write(root.join(".git/index"), "damaged").unwrap();
        assert_eq!(place.load(&[]).get("THRUM_TS_AUTHKEY"), None);
    }

    #[test]
    fn settings_of_keys_are_read_without_git_and_all_others_about_which_it_decides_are_left_out() {
        use crate::config::Key;

        let all = NOT_FROM_THE_REPOSITORY.iter().chain(&NOT_FROM_A_FILE);
        assert!(all.clone().all(|name| Key::ALL.iter().all(|key| key.variable() != *name)));
        let place = fixture();
        place.write(1, "THRUM_TS_AUTHKEY=tskey-secret\nTHRUM_EXCHANGE=7\n");
        let process = || [("THRUM_LOCAL".into(), "1".into()), ("THRUM_TS_STATE_DIR".into(), "mine".into())];
        // Outside of a repository, git would answer that the file is not tracked.
        assert_eq!(Environment::load(&place.repo, process()).get("THRUM_TS_AUTHKEY"), Some("tskey-secret"));
        let env = Environment::load_without_git(&place.repo, process());
        assert_eq!(env.names().collect::<Vec<_>>(), ["THRUM_EXCHANGE", "THRUM_LOCAL", "THRUM_TS_STATE_DIR"]);
    }

    #[test]
    fn c36_only_thrums_variables_are_read_and_the_process_environment_is_unchanged() {
        let place = fixture();
        place.write(
            1,
            "PATH=/evil\nLD_PRELOAD=/evil.so\nexport THRUM_TS_HOSTNAME=\"my laptop\" # mine\nMSG=hello world\nTHRUM_Q='a # b'\r\n",
        );
        let env = place.load(&[("HOME", "/root")]);
        assert_eq!(env.get("THRUM_TS_HOSTNAME"), Some("my laptop"));
        assert_eq!(env.get("THRUM_Q"), Some("a # b"));
        assert_eq!((env.get("PATH"), env.get("LD_PRELOAD"), env.get("HOME")), (None, None, None));
        assert_eq!(std::env::var_os("THRUM_Q"), None);
        assert_eq!(env.warnings(), [], "other programs' lines are not ours to judge");
    }

    #[test]
    fn an_unreadable_line_is_reported_without_its_value_and_the_others_count() {
        let place = fixture();
        place.write(0, "\u{feff}THRUM_A=1\n\nTHRUM_TS_AUTHKEY=tskey-auth secret\nTHRUM_B=2\n");
        let env = place.load(&[]);
        assert_eq!((env.get("THRUM_A"), env.get("THRUM_B")), (Some("1"), Some("2")));
        let [warning] = env.warnings() else { panic!("{:?}", env.warnings()) };
        assert!(warning.message.contains(".thrum/.env: line 3 "), "{warning}");
        assert!(!format!("{warning:?}{env:?}").contains("secret"));
    }

    #[test]
    fn c36_garbage_and_ten_megabytes_are_warnings() {
        let place = fixture();
        place.write(0, b"THRUM_A=1\n\xff\xfe\x00THRUM_B=2");
        place.write(1, vec![b'#'; 10 << 20]);
        let env = place.load(&[]);
        let messages: Vec<_> = env.warnings().iter().map(|error| error.message.clone()).collect();
        assert_eq!(messages.len(), 2, "{messages:?}");
        assert!(messages[0].contains("line 2") && messages[1].contains("larger than"), "{messages:?}");
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        let place = fixture();
        let alphabet = b"THRUM_A=\"'\\$#{} \n\r=x\t";
        let mut state = 7u32;
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..40)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    alphabet[(state >> 16) as usize % alphabet.len()]
                })
                .collect();
            place.write(0, &bytes);
            place.load(&[]);
        }
    }

    #[test]
    fn a_file_that_others_can_read_gets_a_warning_if_it_holds_a_secret() {
        let place = fixture();
        place.write(0, "THRUM_TS_AUTHKEY=k\n");
        place.write(1, "THRUM_TS_ENABLED=true\nOTHER=1\n");
        for path in place.repo.env_files() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let env = place.load(&[]);
        let [warning] = env.warnings() else { panic!("{:?}", env.warnings()) };
        assert!(warning.message.contains(".thrum/.env can be read by other users"), "{warning}");
        assert!(warning.hint.as_deref().is_some_and(|hint| hint.contains("chmod 600")));
    }

    #[test]
    fn thrum_log_names_the_format_of_the_log_and_another_value_gets_a_warning() {
        let place = fixture();
        for (value, format, warned) in [
            ("", LogFormat::Text, false),
            ("text", LogFormat::Text, false),
            ("json", LogFormat::Json, false),
            ("JSON lines", LogFormat::Text, true),
        ] {
            let (settings, warnings) = Settings::read(&place.load(&[("THRUM_LOG", value)]));
            assert_eq!((settings.log_format, !warnings.is_empty()), (format, warned), "{value}: {warnings:?}");
        }
    }

    #[test]
    fn c37_a_control_server_over_plain_http_gets_a_warning_unless_it_is_on_this_machine() {
        for (url, warned) in [
            ("https://control.example.org", false),
            ("http://127.0.0.1:8080", false),
            ("http://[::1]:8080/x", false),
            ("http://localhost", false),
            ("http://control.example.org", true),
            ("HTTP://10.0.0.1:8080", true),
            ("http://localhost.evil.example", true),
            ("http://127.0.0.1@evil.example/", true),
            ("http://127.0.0.1.evil.example/", true),
            ("http://évil.example", true),
        ] {
            let place = fixture();
            let env = place.load(&[("THRUM_TS_CONTROL_URL", url)]);
            let (settings, warnings) = Settings::read(&env);
            assert_eq!(settings.ts_control_url.as_deref(), Some(url), "it is used all the same");
            assert_eq!(warnings.iter().any(|warning| warning.message.contains("plain http")), warned, "{url}");
        }
    }

    #[test]
    fn settings_have_types_and_invalid_ones_are_left_out_with_a_warning() {
        let place = fixture();
        let env = place.load(&[
            ("THRUM_TS_ENABLED", "yes"),
            ("THRUM_TS_PORT", "70000"),
            ("THRUM_TS_HOSTNAME", "a\u{1b}[2J"),
            ("THRUM_TS_AUTHKEY", "tskey-auth-x"),
            ("THRUM_TAILSCALE_CONTROL_URL", "https://a"),
        ]);
        let (settings, warnings) = Settings::read(&env);
        assert_eq!((settings.ts_port, settings.ts_hostname.as_deref()), (None, None));
        assert_eq!(settings.ts_control_url.as_deref(), Some("https://a"));
        assert_eq!(settings.ts_authkey.as_ref().map(Secret::reveal), Some("tskey-auth-x"));
        assert!(!format!("{settings:?}").contains("tskey"));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }
}
