//! `thrum team`.

use serde_json::{Value, json};
use thrum_core::{Fault, name::printable};

use crate::{
    context::Context,
    render::{
        Page, Render, agent,
        style::{DIM, GREEN, YELLOW},
    },
    shapes::{Answer, Member, Team, at_home},
    text::preview,
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
        if self.read.more {
            page.line("There are more agents than an answer has room for: thrum agent list --role ROLE");
        }
        if self.read.members.is_empty() {
            page.line("Nobody has an open session (thrum team --all shows everyone)");
        }
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }
}

/// Most files shown of one agent.
const FILES: usize = 5;

fn show(member: &Member, page: &mut Page) {
    let Member { agent_id, role, module, session_start, last_seen, intent, current_task, status, .. } = member;
    let active = status == "active";
    let mark = if active { format!("{GREEN}●{GREEN:#}") } else { "○".to_owned() };
    let mut facts = vec![format!("{} · {}", printable(role), printable(module))];
    match (session_start, last_seen) {
        (Some(at), _) if active => facts.push(format!("active {}", page.lasting(*at))),
        (_, Some(at)) => facts.push(format!("{}, last seen {}", printable(status), page.time(*at))),
        _ => facts.push(printable(status)),
    }
    if let (Some(unread), Some(total)) = (member.inbox_unread, member.inbox_total) {
        facts.push(format!("inbox {unread}/{total}"));
    }
    let home = at_home(member.local.unwrap_or(true), member.home_name.as_deref());
    page.line(format!("{mark} {}{home}  {}", agent(agent_id), facts.join("  ")));
    let said = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(|text| preview(text, 120));
    if let Some(intent) = said(intent) {
        page.line(format!("    {intent}"));
    }
    if let Some(task) = said(current_task) {
        page.line(format!("    Task: {task}"));
    }
    let ahead = if member.unmerged_commits > 0 { format!(" ({} ahead)", member.unmerged_commits) } else { String::new() };
    let branch = said(&member.branch).map(|branch| branch + &ahead);
    let place: Vec<_> = [said(&Some(member.hostname.clone())), said(&member.worktree), branch].into_iter().flatten().collect();
    if !place.is_empty() {
        page.line(format!("    {DIM}{}{DIM:#}", place.join(" · ")));
    }
    let changed: Vec<&str> = member.file_changes.iter().map(|change| change.path.as_str()).collect();
    if !changed.is_empty() {
        let shown: Vec<_> = changed.iter().take(FILES).map(|path| printable(path)).collect();
        let more = if changed.len() > FILES { format!(" and {} more", changed.len() - FILES) } else { String::new() };
        page.line(format!("    {DIM}Files: {}{more}{DIM:#}", shown.join(", ")));
    }
}
