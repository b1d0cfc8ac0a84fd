//! Wakes an idle Codex session: `codex queue` starts a turn in it, as if its user had typed the text.
//!
//! Codex has no hook that may wait beside an idle session. So the hook at the end of a turn starts its own waiter
//! (`wait.rs`), if the user has enabled that (`codex.wake`). Observations of Codex 0.171.0 determine the rest:
//!
//! * Sessions on a terminal run in one background process. That process and the processes of the hooks outlive the
//!   terminal. No hook reports that a user has quit, so a queued text could run a turn with no user present. Therefore
//!   a waiter ends with the last Codex that was on a terminal in this worktree when the waiter started, or at once if
//!   there was none.
//! * Which of several sessions such a Codex shows cannot be known, so of an agent's sessions only the one that ran a
//!   hook last is woken.
//! * A run of `codex exec` ends after its turn, so it gets no waiter.
//!
//! A wake starts a turn whose end starts the next waiter. This cannot become a loop: no message wakes a session twice,
//! and the number of wakes per hour is limited ([`limits::MAX_WAKES`]).

use std::{
    env, fs,
    io::Write,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, getppid, getuid};
use serde_json::json;
use thrum_core::limits;
use thrum_daemon::{
    config::{Config, Key},
    paths::Repo,
};

use super::{Hook, record::Records};

/// Prefix of a queued text, by which the prompt hook recognizes it.
pub(super) const MARK: &str = "[thrum] ";

/// Time limit for `codex queue`, which needs a quarter of a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many ancestors of a hook's process are searched for its program; a shell may be in between.
const MOST_ABOVE: usize = 4;

/// Starts a waiter beside the session, whose turn has just ended, if the user has enabled that. A failure costs only a
/// wake, so errors are ignored.
pub(super) fn start_waiter(hook: &Hook, repo: &Repo) {
    let (Some(id), true, Some(program)) = (hook.session(), is_wanted(repo), program()) else { return };
    let Ok(me) = env::current_exe() else { return };
    let mut command = Command::new(me);
    command.args(["hook", "wait", "--host", "codex"]);
    if let Some(agent) = &hook.global.acting_as {
        command.args(["--as", agent]);
    }
    if let Some(repo) = &hook.global.repo {
        command.arg("--repo").arg(repo);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let Ok(mut waiter) = command.spawn() else { return };
    // The waiter reads the record only after it has got the line that is written below.
    let records = Records::of(repo);
    let _turn = records.turn(id);
    let mut record = records.read(id);
    record.waiter = Some(waiter.id());
    records.write(id, &record);
    if let Some(mut input) = waiter.stdin.take() {
        let _ = writeln!(input, "{}", json!({"session_id": id, PROGRAM: program.as_raw_nonzero().get()}));
    }
}

/// Returns `true` if the user of this repository has enabled waking.
pub(crate) fn is_wanted(repo: &Repo) -> bool {
    Config::current(repo).get(Key::WakeCodex).value == true
}

/// Key under which a waiter gets the process id of its session's program.
const PROGRAM: &str = "program";

/// The process that runs the waiter's session; `None` if the payload does not name it.
pub(super) fn program_of(hook: &Hook) -> Option<Pid> {
    hook.payload[PROGRAM].as_i64().and_then(|pid| pid.try_into().ok()).and_then(Pid::from_raw)
}

/// The Codex process that runs this hook; `None` for `codex exec`, or if Codex is not among the nearest ancestors.
fn program() -> Option<Pid> {
    let mut process = getppid();
    for _ in 0..MOST_ABOVE {
        let pid = process?;
        if let Some(arguments) = codex(pid) {
            return (!arguments.iter().any(|argument| argument == "exec")).then_some(pid);
        }
        process = parent(pid);
    }
    None
}

/// The Codex processes of this user that are on a terminal, with a working directory at or below `top`, without `codex
/// exec` and `codex app-server`. Empty if the system has no `/proc`.
pub(super) fn on_terminals(top: &Path) -> Vec<Pid> {
    let Ok(top) = fs::canonicalize(top) else { return Vec::new() };
    let pids = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_there = |pid: &Pid| {
        let link = |name: &str| fs::read_link(proc(*pid).join(name)).unwrap_or_default();
        let is_mine = fs::metadata(proc(*pid)).is_ok_and(|about| about.uid() == getuid().as_raw());
        let is_person = codex(*pid)
            .is_some_and(|arguments| !arguments.iter().any(|argument| argument == "exec" || argument == "app-server"));
        let input = link("fd/0");
        is_mine
            && is_person
            && (input.starts_with("/dev/pts") || input.to_string_lossy().starts_with("/dev/tty"))
            && link("cwd").starts_with(&top)
    };
    pids.filter_map(Pid::from_raw).filter(is_there).collect()
}

/// The arguments of a process; `None` if it is not Codex.
fn codex(pid: Pid) -> Option<Vec<String>> {
    let name = fs::read_to_string(proc(pid).join("comm")).ok()?;
    let line = fs::read(proc(pid).join("cmdline")).ok()?;
    let arguments = line.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned());
    (name.trim_end() == "codex").then(|| arguments.skip(1).collect())
}

fn parent(pid: Pid) -> Option<Pid> {
    let status = fs::read_to_string(proc(pid).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().and_then(Pid::from_raw)
}

fn proc(pid: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()))
}

/// Queues a text for a session. Returns `false` if that certainly failed. `program` is the process that runs the
/// session; its executable is used if that still exists, otherwise the `codex` in `PATH`.
pub(super) fn queue(program: Pid, session: &str, text: &str) -> bool {
    let own = fs::read_link(proc(program).join("exe")).ok().filter(|path| path.ends_with("codex") && path.is_file());
    let mut command = Command::new(own.unwrap_or_else(|| "codex".into()));
    command
        .args(["queue", "--thread", session, "--message", text])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    // A command that hangs may have queued the text.
    ended(&mut child, PATIENCE).is_none_or(|status| status.success())
}

/// Waits for a child to end, and kills the child and returns `None` if that takes too long. `bounded::run` is not
/// suitable: it would also end Codex's background process if the child has started it.
fn ended(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    const LOOK: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + within;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(LOOK),
            _ => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// How long the next wake must be delayed after the given wakes (times in seconds since 1970). Times in the future do
/// not count: the clock has been set back since.
pub(super) fn held_back(wakes: &[u64], now: u64) -> Duration {
    let span = limits::WAKES_WITHIN.as_secs();
    let mut recent: Vec<u64> = wakes.iter().copied().filter(|at| *at <= now && now - at < span).collect();
    recent.sort_unstable();
    match recent.len().checked_sub(limits::MAX_WAKES) {
        Some(surplus) => Duration::from_secs(recent[surplus] + span - now),
        None => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_a_limited_number_of_wakes() {
        let most = limits::MAX_WAKES;
        let now = 1_000_000;
        let every_minute = |number: usize| (0..number as u64).map(|back| now - 60 * back).collect::<Vec<_>>();
        assert_eq!(held_back(&[], now), Duration::ZERO);
        assert_eq!(held_back(&every_minute(most - 1), now), Duration::ZERO);
        let oldest = 60 * (most as u64 - 1);
        assert_eq!(
            held_back(&every_minute(most), now),
            Duration::from_secs(3600 - oldest),
            "until the oldest is an hour ago"
        );
        assert_eq!(held_back(&every_minute(most + 1), now), Duration::from_secs(3600 - oldest));
        assert_eq!(held_back(&vec![now - 3600; 50], now), Duration::ZERO);
        assert_eq!(held_back(&vec![now + 5; 50], now), Duration::ZERO, "the clock was set back");
    }
}
