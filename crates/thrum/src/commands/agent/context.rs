//! `thrum agent context`: what is going on in open sessions.

use serde_json::{Value, json};
use thrum_core::Error;

use crate::{
    answers::{Answer, Contexts, Working},
    commands::{
        known,
        who_has::{lines, repo_path},
    },
    context::Context,
    render::{Page, Render, style::DIM},
    text::{count, quote, quote_within},
};

/// Maximum number of files and of commits shown per session.
const SHOWN: usize = 20;

/// Show the work of agents: intent, task, branch, commits, files
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum agent context @ann
  thrum agent context --branch main --file src/login.rs")]
pub(crate) struct Args {
    /// Show only this agent
    #[arg(value_name = "AGENT")]
    agent: Option<String>,
    /// Show only agents that work on this branch
    #[arg(long)]
    branch: Option<String>,
    /// Show only agents that change this file
    #[arg(long)]
    file: Option<String>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Answer<Contexts>, Error> {
    let agent = args.agent.as_deref().map(known::bare);
    let file = args.file.as_deref().map(|file| repo_path(file, cx)).transpose()?;
    let params = json!({"agent_id": agent, "branch": args.branch, "file": file});
    let answer: Answer<Contexts> = cx.daemon()?.call("agent.listContext", params)?;
    if let (Some(agent), true) = (agent, answer.read.contexts.is_empty()) {
        known::agent(agent, cx)?;
    }
    Ok(answer)
}

impl Render for Answer<Contexts> {
    fn human(&self, page: &mut Page) {
        if self.read.contexts.is_empty() {
            page.line("No open session has a work context");
        }
        for context in &self.read.contexts {
            show(context, page);
        }
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }
}

fn show(context: &Working, page: &mut Page) {
    let Working { branch, unmerged_commits, file_changes, intent, current_task, last_seen_at, status, .. } = context;
    page.line(format!(
        "{}  {} ({DIM}last seen {}{DIM:#})",
        context.agent.who(),
        context.doing.words().unwrap_or_else(|| quote(status)),
        page.time(*last_seen_at)
    ));
    for (name, text) in [("Intent", intent), ("Task", current_task), ("Branch", branch)] {
        if let Some(text) = text {
            page.line(format!("    {name}: {}", quote_within(text, 200)));
        }
    }
    for commit in unmerged_commits.iter().take(SHOWN) {
        page.line(format!(
            "    {} {}",
            quote_within(commit.sha.get(..8).unwrap_or(&commit.sha), 8),
            quote_within(&commit.message, 100)
        ));
    }
    for change in file_changes.iter().take(SHOWN) {
        page.line(format!("    {} ({})", quote(&change.path), lines(change)));
    }
    let more = unmerged_commits.len().saturating_sub(SHOWN) + file_changes.len().saturating_sub(SHOWN);
    if more > 0 {
        page.line(format!("    {DIM}and {more} more{DIM:#}"));
    }
}

/// Adds a table with one row per session.
pub(super) fn table(contexts: &Contexts, page: &mut Page) {
    let row = |context: &Working| {
        let Working { session_id, branch, unmerged_commits, uncommitted_files, intent, git_updated_at, .. } = context;
        vec![
            context.agent.plain_agent(),
            quote(session_id),
            branch.as_deref().map(quote).unwrap_or_default(),
            unmerged_commits.len().to_string(),
            count(uncommitted_files.len() as u64, "file"),
            intent
                .as_deref()
                .filter(|intent| !intent.is_empty())
                .map(|intent| quote_within(intent, 60))
                .unwrap_or_default(),
            git_updated_at.map(|at| page.time(at)).unwrap_or_default(),
        ]
    };
    let rows = contexts.contexts.iter().map(row).collect();
    page.table(&["AGENT", "SESSION", "BRANCH", "COMMITS", "UNCOMMITTED", "INTENT", "UPDATED"], rows);
}
