//! Runs `git` in a repository of our own: without prompts, hooks and the user's settings for pushes, within a bounded
//! time, and with bounded output. Knows nothing of events.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{GitError, limits, repository::bytes_of};

/// Git variables of the user's environment that say how to reach remotes or which settings are the user's. All others
/// may have been set by a hook for another repository.
const KEPT: [&str; 9] = [
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_PROXY_COMMAND",
];

/// Beginnings of the names of settings that say how to reach a remote, in lower case. The user's other settings do not
/// apply to our repository: hooks, signatures, filters, what else a push or a fetch does.
const REACHES: [&str; 6] = ["credential.", "http.", "https.", "url.", "ssh.", "protocol."];

/// Further such settings, as whole names in lower case.
const REACHES_TOO: [&str; 3] = ["core.sshcommand", "core.gitproxy", "safe.directory"];

/// The last parts of such settings of one remote, in lower case.
const OF_A_REMOTE: [&str; 7] =
    ["url", "pushurl", "proxy", "proxyauthmethod", "uploadpack", "receivepack", "serveroption"];

/// Interval for checking whether a process has ended.
const LOOK: Duration = Duration::from_millis(2);

/// Interval for measuring the room that a process has filled.
const MEASURE: Duration = Duration::from_millis(50);

/// A request to end the running `git` processes, and to start no more.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends the running process soon, and lets no further one start.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns `true` once [`stop`](Self::stop) was called.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How large a directory may become while a process runs.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) dir: PathBuf,
    /// The most bytes of its files.
    pub(crate) most: u64,
}

/// How long a process may take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// In all, for work on the local disk.
    InAll(Duration),
    /// Without a sign of progress, for a transfer.
    WithoutProgress(Duration),
}

/// The output of a process that has ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// The last part of standard error, without control characters.
    pub(crate) stderr: String,
}

/// One setting of git, as `git config --list` shows it.
pub(crate) type Setting = (String, String);

/// Runs `git` in one repository.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    git_dir: PathBuf,
    /// The directory of the user's repository, to which relative paths of remotes refer.
    top: PathBuf,
    settings: Vec<Setting>,
    stop: Stop,
}

impl Git {
    /// Prepares commands in the repository at `git_dir`, with these settings of the user's repository at `top`.
    pub(crate) fn new(git_dir: &Path, top: &Path, settings: Vec<Setting>, stop: Stop) -> Self {
        Self { git_dir: git_dir.to_owned(), top: top.to_owned(), settings, stop }
    }

    /// Runs a command that works on the local disk. Returns its output.
    ///
    /// # Errors
    /// The command could not be run, took too long, or failed.
    pub(crate) fn local(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>, GitError> {
        let output = self.run(args, input, Patience::InAll(limits::LOCAL))?;
        if !output.status.success() {
            return Err(GitError::failed(args, &output));
        }
        Ok(output.stdout)
    }

    /// Runs a command that talks to the remote. The caller judges its exit code.
    ///
    /// # Errors
    /// The command could not be run, or made no progress for too long.
    pub(crate) fn remote(&self, args: &[&str]) -> Result<Output, GitError> {
        let patience = if args.first() == Some(&"push") { limits::NO_PROGRESS_OF_PUSH } else { limits::NO_PROGRESS };
        self.run(args, &[], Patience::WithoutProgress(patience))
    }

    /// Runs a fetch, which may not fill more than some room.
    ///
    /// # Errors
    /// As [`remote`](Self::remote); [`GitError::TooMuch`] if the room is full.
    pub(crate) fn fetch(&self, args: &[&str], room: Room) -> Result<Output, GitError> {
        let mut command = self.command()?;
        command.args(args);
        let bounds = Bounds { patience: Patience::WithoutProgress(limits::NO_PROGRESS), room: Some(room) };
        run_within(command, args, &[], &bounds, &self.stop)
    }

    /// Runs a command that talks to a host as somebody without a home directory, in which credentials may lie.
    ///
    /// # Errors
    /// As [`remote`](Self::remote).
    pub(crate) fn anonymous(&self, args: &[&str]) -> Result<Output, GitError> {
        let mut command = self.command()?;
        command.env("HOME", "/nonexistent").env("XDG_CONFIG_HOME", "/nonexistent").env_remove("SSH_AUTH_SOCK");
        command.args(args);
        run(command, args, &[], Patience::WithoutProgress(limits::NO_PROGRESS), &self.stop)
    }

    fn run(&self, args: &[&str], input: &[u8], patience: Patience) -> Result<Output, GitError> {
        let mut command = self.command()?;
        command.args(args);
        run(command, args, input, patience, &self.stop)
    }

    /// Prepares a command in the repository, with the user's settings and ours.
    fn command(&self) -> Result<Command, GitError> {
        if self.stop.is_set() {
            return Err(GitError::Stopped);
        }
        let mut command = command();
        command.current_dir(&self.top);
        command.env("GIT_DIR", &self.git_dir).env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("GIT_CONFIG_GLOBAL", self.global_settings().map_err(GitError::NotRun)?);
        command.env_remove("GIT_CONFIG_SYSTEM");
        // Where git makes reftables by default, a killed process would leave other locks than are looked for.
        command.env("GIT_DEFAULT_REF_FORMAT", "files");
        // Commits say nothing about a person, and the same content has the same id.
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "Thrum").env(format!("GIT_{role}_EMAIL"), "thrum@localhost");
            command.env(format!("GIT_{role}_DATE"), "@0 +0000");
        }
        let own = OWN_SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings: Vec<Setting> = self.settings.iter().cloned().chain(own).collect();
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (n, (name, value)) in settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{n}"), name).env(format!("GIT_CONFIG_VALUE_{n}"), value);
        }
        if let Some(ssh) = self.ssh_command() {
            command.env("GIT_SSH_COMMAND", ssh);
        }
        Ok(command)
    }

    /// The file that takes the place of the user's own settings. The settings of the environment are not passed on to the
    /// process that opens a remote on this machine, which needs the user's safe directories.
    fn global_settings(&self) -> io::Result<PathBuf> {
        let safe = self.settings.iter().filter(|(name, _)| name == "safe.directory");
        let lines: String = safe.map(|(_, dir)| format!("\tdirectory = {}\n", quoted(dir))).collect();
        if lines.is_empty() {
            return Ok("/dev/null".into());
        }
        let (file, settings) = (self.git_dir.join("safe-directories"), format!("[safe]\n{lines}"));
        if fs::read_to_string(&file).ok().as_deref() != Some(&settings) {
            fs::write(&file, settings)?;
        }
        Ok(file)
    }

    /// The user's ssh command with options that keep it from asking anything. `None` if it is another program, whose
    /// options are not known.
    fn ssh_command(&self) -> Option<OsString> {
        let mut ssh = openssh(&self.settings)?;
        ssh.push(format!(" -o BatchMode=yes -o ConnectTimeout={}", limits::NO_PROGRESS.as_secs()));
        Some(ssh)
    }
}

/// The user's ssh command as a line for a shell. `None` if it is another program than OpenSSH.
fn openssh(settings: &[Setting]) -> Option<OsString> {
    let configured = settings.iter().rev().find(|(name, _)| name == "core.sshcommand");
    let ssh = std::env::var_os("GIT_SSH_COMMAND")
        .or_else(|| configured.map(|(_, value)| value.into()))
        .or_else(|| std::env::var_os("GIT_SSH").is_none().then(|| "ssh".into()))?;
    let program = ssh.to_string_lossy().split_whitespace().next().map(str::to_owned).unwrap_or_default();
    Path::new(&program).file_name().is_some_and(|name| name == "ssh").then_some(ssh)
}

/// A value as it is written in a file of settings.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Settings of our repository. `git` runs no maintenance there that it was not asked for, and does not look for
/// similarities among blobs, which are compressed.
const OWN_SETTINGS: [(&str, &str); 12] = [
    // What is fetched becomes one file, whose growth can be watched.
    ("fetch.unpackLimit", "1"),
    ("core.hooksPath", "/dev/null"),
    ("gc.auto", "1000"),
    ("gc.autoPackLimit", "50"),
    ("gc.autoDetach", "false"),
    ("maintenance.auto", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("pack.window", "0"),
    ("protocol.version", "2"),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "30"),
    ("advice.detachedHead", "false"),
];

/// Prepares `git` without variables of other repositories, and without prompts.
fn command() -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"GIT_") && !KEPT.iter().any(|kept| name == *kept) {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").env("GCM_INTERACTIVE", "never");
    command.env("GIT_ASKPASS", "").env("SSH_ASKPASS", "").env("SSH_ASKPASS_REQUIRE", "never");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Returns what the user's repository says of a subject: the output of a `git` command that only reads. `None` if the
/// command fails, as for an unset value.
pub(crate) fn asked(top: &Path, args: &[&str], stop: &Stop) -> Result<Option<String>, GitError> {
    let mut command = command();
    command.args(["--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]);
    command.args(args).current_dir(top);
    let output = run(command, args, &[], Patience::InAll(limits::LOCAL), stop)?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// The oldest git with which exchanges are made: the first that takes settings from `GIT_CONFIG_COUNT`. An older one would
/// run without the user's credentials and without our settings.
const OLDEST: (u32, u32) = (2, 31);

/// Checks that git is not too old.
///
/// # Errors
/// [`GitError::TooOld`]; git could not be run. A version in another form than git's own counts as new enough.
pub(crate) fn check_version(top: &Path, stop: &Stop) -> Result<(), GitError> {
    let said = asked(top, &["version"], stop)?.unwrap_or_default();
    match version(&said) {
        Some((major, minor)) if (major, minor) < OLDEST => {
            Err(GitError::TooOld { found: format!("{major}.{minor}"), oldest: format!("{}.{}", OLDEST.0, OLDEST.1) })
        }
        _ => Ok(()),
    }
}

/// The first two numbers of a version, from the output of `git version`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.trim().strip_prefix("git version ")?.split('.');
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((digits(numbers.next()?)?, digits(numbers.next()?)?))
}

/// Returns what the user's ssh command would do for a host, as `ssh -G` says it; what plain ssh would do, if that is
/// another program than OpenSSH. `None` if there is no ssh, or it does not know.
pub(crate) fn ssh_settings(top: &Path, host: &str, stop: &Stop) -> Option<String> {
    let mut line = openssh(&settings(top, stop).ok()?).unwrap_or_else(|| "ssh".into());
    line.push(" -G -- \"$0\"");
    let mut command = Command::new("sh");
    command.arg("-c").arg(line).arg(host).current_dir(top);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = run(command, &["ssh"], &[], Patience::InAll(limits::NO_PROGRESS), stop).ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the user's settings that say how to reach a remote, as they apply in the repository at `top`.
///
/// # Errors
/// Git could not be run.
pub(crate) fn settings(top: &Path, stop: &Stop) -> Result<Vec<Setting>, GitError> {
    let listed = asked(top, &["config", "--list", "--includes", "-z"], stop)?.unwrap_or_default();
    let read = |entry: &str| {
        let (name, value) = entry.split_once('\n')?;
        reaches(name).then(|| (name.to_owned(), value.to_owned()))
    };
    Ok(listed.split('\0').filter_map(read).collect())
}

/// Returns `true` for a setting that says how to reach a remote. `name` is as git lists it: in lower case, except for
/// the part between the first and the last dot.
fn reaches(name: &str) -> bool {
    let of_a_remote = || {
        let (_, last) = name.strip_prefix("remote.")?.rsplit_once('.')?;
        OF_A_REMOTE.contains(&last).then_some(())
    };
    REACHES.iter().any(|begin| name.starts_with(begin)) || REACHES_TOO.contains(&name) || of_a_remote().is_some()
}

/// What a process may take.
struct Bounds {
    patience: Patience,
    room: Option<Room>,
}

/// Runs a command and its children, which are a process group of their own.
fn run(command: Command, args: &[&str], input: &[u8], patience: Patience, stop: &Stop) -> Result<Output, GitError> {
    run_within(command, args, input, &Bounds { patience, room: None }, stop)
}

fn run_within(
    mut command: Command,
    args: &[&str],
    input: &[u8],
    bounds: &Bounds,
    stop: &Stop,
) -> Result<Output, GitError> {
    use std::os::unix::process::CommandExt;

    let what = || args.first().copied().unwrap_or_default().to_owned();
    let mut child = command.process_group(0).spawn().map_err(GitError::NotRun)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    if let Some(mut stdin) = stdin {
        let input = input.to_vec();
        // A process that does not read its input to the end has failed, and says why.
        thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let moved = Arc::new(AtomicU64::new(0));
    let out = Reading::start(stdout, limits::MAX_OUTPUT_BYTES, false, &moved);
    let err = Reading::start(stderr, limits::MAX_STDERR_BYTES, true, &moved);
    let status = wait(&mut child, bounds, stop, &moved);
    if status.is_err() {
        end(&mut child);
    }
    let ((stdout, is_whole), (stderr, _)) = (out.finish(), err.finish());
    match status {
        Ok(status) => {
            if !is_whole {
                return Err(GitError::TooLong { what: what() });
            }
            // Progress ends with a carriage return, and an error may follow it.
            let printable = |c: char| match c {
                '\r' | '\n' => '\n',
                c if c.is_control() => ' ',
                c => c,
            };
            let stderr: String = String::from_utf8_lossy(&stderr).chars().map(printable).collect();
            Ok(Output { status, stdout, stderr: stderr.trim().to_owned() })
        }
        Err(Unfinished::Stopped) => Err(GitError::Stopped),
        Err(Unfinished::Full) => Err(GitError::TooMuch),
        Err(Unfinished::Late(time)) => Err(GitError::Late { what: what(), time }),
        Err(Unfinished::Lost(error)) => Err(GitError::NotRun(error)),
    }
}

/// Why a process was not waited for to its end.
enum Unfinished {
    Stopped,
    Late(Duration),
    /// Its room is full.
    Full,
    Lost(io::Error),
}

fn wait(child: &mut Child, bounds: &Bounds, stop: &Stop, moved: &AtomicU64) -> Result<ExitStatus, Unfinished> {
    let (mut since, mut seen, mut measured) = (Instant::now(), 0, Instant::now());
    loop {
        let ended = child.try_wait().map_err(Unfinished::Lost)?;
        if let Some(room) = bounds.room.as_ref().filter(|_| ended.is_some() || measured.elapsed() > MEASURE) {
            measured = Instant::now();
            if bytes_of(&room.dir) > room.most {
                return Err(Unfinished::Full);
            }
        }
        if let Some(status) = ended {
            return Ok(status);
        }
        if stop.is_set() {
            return Err(Unfinished::Stopped);
        }
        let most = match bounds.patience {
            Patience::InAll(most) => most,
            Patience::WithoutProgress(most) => {
                let now = moved.load(Ordering::Relaxed);
                if now != seen {
                    (since, seen) = (Instant::now(), now);
                }
                most
            }
        };
        if since.elapsed() > most {
            return Err(Unfinished::Late(most));
        }
        thread::sleep(LOOK);
    }
}

/// Ends a process and its children, which may hold its pipes open.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // An error means that the processes have ended meanwhile.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// Reads an output in a thread of its own.
struct Reading {
    /// The bytes that are kept, and whether these are all.
    kept: Arc<Mutex<(Vec<u8>, bool)>>,
    ended: Receiver<()>,
}

impl Reading {
    /// Begins to read to the end of a pipe, and counts the bytes in `moved`. Keeps the first `most` bytes, or the last.
    fn start(
        pipe: Option<impl Read + Send + 'static>,
        most: usize,
        keeps_the_end: bool,
        moved: &Arc<AtomicU64>,
    ) -> Self {
        let kept = Arc::new(Mutex::new((Vec::new(), true)));
        let (end, ended) = mpsc::channel();
        let (shared, moved) = (Arc::clone(&kept), Arc::clone(moved));
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            let Some(mut pipe) = pipe else { return };
            while let Ok(n) = pipe.read(&mut buffer) {
                if n == 0 {
                    break;
                }
                moved.fetch_add(n as u64, Ordering::Relaxed);
                let (kept, is_whole) = &mut *shared.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&buffer[..n]);
                if kept.len() > most {
                    *is_whole = false;
                    if keeps_the_end {
                        kept.drain(..kept.len() - most);
                    } else {
                        kept.truncate(most);
                    }
                }
            }
            // The receiver is gone if nobody waits any more.
            let _ = end.send(());
        });
        Self { kept, ended }
    }

    /// Returns what was read once the process has ended. A process that it has left behind, such as the connection that
    /// ssh keeps for the next command, may hold the pipe open, and is not waited for.
    fn finish(self) -> (Vec<u8>, bool) {
        let _ = self.ended.recv_timeout(limits::LEFT_BEHIND);
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_in_all_its_forms() {
        for (said, is) in [
            ("git version 2.39.5\n", Some((2, 39))),
            ("git version 2.39.5 (Apple Git-154)", Some((2, 39))),
            ("git version 3.0.rc1.windows.1", Some((3, 0))),
            ("git version 2.30-rc0", Some((2, 30))),
            ("another program", None),
            ("", None),
        ] {
            assert_eq!(version(said), is, "{said}");
        }
    }

    #[test]
    fn only_settings_that_say_how_to_reach_a_remote_are_taken_over() {
        for name in [
            "credential.helper",
            "credential.https://example.com.username",
            "http.https://example.com.proxy",
            "url.ssh://git@example.com/.insteadof",
            "core.sshcommand",
            "remote.origin.url",
            "remote.with.dots.pushurl",
            "safe.directory",
        ] {
            assert!(reaches(name), "{name}");
        }
        for name in [
            "remote.origin.mirror",
            "remote.origin.fetch",
            "remote.origin.push",
            "core.hookspath",
            "core.worktree",
            "push.followtags",
            "push.gpgsign",
            "fetch.prune",
            "commit.gpgsign",
            "alias.push",
            "remote.pushdefault",
        ] {
            assert!(!reaches(name), "{name}");
        }
    }
}
