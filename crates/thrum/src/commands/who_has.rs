//! `thrum who-has`: shows who works on files.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, path, work::FileChange};
use thrum_daemon::layout;

use crate::{
    answers::{Answer, Claims, Collisions, Contexts, Working},
    client::Client,
    context::Context,
    render::{
        Page, Render,
        style::{DIM, YELLOW},
    },
    text::quote,
};

/// Exit code if no agent works on any of the paths or has claimed one, the same as for `not found` elsewhere.
const NOBODY: u8 = 3;

/// Show which agents work on files or directories, or have claimed them; exit code 3 if none do
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Shows the state of git as of each agent's last contact with Thrum: a command, a tool call, or a hook of its session.

With several paths and --json, the answer has one entry for each path, in `paths`.

Examples:
  thrum who-has src/login.rs || echo nobody
  thrum who-has src/login.rs docs || echo nobody
  thrum who-has src --json || echo nobody")]
pub(crate) struct Args {
    /// The file or directory, from where you are
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
}

/// The agents that work on each of the given paths.
pub(crate) struct WhoHas(Vec<Holders>);

/// The agents that work on a path, and the claims and collisions there.
pub(crate) struct Holders {
    pub(crate) path: String,
    pub(crate) contexts: Answer<Contexts>,
    pub(crate) claims: Answer<Claims>,
    pub(crate) collisions: Answer<Collisions>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<WhoHas, Error> {
    let mut paths: Vec<String> = Vec::new();
    for path in &args.paths {
        let path = repo_path(path, cx)?;
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let mut client = cx.daemon()?;
    let found: Result<_, _> = paths.into_iter().map(|path| Holders::of(path, &mut client)).collect();
    found.map(WhoHas)
}

/// Finds the agents that work on a file or directory, given relative to [`Context::directory`].
///
/// # Errors
/// `invalid` if the path is empty or leads out of the worktree; otherwise the daemon's error.
pub(crate) fn holders(file: &str, cx: &Context) -> Result<Holders, Error> {
    Holders::of(repo_path(file, cx)?, &mut cx.daemon()?)
}

/// Fetches the collisions of the last hour, optionally limited to a file or directory.
///
/// # Errors
/// Returns the daemon's error.
pub(crate) fn collisions(file: Option<&str>, client: &mut Client) -> Result<Answer<Collisions>, Error> {
    Answer::or_empty(client.call("collision.list", json!({"file": file})), "collisions")
}

/// Converts a path relative to [`Context::directory`] to the form that contexts use: relative to the top of the
/// worktree. The worktree itself is `.`.
///
/// # Errors
/// `invalid` if it is empty or leads out of the worktree.
pub(crate) fn repo_path(file: &str, cx: &Context) -> Result<String, Error> {
    repo_paths(&[file], cx).map(|paths| paths.concat())
}

/// Converts several paths like [`repo_path`].
///
/// # Errors
/// That of [`repo_path`] for one of the paths.
pub(crate) fn repo_paths(files: &[impl AsRef<str>], cx: &Context) -> Result<Vec<String>, Error> {
    // A script may pass an unset variable, which must not mean the whole worktree (`.`).
    if files.iter().any(|file| file.as_ref().is_empty()) {
        return Err(Error::new(ErrorKind::Invalid, "an empty path names no file")
            .hint("Give a file or directory of this worktree."));
    }
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let here = fs::canonicalize(cx.directory()).map_err(|error| {
        Error::new(ErrorKind::Invalid, format!("cannot look at {}: {error}", cx.directory().display()))
    })?;
    let top = layout::git_top(&here);
    let top = if top.join(".git").exists() { top } else { cx.repo()?.root().to_owned() };
    files.iter().map(|file| path_in_worktree(file.as_ref(), &here, &top)).collect()
}

/// Converts a path relative to `here` into one relative to `top`, the top of the worktree.
fn path_in_worktree(file: &str, here: &Path, top: &Path) -> Result<String, Error> {
    let plain = without_dots(&here.join(file));
    // Resolve links in the path of the directory only: the file itself may not exist, or be a link that git tracks as
    // such.
    let named = match (plain.parent().and_then(|dir| fs::canonicalize(dir).ok()), plain.file_name()) {
        (Some(dir), Some(name)) => dir.join(name),
        _ => plain,
    };
    match named.strip_prefix(top) {
        Ok(path) if path.as_os_str().is_empty() => Ok(".".to_owned()),
        Ok(path) => Ok(path.to_string_lossy().into_owned()),
        Err(_) => Err(Error::new(ErrorKind::Invalid, format!("{} is not inside {}", named.display(), top.display()))
            .hint("Give a file or directory of this worktree.")),
    }
}

/// Removes `.` and `..` from a path, whether or not it exists.
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

/// Describes a change: `+2 -1, modified`. Omits the numbers if both are 0: those of an untracked file are unknown, and
/// a binary file has none.
pub(crate) fn lines(change: &FileChange) -> String {
    match change {
        FileChange { additions: 0, deletions: 0, status, .. } => quote(status),
        FileChange { additions, deletions, status, .. } => format!("+{additions} -{deletions}, {}", quote(status)),
    }
}

impl Holders {
    /// Finds the agents that work on a path of the worktree.
    ///
    /// # Errors
    /// Returns the daemon's error.
    fn of(path: String, client: &mut Client) -> Result<Self, Error> {
        let contexts = client.call("agent.listContext", json!({"file": path}))?;
        let claims = Answer::or_empty(client.call("claim.list", json!({"files": [path]})), "claims")?;
        let collisions = collisions(Some(&path), client)?;
        Ok(Self { path, contexts, claims, collisions })
    }

    /// Returns `true` if no agent works on the path or has claimed it.
    pub(crate) fn is_nobody(&self) -> bool {
        self.contexts.read.contexts.is_empty() && self.claims.read.claims.is_empty()
    }

    /// Returns the files of a context that are at or below the path, each with its change if that is known.
    pub(crate) fn files<'a>(&'a self, context: &'a Working) -> Vec<(&'a str, Option<&'a FileChange>)> {
        let mut names: Vec<&str> =
            context.changed_files.iter().chain(&context.uncommitted_files).map(String::as_str).collect();
        names.retain(|name| path::is_within(name, &self.path));
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| (name, context.file_changes.iter().find(|change| change.path == name))).collect()
    }

    fn show(&self, page: &mut Page) {
        for context in &self.contexts.read.contexts {
            let branch =
                context.branch.as_deref().map(|branch| format!(", branch: {}", quote(branch))).unwrap_or_default();
            let told = context.git_updated_at.map(|at| page.time(at)).unwrap_or_default();
            let silent = match context.doing.words() {
                Some(doing) => format!(", {doing}"),
                None if context.status == "active" => String::new(),
                None => ", not heard of for long".to_owned(),
            };
            for (name, change) in self.files(context) {
                let numbers = change.map_or_else(|| told.clone(), |change| format!("{} {told}", lines(change)));
                let does = if context.is_editing(name) { "is editing" } else { "has changed" };
                page.line(format!(
                    "{} {does} {} ({numbers}){branch}{DIM}{silent}{DIM:#}",
                    context.agent.who(),
                    quote(name)
                ));
            }
        }
        for claim in &self.claims.read.claims {
            page.line(claim.line(page.now()));
        }
        for collision in &self.collisions.read.collisions {
            page.line(format!("{YELLOW}Collision:{YELLOW:#} {}", collision.line()));
        }
        if self.contexts.read.more || self.claims.read.more {
            page.line("There are more than an answer has room for");
        }
        if self.is_nobody() {
            page.line(format!("No agent is known to work on {}", quote(&self.path)));
        }
    }

    fn data(&self) -> Value {
        let holder = |context: &Working| {
            let files: Vec<Value> = self
                .files(context)
                .into_iter()
                .map(|(name, change)| {
                    let mut file = change.map_or_else(|| json!({"path": name}), |change| json!(change));
                    file["uncommitted"] = context.is_editing(name).into();
                    file
                })
                .collect();
            json!({
                "agent_id": context.agent.agent_id, "address": context.agent.address, "signed": context.agent.signed,
                "home": context.agent.home, "home_name": context.agent.home_name, "local": context.agent.local,
                "status": context.status, "last_seen_at": context.last_seen_at, "session_id": context.session_id,
                "presence": context.doing.presence, "presence_since": context.doing.presence_since, "wakeable": context.doing.wakeable,
                "branch": context.branch, "git_updated_at": context.git_updated_at, "files": files,
            })
        };
        json!({
            "file": self.path, "agents": self.contexts.read.contexts.iter().map(holder).collect::<Vec<_>>(),
            "claims": self.claims.raw["claims"], "collisions": self.collisions.raw["collisions"],
        })
    }
}

impl Render for WhoHas {
    fn human(&self, page: &mut Page) {
        self.0.iter().for_each(|holders| holders.show(page));
    }

    fn json(&self) -> Value {
        match self.0.as_slice() {
            [one] => one.data(),
            several => json!({"paths": several.iter().map(Holders::data).collect::<Vec<_>>()}),
        }
    }

    fn code(&self) -> u8 {
        if self.0.iter().all(Holders::is_nobody) { NOBODY } else { 0 }
    }
}
