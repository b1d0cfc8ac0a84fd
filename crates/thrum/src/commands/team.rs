//! `thrum team`.

use serde_json::{Value, json};
use thrum_core::{Fault, name::printable};

use crate::{
    context::Context,
    render::{
        Page, Render, agent,
        style::{DIM, GREEN, YELLOW},
    },
    shapes::{Answer, Member, Team},
    text::{count, preview},
};

/// Show the agents, what they are about, and how much mail waits for them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum team
  thrum team --all --json")]
pub(crate) struct Args {
    /// Also agents without an open session
    #[arg(long, short)]
    all: bool,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Answer<Team>, Fault> {
    cx.daemon()?.call("team.list", json!({"include_offline": args.all}))
}

impl Render for Answer<Team> {
    fn human(&self, page: &mut Page) {
        let members = &self.read.members;
        for member in members {
            show(member, page);
            // A mailbox belongs to a name and its home, so mail to the name goes to both.
            if members.iter().any(|other| other.agent_id == member.agent_id && other.home != member.home) {
                page.line(format!("    {YELLOW}Another daemon has an agent of this name, too{YELLOW:#}"));
            }
        }
        if self.read.members.is_empty() {
            page.line("Nobody has an open session (thrum team --all shows everyone)");
        }
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }
}

fn show(member: &Member, page: &mut Page) {
    let Member { agent_id, role, module, hostname, worktree, branch, session_start, intent, current_task, inbox_unread, status, .. } =
        member;
    let active = status == "active";
    let mark = if active { format!("{GREEN}●{GREEN:#}") } else { "○".to_owned() };
    let mut facts = vec![format!("{} · {}", printable(role), printable(module))];
    match session_start {
        Some(at) if active => facts.push(format!("active {}", page.lasting(*at))),
        _ => facts.push(printable(status)),
    }
    if *inbox_unread > 0 {
        facts.push(count(*inbox_unread, "unread message"));
    }
    let home = match (member.local, &member.home_name) {
        (Some(false), Some(name)) => format!(" at {}", printable(name)),
        (Some(false), None) => " elsewhere".to_owned(),
        _ => String::new(),
    };
    page.line(format!("{mark} {}{home}  {}", agent(agent_id), facts.join("  ")));
    let said = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(|text| preview(text, 120));
    if let Some(intent) = said(intent) {
        page.line(format!("    {intent}"));
    }
    if let Some(task) = said(current_task) {
        page.line(format!("    Task: {task}"));
    }
    let place: Vec<_> = [said(&Some(hostname.clone())), said(worktree), said(branch)].into_iter().flatten().collect();
    if !place.is_empty() {
        page.line(format!("    {DIM}{}{DIM:#}", place.join(" · ")));
    }
}
