//! `thrum who-has`: who works on a file.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use serde_json::{Value, json};
use thrum_core::{ErrorKind, Fault, work::FileChange};
use thrum_daemon::layout;

use crate::{
    context::Context,
    render::{Page, Render, said, style::DIM},
    shapes::{Answer, Contexts, Working},
};

/// Nobody works on it, as `not found` is everywhere.
const NOBODY: u8 = 3;

/// Show who works on a file, or on anything in a directory; exit code 3 if nobody does
#[derive(Debug, clap::Args)]
#[command(after_help = "\
As every agent told it last: when its session began, while it waited, or with thrum session heartbeat.

Examples:
  thrum who-has src/login.rs || echo nobody
  thrum who-has src --json || echo nobody")]
pub(crate) struct Args {
    /// The file or directory, from where you are
    #[arg(value_name = "FILE")]
    file: String,
}

/// Who works on a path.
pub(crate) struct Holders {
    path: String,
    contexts: Answer<Contexts>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Holders, Fault> {
    let path = repo_path(&args.file, cx)?;
    let contexts = cx.daemon()?.call("agent.listContext", json!({"file": path}))?;
    Ok(Holders { path, contexts })
}

/// A path as contexts have it: from the top of the worktree, whichever directory one is in; the worktree itself is `.`.
///
/// # Errors
/// `invalid` if it leads out of the worktree.
pub(crate) fn repo_path(file: &str, cx: &Context) -> Result<String, Fault> {
    let look = |path: &Path| {
        fs::canonicalize(path).map_err(|error| Fault::new(ErrorKind::Invalid, format!("cannot look at {}: {error}", path.display())))
    };
    let here = look(cx.directory())?;
    let top = layout::git_top(&here);
    let top = if top.join(".git").exists() { top } else { cx.repo()?.root().to_owned() };
    let plain = without_dots(&here.join(file));
    // The file itself may be gone, or be a link that git has as such; the directory it is in may have been reached by one.
    let named = match (plain.parent().and_then(|dir| fs::canonicalize(dir).ok()), plain.file_name()) {
        (Some(dir), Some(name)) => dir.join(name),
        _ => plain,
    };
    match named.strip_prefix(&top) {
        Ok(path) if path.as_os_str().is_empty() => Ok(".".to_owned()),
        Ok(path) => Ok(path.to_string_lossy().into_owned()),
        Err(_) => Err(Fault::new(ErrorKind::Invalid, format!("{} is not inside {}", named.display(), top.display()))
            .hint("Give a file or directory of this worktree.")),
    }
}

/// The path without `.` and `..`, whether or not it is there.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// `+2 -1, modified`. Of a file that is new to git, or not of lines, no numbers are known: they are 0.
pub(crate) fn lines(change: &FileChange) -> String {
    match change {
        FileChange { additions: 0, deletions: 0, status, .. } => said(status),
        FileChange { additions, deletions, status, .. } => format!("+{additions} -{deletions}, {}", said(status)),
    }
}

impl Holders {
    /// What a context has of the path: each file with its numbers, if it has any.
    fn files<'a>(&'a self, context: &'a Working) -> Vec<(&'a str, Option<&'a FileChange>)> {
        let mut names: Vec<&str> = context.changed_files.iter().chain(&context.uncommitted_files).map(String::as_str).collect();
        let within = |name: &str| name.strip_prefix(self.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        names.retain(|name| self.path == "." || within(name));
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| (name, context.file_changes.iter().find(|change| change.path == name))).collect()
    }
}

impl Render for Holders {
    fn human(&self, page: &mut Page) {
        for context in &self.contexts.read.contexts {
            let branch = context.branch.as_deref().map(|branch| format!(", branch: {}", said(branch))).unwrap_or_default();
            let told = context.git_updated_at.map(|at| page.time(at)).unwrap_or_default();
            let silent = if context.status == "active" { "" } else { ", not heard of for long" };
            for (name, change) in self.files(context) {
                let numbers = change.map_or_else(|| told.clone(), |change| format!("{} {told}", lines(change)));
                let does = if context.uncommitted_files.iter().any(|file| file == name) { "is editing" } else { "has changed" };
                page.line(format!("{} {does} {} ({numbers}){branch}{DIM}{silent}{DIM:#}", context.who(), said(name)));
            }
        }
        if self.contexts.read.more {
            page.line("There are more than an answer has room for");
        }
        if self.contexts.read.contexts.is_empty() {
            page.line(format!("Nobody is known to work on {}", said(&self.path)));
        }
    }

    fn json(&self) -> Value {
        let holder = |context: &Working| {
            let files: Vec<Value> = self
                .files(context)
                .into_iter()
                .map(|(name, change)| {
                    let mut file = change.map_or_else(|| json!({"path": name}), |change| json!(change));
                    file["uncommitted"] = context.uncommitted_files.iter().any(|file| file == name).into();
                    file
                })
                .collect();
            json!({
                "agent_id": context.agent_id, "address": context.address, "signed": context.signed, "home": context.home,
                "home_name": context.home_name, "local": context.local,
                "status": context.status, "last_seen_at": context.last_seen_at, "session_id": context.session_id,
                "branch": context.branch, "git_updated_at": context.git_updated_at, "files": files,
            })
        };
        json!({"file": self.path, "agents": self.contexts.read.contexts.iter().map(holder).collect::<Vec<_>>()})
    }

    fn code(&self) -> u8 {
        if self.contexts.read.contexts.is_empty() { NOBODY } else { 0 }
    }
}
