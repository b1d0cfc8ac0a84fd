//! The state of a worktree, as a daemon or an agent's command reads it from git.

use serde::{Deserialize, Serialize};

/// The state of one worktree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    /// The branch; `None` for a detached HEAD.
    pub branch: Option<String>,
    /// Path of the worktree; `None` if unknown.
    pub worktree_path: Option<String>,
    /// Whether `git status` failed, or git did not answer in time. Then only branch and path are known, and the empty
    /// lists mean nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unanswered: bool,
    /// Commits that are not in the base, newest first.
    pub unmerged_commits: Vec<Commit>,
    /// Files that differ from the last commit, including untracked ones. Paths are relative to the top of the worktree.
    pub uncommitted_files: Vec<String>,
    /// Files that differ from the base. Paths are relative to the top of the worktree.
    pub changed_files: Vec<String>,
    /// Files that differ from the base, with the number of changed lines.
    pub file_changes: Vec<FileChange>,
}

/// A commit that is not merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// The hash of the commit.
    pub sha: String,
    /// The subject of the commit message.
    pub message: String,
    /// The files that the commit changes.
    pub files: Vec<String>,
}

/// A file that differs from the base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileChange {
    /// Path, relative to the top of the worktree.
    pub path: String,
    /// Modification time in RFC 3339; absent for a deleted file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// Lines added; 0 for a binary file.
    pub additions: u64,
    /// Lines deleted; 0 for a binary file.
    pub deletions: u64,
    /// `added`, `modified`, `deleted` or `renamed`.
    pub status: String,
}
