//! Collects what an agent works on from git: the branch, unmerged commits, changed files.
//!
//! The daemon collects this in the background (`git_state.rs`). Commands that start a session, send a heartbeat or wait
//! for long collect it themselves and pass it to the daemon. On a slow disk such a command waits for a bounded time,
//! and no other call waits.

use std::{fs, path::Path, time::Instant};

use thrum_core::{
    Timestamp, limits,
    work::{Commit, FileChange, Work},
};

use super::{output, status};
use crate::layout;

/// The candidates for the base branch: the first one that exists and is not the current branch is used.
const BASES: [&str; 5] = [
    "refs/heads/main",
    "refs/heads/master",
    "refs/remotes/origin/HEAD",
    "refs/remotes/origin/main",
    "refs/remotes/origin/master",
];

/// Collects the state of the worktree that contains `root`, until `deadline`. `None` outside git. If `git status`
/// fails, or git does not finish before `deadline`, only the branch and the path are returned, and [`Work::unanswered`]
/// is set; the branch is read without git. If another command fails before `deadline`, its list is empty.
pub fn collect(root: &Path, deadline: Instant) -> Option<Work> {
    let top = layout::git_top(root);
    if !top.join(".git").exists() {
        return None;
    }
    let branch_alone = Work {
        branch: super::branch(&top),
        worktree_path: Some(top.display().to_string()),
        unanswered: true,
        ..Work::default()
    };
    let mut work = Work { unanswered: false, ..branch_alone.clone() };
    let ask = |args: &[&str]| output(&top, args, deadline);
    let Some(found) = ask(&["status", "--porcelain=v2", "--branch", "--untracked-files=all", "-z"]) else {
        return Some(branch_alone);
    };
    let found = status::status(&found);
    let base = base(&top, work.branch.as_deref(), deadline);
    // Without a base (first branch, no remote), only uncommitted changes count as new.
    let changed = match &base {
        Some(base) => {
            let range = format!("{base}..HEAD");
            let most = limits::MAX_CONTEXT_COMMITS.to_string();
            if let Some(log) = ask(&["log", "-z", "--format=%x1e%H%x1f%s", "--name-only", "--max-count", &most, &range])
            {
                work.unmerged_commits = status::log(&log).into_iter().map(commit).collect();
            }
            ask(&[
                "diff",
                "--raw",
                "--numstat",
                "-z",
                "--find-renames",
                "--no-ext-diff",
                "--no-textconv",
                "--merge-base",
                base,
            ])
        }
        None => ask(&["diff", "--raw", "--numstat", "-z", "--find-renames", "--no-ext-diff", "--no-textconv", "HEAD"]),
    };
    // After the deadline, any of the commands may have been cut off, so none of their results is used. A command that
    // failed earlier would fail again, for example because there is no commit to compare with; its list stays empty.
    if Instant::now() >= deadline {
        return Some(branch_alone);
    }
    let changed = status::diff(&changed.unwrap_or_default());
    let mut names = Vec::new();
    for change in &changed {
        names.push(change.path.clone());
        names.extend(change.from.clone());
    }
    work.changed_files = bounded(names);
    let new = found.untracked.iter().map(|path| status::Changed {
        path: path.clone(),
        from: None,
        additions: 0,
        deletions: 0,
        status: "added",
    });
    work.file_changes = changed
        .into_iter()
        .chain(new)
        .take(limits::MAX_CONTEXT_FILES)
        .map(|change| file_change(&top, change))
        .collect();
    work.file_changes.retain(|change| change.path.len() <= limits::MAX_TEXT_BYTES);
    work.uncommitted_files = bounded([found.files, found.renamed_from].concat());
    Some(work)
}

fn base(top: &Path, branch: Option<&str>, deadline: Instant) -> Option<String> {
    let mut args = vec!["for-each-ref", "--format=%(refname)"];
    args.extend(BASES);
    let there = String::from_utf8(output(top, &args, deadline)?).ok()?;
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
        last_modified: since.map(|since| Timestamp::ZERO.plus(since).to_string()),
        path: change.path,
        additions: change.additions,
        deletions: change.deletions,
        status: change.status.to_owned(),
    }
}

/// Limits a list of files to what a context may contain. Drops names that are too long, and files beyond the maximum.
fn bounded(mut files: Vec<String>) -> Vec<String> {
    files.retain(|file| file.len() <= limits::MAX_TEXT_BYTES);
    files.truncate(limits::MAX_CONTEXT_FILES);
    files
}
