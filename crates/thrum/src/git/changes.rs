//! The uncommitted changes of a worktree. Git runs in parallel to the rest of the command and with a time limit: in a
//! large repository it takes seconds, which no command should wait for.

use std::{
    io::Read,
    path::Path,
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use thrum_daemon::git::status;

/// Maximum size of git's output that is read, in bytes: some ten thousand paths.
const MOST_BYTES: u64 = 1 << 20;

/// The changes that git reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Files that are changed, added, removed or untracked, in git's order.
    pub(crate) uncommitted: Vec<String>,
    /// Number of commits that the upstream branch does not have; `None` without an upstream.
    pub(crate) unmerged: Option<u64>,
}

/// A running git process.
pub(crate) struct StatusProcess {
    begun: Instant,
    child: Option<Child>,
    answer: Receiver<Vec<u8>>,
}

/// Starts git in `top` without waiting for it.
pub(crate) fn start_status(top: &Path) -> StatusProcess {
    let (tell, answer) = mpsc::channel();
    let mut command = thrum_daemon::git::command(top, &["status", "--porcelain=v2", "--branch", "-z"]);
    let mut child = command.stdout(Stdio::piped()).spawn().ok();
    if let Some(stdout) = child.as_mut().and_then(|child| child.stdout.take()) {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if stdout.take(MOST_BYTES).read_to_end(&mut bytes).is_ok() {
                let _ = tell.send(bytes);
            }
        });
    }
    StatusProcess { begun: Instant::now(), child, answer }
}

impl StatusProcess {
    /// Returns git's answer, if it comes within `within` of git's start.
    ///
    /// # Errors
    /// A message that explains why the answer is missing.
    pub(crate) fn end(mut self, within: Duration) -> Result<Changes, String> {
        let Some(child) = &mut self.child else { return Err("git cannot be started".to_owned()) };
        let Ok(bytes) = self.answer.recv_timeout(within.saturating_sub(self.begun.elapsed())) else {
            let _ = child.kill();
            return Err(format!("git did not answer within {} ms", within.as_millis()));
        };
        if bytes.len() as u64 == MOST_BYTES {
            let _ = child.kill();
        } else if !child.wait().is_ok_and(|status| status.success()) {
            return Err("git does not take this for a worktree".to_owned());
        }
        Ok(read(&bytes))
    }
}

fn read(bytes: &[u8]) -> Changes {
    let status::WorktreeStatus { files, ahead, .. } = status::status(bytes);
    Changes { uncommitted: files, unmerged: ahead }
}

impl Drop for StatusProcess {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_entry_gives_the_current_path() {
        let text = "# branch.oid 1234\0# branch.head main\0# branch.upstream origin/main\0# branch.ab +3 -1\0\
            1 .M N... 100644 100644 100644 aaaa bbbb src/a b.rs\0\
            2 R. N... 100644 100644 100644 aaaa bbbb R100 new name.rs\0old name.rs\0\
            u UU N... 100644 100644 100644 100644 a b c both.rs\0? untracked.txt\0! ignored\0";
        let changes = read(text.as_bytes());
        assert_eq!(changes.uncommitted, ["src/a b.rs", "new name.rs", "both.rs", "untracked.txt"]);
        assert_eq!(changes.unmerged, Some(3));
        assert_eq!(read(b""), Changes::default());
    }

    #[test]
    fn outside_git_and_where_git_is_too_slow_there_is_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        assert!(start_status(dir.path()).end(Duration::from_secs(60)).unwrap_err().contains("worktree"));
        assert!(start_status(dir.path()).end(Duration::ZERO).unwrap_err().contains("within 0 ms"));
    }
}
