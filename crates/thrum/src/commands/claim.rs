//! `thrum claim`: asks the other agents to leave files alone for a while.
//!
//! Claims are advisory. A claim of a file that another agent has claimed is valid as well, and the answer names the
//! other agent.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use thrum_core::{Error, Timestamp, limits};
use thrum_daemon::{git, layout};

use crate::{
    answers::{Answer, Claim, Claims},
    client::Client,
    commands::who_has,
    context::Context,
    render::{Page, Render, Silent, boxed, style::YELLOW},
    text::quote,
    time,
};

/// Claim files, so that other agents leave them alone; exit code 1 if another agent has also claimed some of them
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Claims are advisory and prevent nothing. A claim is shown by `thrum who-has` on all machines. It ends when its time \
is over, with `thrum release`, or with your session. Claiming a file again restarts its time. Without a path, all \
claims are listed. To claim a file called check, write ./check.

Examples:
  thrum claim src/login.rs --for 30m
  thrum claim src docs || thrum send \"I need src\" --to @bob
  thrum claim"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Files and directories, relative to the current directory
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// Duration of the claim, such as 20m or 2h; at most 24h
    #[arg(long = "for", default_value = "30m", value_name = "TIME", value_parser = time::parse_duration)]
    within: Duration,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(Check),
}

/// Check whether other agents have claimed the files that you are about to commit
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For a pre-commit hook of git: without a mailbox or a daemon, the command prints nothing and exits with 0; with --json \
it prints an empty list of claims. It does not start a daemon. Only --block prevents a commit.

Examples:
  thrum claim check --staged
  thrum claim check --staged --block
  thrum claim check src/login.rs --json",
    group(clap::ArgGroup::new("what").args(["paths", "staged"]).required(true).multiple(true)))]
struct Check {
    /// Files and directories, relative to the current directory
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// Check the files that the next commit changes
    #[arg(long)]
    staged: bool,
    /// Exit with 1 if another agent has claimed one of the files
    #[arg(long)]
    block: bool,
}

/// The answer to `claim.take`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Claimed {
    claims: Vec<Claim>,
    others: Vec<Claim>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Box<dyn Render>, Error> {
    match &args.command {
        Some(Command::Check(check)) => self::check(check, cx),
        None if args.paths.is_empty() => boxed(list(cx)),
        None => boxed(claim(args, cx)),
    }
}

fn list(cx: &Context) -> Result<Answer<Claims>, Error> {
    cx.daemon()?.call("claim.list", json!({}))
}

fn claim(args: &Args, cx: &Context) -> Result<Answer<Claimed>, Error> {
    let me = cx.identity()?.name;
    let paths = who_has::repo_paths(&args.paths, cx)?;
    let within = u64::try_from(args.within.as_millis()).unwrap_or(u64::MAX);
    cx.daemon()?.call("claim.take", json!({"caller_agent_id": me, "paths": paths, "for_ms": within}))
}

/// Checks the files against the claims of other agents. Finds nothing if this worktree has no `.thrum` or the daemon
/// does not run. Any failure except the error below also counts as finding nothing, so that it does not block a commit.
/// If the caller is no known agent, every claim counts as another agent's.
///
/// # Errors
/// `invalid` if the worktree has a `.thrum` and its daemon runs, but a path is empty or leads out of this worktree.
fn check(args: &Check, cx: &Context) -> Result<Box<dyn Render>, Error> {
    let deadline = Instant::now() + LIMIT;
    let Some(client) =
        cx.repo().ok().filter(|repo| repo.is_set_up()).and_then(|repo| Client::connect(&repo.socket()).ok())
    else {
        return Ok(nothing(cx));
    };
    let files = who_has::repo_paths(&args.paths, cx)?;
    Ok(match others(args, files, client.until(deadline), deadline, cx) {
        Some(found) if !found.claims.is_empty() => Box::new(found),
        _ => nothing(cx),
    })
}

fn nothing(cx: &Context) -> Box<dyn Render> {
    if cx.global().json {
        Box::new(Checked { claims: Vec::new(), raw: Vec::new(), block: false })
    } else {
        Box::new(Silent)
    }
}

/// Time limit of the check, for git and the daemon together: a commit waits for it.
const LIMIT: Duration = Duration::from_secs(2);

/// Returns the claims of other agents on the files; `None` if git or the daemon fails or is not done by `deadline`.
fn others(
    args: &Check,
    mut files: Vec<String>,
    mut client: Client,
    deadline: Instant,
    cx: &Context,
) -> Option<Checked> {
    let me = cx.identity().ok().map(|me| me.name);
    if args.staged {
        files.extend(git::staged(&layout::git_top(cx.repo().ok()?.root()), deadline)?);
    }
    let mut found = Checked { claims: Vec::new(), raw: Vec::new(), block: args.block };
    for part in files.chunks(limits::MAX_CHECKED_FILES) {
        let answer: Answer<Claims> = client.call("claim.list", json!({"files": part})).ok()?;
        let raw = answer.raw["claims"].as_array().cloned().unwrap_or_default();
        for (claim, raw) in answer.read.claims.into_iter().zip(raw) {
            let own = me.as_deref().is_some_and(|me| claim.agent.is(me));
            if !own && !found.raw.contains(&raw) {
                found.claims.push(claim);
                found.raw.push(raw);
            }
        }
    }
    Some(found)
}

fn held_by(claim: &Claim, now: Timestamp) -> String {
    format!("{YELLOW}Held by{YELLOW:#} {}: {} {}", claim.agent.who(), quote(&claim.path), claim.lasts(now))
}

impl Render for Answer<Claimed> {
    fn human(&self, page: &mut Page) {
        for claim in &self.read.claims {
            page.line(format!("Claimed {} {}", quote(&claim.path), claim.lasts(page.now())));
        }
        for claim in &self.read.others {
            page.line(held_by(claim, page.now()));
        }
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }

    fn code(&self) -> u8 {
        u8::from(!self.read.others.is_empty())
    }
}

impl Render for Answer<Claims> {
    fn human(&self, page: &mut Page) {
        for claim in &self.read.claims {
            page.line(claim.line(page.now()));
        }
        if self.read.more {
            page.line("There are more than an answer has room for");
        }
        if self.read.claims.is_empty() {
            page.line("Nothing is claimed");
        }
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }
}

/// The claims of other agents on files that are about to be committed.
struct Checked {
    claims: Vec<Claim>,
    raw: Vec<Value>,
    block: bool,
}

/// Maximum number of claims that are printed before a commit.
const MOST: usize = 10;

impl Render for Checked {
    fn human(&self, page: &mut Page) {
        for claim in self.claims.iter().take(MOST) {
            page.line(held_by(claim, page.now()));
        }
        if self.claims.len() > MOST {
            page.line(format!("{} more: thrum claim", self.claims.len() - MOST));
        }
    }

    fn json(&self) -> Value {
        json!({"claims": self.raw})
    }

    fn code(&self) -> u8 {
        u8::from(self.block && !self.claims.is_empty())
    }
}
