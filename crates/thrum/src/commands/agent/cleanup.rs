//! `thrum agent cleanup`: finds agents that were left behind, and deletes them on request.

use serde::Deserialize;
use serde_json::{Value, json};
use thrum_core::{Error, name};

use super::delete::confirm;
use crate::{
    answers::Answer,
    context::Context,
    render::{Page, Render, plain_agent, style::BOLD},
    text::{count, quote},
};

/// Find abandoned agents, and delete them on request
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An agent is abandoned if it is registered with this repository's daemon, was not seen for --threshold days, has no \
active session, and has no identity file in any worktree of the repository. Without --force, agents are only deleted \
after confirmation on a terminal.

Examples:
  thrum agent cleanup --dry-run
  thrum agent cleanup --force --threshold 90")]
pub(crate) struct Args {
    /// List the agents without deleting them
    #[arg(long, conflicts_with = "force")]
    dry_run: bool,
    /// Delete the agents without confirmation
    #[arg(long)]
    force: bool,
    /// Minimum number of days since an agent was last seen
    #[arg(long, value_name = "DAYS", default_value_t = thrum_core::limits::ABANDONED_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    threshold: u32,
}

/// The answer to `agent.cleanup`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cleaned {
    orphans: Vec<Orphan>,
    deleted: Vec<String>,
    message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Orphan {
    agent_id: String,
    role: String,
    module: String,
    worktree: String,
    days_since_seen: u64,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Answer<Cleaned>, Error> {
    let mut client = cx.daemon()?;
    let params = |force: bool| json!({"dry_run": !force, "force": force, "threshold": args.threshold});
    if args.force {
        return client.call("agent.cleanup", params(true));
    }
    let found: Answer<Cleaned> = client.call("agent.cleanup", params(false))?;
    if args.dry_run || found.read.orphans.is_empty() || cx.output.is_json() || !cx.output.can_ask() {
        if !found.read.orphans.is_empty() {
            cx.output.hint("thrum agent cleanup --force deletes them.");
        }
        return Ok(found);
    }
    let mut page = Page::for_stdout();
    found.human(&mut page);
    cx.output.note(page.text().trim_end());
    confirm(&format!("Delete {}? Their messages stay.", count(found.read.orphans.len() as u64, "agent")), cx)?;
    client.call("agent.cleanup", params(true))
}

impl Render for Answer<Cleaned> {
    fn human(&self, page: &mut Page) {
        let Cleaned { orphans, deleted, message, .. } = &self.read;
        let row = |orphan: &Orphan| {
            let Orphan { agent_id, role, module, worktree, days_since_seen } = orphan;
            let done = if deleted.contains(agent_id) { "deleted" } else { "" };
            vec![
                plain_agent(agent_id, "", None),
                name::shown(role),
                name::shown(module),
                quote(worktree),
                count(*days_since_seen, "day"),
                done.to_owned(),
            ]
        };
        if !orphans.is_empty() {
            page.table(&["AGENT", "ROLE", "MODULE", "WORKTREE", "NOT SEEN FOR", ""], orphans.iter().map(row).collect());
        }
        page.line(format!("{BOLD}{}{BOLD:#}", name::printable(message)));
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }
}
