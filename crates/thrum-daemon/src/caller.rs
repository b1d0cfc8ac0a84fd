//! Determines which agent makes a call that names no agent.
//!
//! Go Thrum's `message delete` and some older commands name no agent. Such a call is attributed to the agent of the
//! worktree in which the calling process runs.
//!
//! The kernel reports which process made a connection, and that process's directory. On Linux the call is refused if
//! the process cannot be examined, if its directory is in no worktree of the repository, if its `THRUM_NAME` names no
//! agent of the worktree, if it has no `THRUM_NAME` and the worktree does not have exactly one agent, or if another
//! worktree has an identity of the same name. Where the system does not show the directory (macOS), the process cannot
//! be checked: the call is attributed to the repository's only agent, and refused if there is not exactly one.

use std::{collections::BTreeSet, fs, path::PathBuf};

use thrum_core::{Error, ErrorKind};

use crate::{paths::Repo, worktrees};

/// Returns the agent for which the process `pid` makes a call; `pid` is `None` if the kernel does not report it.
///
/// # Errors
/// `invalid` if the agent cannot be determined by the rules above.
pub(crate) fn of_process(repo: &Repo, pid: Option<i32>) -> Result<String, Error> {
    match pid.and_then(Process::of) {
        Some(process) => process.agent(repo),
        None if cfg!(target_os = "linux") => Err(unnamed("and the calling process cannot be examined")),
        None => only(&worktrees::identities(repo))
            .ok_or_else(|| unnamed("and this system does not show where the calling process runs")),
    }
}

/// The data that the system shows about a process.
struct Process {
    directory: PathBuf,
    /// The value of its variable `THRUM_NAME`.
    thrum_name: Option<String>,
}

impl Process {
    /// Returns the agent of the worktree in which this process runs: the one that `THRUM_NAME` names, or the only one.
    /// Stricter than the command line: the agent must have an identity in that worktree and in no other.
    fn agent(&self, repo: &Repo) -> Result<String, Error> {
        let worktree = repo
            .worktree(&self.directory)
            .map_err(|_| unnamed("and the calling process does not run in a worktree of this repository"))?;
        let agents = worktrees::identities_in(worktree.root());
        let agent = match &self.thrum_name {
            Some(name) => agents
                .get(name)
                .cloned()
                .ok_or_else(|| unnamed("and its THRUM_NAME names no agent of the worktree it came from"))?,
            None => {
                only(&agents).ok_or_else(|| unnamed("and the worktree it came from does not have exactly one agent"))?
            }
        };
        let copied = worktrees::of(repo)
            .iter()
            .any(|top| top != worktree.root() && worktrees::identities_in(top).contains(&agent));
        if copied {
            return Err(unnamed("and the agent of the worktree it came from has an identity in another worktree, too"));
        }
        Ok(agent)
    }

    #[cfg(target_os = "linux")]
    fn of(pid: i32) -> Option<Self> {
        use std::{io::Read, os::unix::fs::MetadataExt};

        /// Maximum number of bytes read of a process's variables. Linux allows a quarter of the stack limit, 2 MiB with
        /// the usual 8 MiB stack.
        const MOST_VARIABLES: u64 = 8 << 20;

        let proc = PathBuf::from(format!("/proc/{}", u32::try_from(pid).ok().filter(|pid| *pid > 0)?));
        let directory = fs::read_link(proc.join("cwd")).ok()?;
        // The same path may be another directory in another mount namespace.
        let (there, here) = (fs::metadata(proc.join("cwd")).ok()?, fs::metadata(&directory).ok()?);
        if (there.dev(), there.ino()) != (here.dev(), here.ino()) {
            return None;
        }
        let mut variables = Vec::new();
        let read = fs::File::open(proc.join("environ")).ok()?.take(MOST_VARIABLES).read_to_end(&mut variables).ok()?;
        if read as u64 == MOST_VARIABLES {
            return None;
        }
        let name = variables.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"THRUM_NAME="));
        let thrum_name = name
            .map(|name| String::from_utf8_lossy(name).trim_start_matches('@').to_owned())
            .filter(|name| !name.is_empty());
        Some(Self { directory, thrum_name })
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_pid: i32) -> Option<Self> {
        None
    }
}

fn only(agents: &BTreeSet<String>) -> Option<String> {
    agents.first().filter(|_| agents.len() == 1).cloned()
}

fn unnamed(why: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("caller_agent_id is required: the call does not name its agent, {why}"))
        .hint("Name the agent: `--as NAME`, or THRUM_NAME; with Go Thrum, run the command in the agent's worktree.")
}
