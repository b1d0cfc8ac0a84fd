//! Runs git for a bounded time, and reads a bounded amount of its output.

pub mod status;
mod work;

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

pub use work::collect;

/// Maximum time for git to report what an agent works on. A large repository takes about 100 ms. If git takes longer
/// than this, the disk is slow, and only the branch is reported.
pub const WORK: Duration = Duration::from_secs(2);

/// Maximum bytes of output to read. Ten thousand files with long names fit; longer output is cut after the last whole
/// entry.
const MOST: u64 = 1 << 20;

/// Interval for checking whether a git process has ended.
const LOOK: Duration = Duration::from_millis(1);

/// Options that keep git from taking optional locks, and disable the programs that a repository's configuration can
/// make git run during a query: a file system monitor, hooks, signature checks, and pagers, which git starts only on a
/// terminal anyway. Aliases need no option, because they do not affect git's own commands.
const RUNS_NOTHING: [&str; 8] = [
    "--no-optional-locks",
    "--no-pager",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "log.showSignature=false",
];

/// Git variables that name the user's own settings and say nothing about a repository.
const OF_THE_USER: [&str; 3] = ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"];

/// Prepares a git command in `top` that ignores the variables that a hook may have set for another repository. The
/// command takes no lock that an agent's own `git add` may need, and runs no program that the repository's
/// configuration names. Filters (`filter.NAME.clean`) are the exception: without them git would report unchanged files
/// as changed.
pub fn command(top: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"GIT_") && !OF_THE_USER.iter().any(|kept| name == *kept) {
            command.env_remove(name);
        }
    }
    command.args(RUNS_NOTHING).args(args).env("LC_ALL", "C");
    // In a partial clone git would fetch missing objects with a program that the configuration names. Git before 2.45
    // supports only the second way to forbid that.
    command.env("GIT_NO_LAZY_FETCH", "1").env("GIT_ALLOW_PROTOCOL", "none").env("GIT_TERMINAL_PROMPT", "0");
    command.current_dir(top).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Returns the branch that is checked out in the worktree at `top`. `None` outside git and on a detached head.
pub fn branch(top: &Path) -> Option<String> {
    let dot_git = top.join(".git");
    let git_dir = match fs::read_to_string(&dot_git) {
        Ok(link) => top.join(link.strip_prefix("gitdir:")?.trim()),
        Err(_) => dot_git,
    };
    let head = fs::read_to_string(git_dir.join("HEAD")).ok()?;
    head.trim().strip_prefix("ref: refs/heads/").map(str::to_owned)
}

/// Returns the exit code of a git command; `None` if it could not be run or did not end in time.
pub fn status(top: &Path, args: &[&str], deadline: Instant) -> Option<i32> {
    let mut child = command(top, args).spawn().ok()?;
    wait(&mut child, deadline)?.code()
}

/// Returns the files that the next commit in `top` changes, relative to `top`; renamed files under both names. `None`
/// if git fails or does not end in time.
///
/// In a hook of `git commit -a` or `git commit FILE`, the commit has its own index, which `GIT_INDEX_FILE` names.
pub fn staged(top: &Path, deadline: Instant) -> Option<Vec<String>> {
    let mut command = command(top, &["diff", "--cached", "--name-only", "--no-renames", "-z"]);
    if let Some(index) = std::env::var_os("GIT_INDEX_FILE") {
        command.env("GIT_INDEX_FILE", index);
    }
    let names = answer(command, deadline)?;
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Some(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// Returns the output of a git command, cut after the last whole entry within 1 MiB; `None` if the command failed or
/// did not end in time.
pub fn output(top: &Path, args: &[&str], deadline: Instant) -> Option<Vec<u8>> {
    answer(command(top, args), deadline)
}

fn answer(mut command: Command, deadline: Instant) -> Option<Vec<u8>> {
    let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
    let stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(MOST).read_to_end(&mut bytes);
        // The receiver is gone after the deadline.
        let _ = sender.send(read.map(|_| bytes));
    });
    let answer = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    let Ok(Ok(mut bytes)) = answer else {
        end(&mut child);
        return None;
    };
    if bytes.len() as u64 == MOST {
        // The rest is not needed. Git would end only when it next writes to the closed pipe, so end it now.
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
    // An error means that the process has ended meanwhile.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_is_read_in_main_and_in_linked_worktrees() {
        let dir = tempfile::tempdir().unwrap();
        let (main, linked) = (dir.path().join("main"), dir.path().join("linked"));
        fs::create_dir_all(main.join(".git/worktrees/linked")).unwrap();
        fs::create_dir_all(&linked).unwrap();
        fs::write(main.join(".git/HEAD"), "ref: refs/heads/feature/login\n").unwrap();
        fs::write(main.join(".git/worktrees/linked/HEAD"), "5f0c8e1\n").unwrap();
        fs::write(linked.join(".git"), format!("gitdir: {}\n", main.join(".git/worktrees/linked").display())).unwrap();
        assert_eq!(branch(&main).as_deref(), Some("feature/login"));
        assert_eq!(branch(&linked), None, "detached");
        assert_eq!(branch(dir.path()), None);
    }
}
