//! Running git for a bounded time, and reading a bounded amount of what it says.

use std::{
    io::Read,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Most bytes read of one answer. Ten thousand files with long names fit; beyond it the answer is cut at the last whole entry.
const MOST: u64 = 1 << 20;

/// How often we look whether a git without output has ended.
const LOOK: Duration = Duration::from_millis(1);

/// What a repository's configuration may have git run while it only answers questions, switched off: a monitor of files, hooks,
/// and whoever checks signatures. Aliases do not count for git's own commands, pagers not without a terminal.
const RUNS_NOTHING: [&str; 8] =
    ["--no-optional-locks", "--no-pager", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "log.showSignature=false"];

/// Variables of git's that say which settings are the user's own, and nothing about a repository.
const OF_THE_USER: [&str; 3] = ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"];

/// Git in `top`, deaf to what a hook that we may run in has set for another repository. It takes no lock that an agent's own
/// `git add` may need, and runs no program that the repository's configuration names. Filters (`filter.NAME.clean`) are the exception:
/// without them git would take files for changed that are not.
pub fn command(top: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"GIT_") && !OF_THE_USER.iter().any(|kept| name == *kept) {
            command.env_remove(name);
        }
    }
    command.args(RUNS_NOTHING).args(args).env("LC_ALL", "C");
    // Of a partial clone it would fetch what is missing, with the program that the configuration names for that. Git before
    // 2.45 knows only the second way to forbid it.
    command.env("GIT_NO_LAZY_FETCH", "1").env("GIT_ALLOW_PROTOCOL", "none").env("GIT_TERMINAL_PROMPT", "0");
    command.current_dir(top).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The exit code of a git; `None` if it could not be run or did not end in time.
pub fn status(top: &Path, args: &[&str], deadline: Instant) -> Option<i32> {
    let mut child = command(top, args).spawn().ok()?;
    wait(&mut child, deadline)?.code()
}

/// What a git printed; `None` if it failed or did not end in time.
pub fn output(top: &Path, args: &[&str], deadline: Instant) -> Option<Vec<u8>> {
    let mut child = command(top, args).stdout(Stdio::piped()).spawn().ok()?;
    let stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(MOST).read_to_end(&mut bytes);
        // Nobody listens any more after the deadline.
        let _ = sender.send(read.map(|_| bytes));
    });
    let answer = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    let Ok(Ok(mut bytes)) = answer else {
        end(&mut child);
        return None;
    };
    if bytes.len() as u64 == MOST {
        // The rest is not read, so git may never end by itself.
        end(&mut child);
        bytes.truncate(bytes.iter().rposition(|byte| *byte == 0).map_or(0, |last| last + 1));
        return Some(bytes);
    }
    wait(&mut child, deadline)?.success().then_some(bytes)
}

fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(LOOK),
            _ => {
                end(child);
                return None;
            }
        }
    }
}

fn end(child: &mut Child) {
    // It may have ended meanwhile.
    let _ = child.kill();
    let _ = child.wait();
}
