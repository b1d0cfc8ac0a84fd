//! The state of a worktree, as an agent's command reads it from git and tells its daemon.

use serde::{Deserialize, Serialize};

/// What one works on. Who reports it asked git; a daemon never does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    /// The branch; `None` on a detached head.
    pub branch: Option<String>,
    /// Where the worktree is.
    pub worktree_path: Option<String>,
    /// Commits that the base does not have, newest first.
    pub unmerged_commits: Vec<Commit>,
    /// Files that differ from the last commit, also untracked ones; paths from the top of the worktree.
    pub uncommitted_files: Vec<String>,
    /// Files that differ from the base.
    pub changed_files: Vec<String>,
    /// The same with numbers.
    pub file_changes: Vec<FileChange>,
}

/// A commit that is not merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// Its hash.
    pub sha: String,
    /// The first line of its message.
    pub message: String,
    /// What it touches.
    pub files: Vec<String>,
}

/// A file that differs from the base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileChange {
    /// Where, from the top of the worktree.
    pub path: String,
    /// RFC 3339; absent for a file that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// Lines added; 0 for a binary file.
    pub additions: u64,
    /// Lines deleted.
    pub deletions: u64,
    /// `added`, `modified`, `deleted` or `renamed`.
    pub status: String,
}
