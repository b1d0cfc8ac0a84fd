//! What an agent works on, as git sees it: branch, commits that are not merged, files that differ.
//!
//! The command collects this and sends it to the daemon, which never starts git: a repository on a slow disk may keep one
//! command waiting for a bounded time, and nobody else.

use std::{fs, path::Path, time::Instant};

use thrum_core::{
    Stamp, limits,
    work::{Commit, FileChange, Work},
};
use thrum_daemon::layout;

use super::{run, status};

/// The branches that work is compared with, the first that is there and is not one's own.
const BASES: [&str; 5] =
    ["refs/heads/main", "refs/heads/master", "refs/remotes/origin/HEAD", "refs/remotes/origin/main", "refs/remotes/origin/master"];

/// The state of a worktree.
pub(crate) struct Collected {
    pub(crate) work: Work,
    /// Whether git answered. If not, commits and files are not none, but unknown.
    pub(crate) answered: bool,
}

/// Collects the state of the worktree that `root` lies in, until `deadline`. `None` outside git. What git did not say in time
/// is missing: the branch never is.
pub(crate) fn collect(root: &Path, deadline: Instant) -> Option<Collected> {
    let top = layout::git_top(root);
    if !top.join(".git").exists() {
        return None;
    }
    let mut work = Work { branch: super::branch(&top), worktree_path: Some(top.display().to_string()), ..Work::default() };
    let ask = |args: &[&str]| run::output(&top, args, deadline);
    let Some(found) = ask(&["status", "--porcelain=v2", "--branch", "--untracked-files=all", "-z"]) else {
        return Some(Collected { work, answered: false });
    };
    let found = status::status(&found);
    let base = base(&top, work.branch.as_deref(), deadline);
    // Without a base (the first branch, no remote) what is new is what is not committed.
    let changed = match &base {
        Some(base) => {
            let range = format!("{base}..HEAD");
            let most = limits::MAX_CONTEXT_COMMITS.to_string();
            if let Some(log) = ask(&["log", "-z", "--format=%x1e%H%x1f%s", "--name-only", "--max-count", &most, &range]) {
                work.unmerged_commits = status::log(&log).into_iter().map(commit).collect();
            }
            ask(&["diff", "--raw", "--numstat", "-z", "--find-renames", "--no-ext-diff", "--no-textconv", "--merge-base", base])
        }
        None => ask(&["diff", "--raw", "--numstat", "-z", "--find-renames", "--no-ext-diff", "--no-textconv", "HEAD"]),
    };
    let changed = status::diff(&changed.unwrap_or_default());
    let mut names = Vec::new();
    for change in &changed {
        names.push(change.path.clone());
        names.extend(change.from.clone());
    }
    work.changed_files = bounded(names);
    let new =
        found.untracked.iter().map(|path| status::Changed { path: path.clone(), from: None, additions: 0, deletions: 0, status: "added" });
    work.file_changes = changed.into_iter().chain(new).take(limits::MAX_CONTEXT_FILES).map(|change| file_change(&top, change)).collect();
    work.file_changes.retain(|change| change.path.len() <= limits::MAX_TEXT_BYTES);
    work.uncommitted_files = bounded([found.files, found.left].concat());
    Some(Collected { work, answered: true })
}

fn base(top: &Path, branch: Option<&str>, deadline: Instant) -> Option<String> {
    let mut args = vec!["for-each-ref", "--format=%(refname)"];
    args.extend(BASES);
    let there = String::from_utf8(run::output(top, &args, deadline)?).ok()?;
    let own = branch.map(|branch| format!("refs/heads/{branch}"));
    let found = BASES.into_iter().find(|base| own.as_deref() != Some(base) && there.lines().any(|line| line == *base));
    found.map(str::to_owned)
}

fn commit((sha, message, files): (String, String, Vec<String>)) -> Commit {
    let end = message.floor_char_boundary(message.len().min(limits::MAX_TEXT_BYTES));
    Commit { sha, message: message[..end].to_owned(), files: bounded(files) }
}

fn file_change(top: &Path, change: status::Changed) -> FileChange {
    let modified = fs::symlink_metadata(top.join(&change.path)).and_then(|about| about.modified()).ok();
    let since = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    FileChange {
        last_modified: since.map(|since| Stamp::ZERO.plus(since).to_string()),
        path: change.path,
        additions: change.additions,
        deletions: change.deletions,
        status: change.status.to_owned(),
    }
}

/// As many as a context may hold, without names that are too long for one.
fn bounded(mut files: Vec<String>) -> Vec<String> {
    files.retain(|file| file.len() <= limits::MAX_TEXT_BYTES);
    files.truncate(limits::MAX_CONTEXT_FILES);
    files
}
