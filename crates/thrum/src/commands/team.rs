//! `thrum team`: shows the agents and their work.

use serde_json::{Value, json};
use thrum_core::{Error, name, words::count};

use crate::{
    answers::{Answer, Collisions, Member, Team},
    commands::who_has,
    context::Context,
    render::{
        Page, Render,
        style::{DIM, GREEN, YELLOW},
        who,
    },
    text::{quote, quote_within},
};

/// Show the agents, what they work on, and how much mail is waiting for them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum team
  thrum team --all --json")]
pub(crate) struct Args {
    /// Include agents that are not active: no session, a silent one, or a program that has ended
    #[arg(long, short)]
    all: bool,
}

/// The members of the team, and recent collisions of their changes.
pub(crate) struct TeamPage {
    team: Answer<Team>,
    collisions: Answer<Collisions>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<TeamPage, Error> {
    let mut client = cx.daemon()?;
    let team = client.call("team.list", json!({"include_offline": args.all}))?;
    Ok(TeamPage { team, collisions: who_has::collisions(None, &mut client)? })
}

impl Render for TeamPage {
    fn human(&self, page: &mut Page) {
        for member in &self.team.read.members {
            show(member, page);
        }
        if self.team.read.more {
            page.line("There are more agents than an answer has room for: thrum agent list --role ROLE");
        }
        if self.team.read.members.is_empty() {
            page.line("No agent is active (thrum team --all shows all agents)");
        }
        for collision in &self.collisions.read.collisions {
            page.line(format!("{YELLOW}Collision:{YELLOW:#} {}", collision.line()));
        }
    }

    fn json(&self) -> Value {
        let mut value = self.team.raw.clone();
        value["collisions"] = self.collisions.raw["collisions"].clone();
        value
    }
}

/// Maximum number of files shown per agent.
const FILES: usize = 5;

fn show(member: &Member, page: &mut Page) {
    let Member { agent_id, role, module, session_start, last_seen, intent, current_task, status, .. } = member;
    let active = status == "active";
    let mark = if active { format!("{GREEN}●{GREEN:#}") } else { "○".to_owned() };
    let mut facts = vec![format!("{} · {}", name::shown(role), name::shown(module))];
    let doing = member.doing.words().filter(|_| active);
    match (session_start, last_seen) {
        _ if doing.is_some() => {
            let lasts = member.doing.presence_since.map(|at| format!(" {}", page.lasting(at))).unwrap_or_default();
            facts.push(format!("{}{lasts}", doing.unwrap_or_default()));
        }
        (Some(at), _) if active => facts.push(format!("active {}", page.lasting(*at))),
        (_, Some(at)) => facts.push(format!("{}, last seen {}", quote(status), page.time(*at))),
        _ => facts.push(quote(status)),
    }
    if let Some(state) = member.home_state.as_deref().filter(|state| !matches!(*state, "connected" | "connecting")) {
        let since = member.home_state_since.map(|at| format!(" since {}", page.time(at))).unwrap_or_default();
        facts.push(format!("its machine: {}{since}", name::printable(&state.replace('_', " "))));
    }
    if let (Some(unread), Some(total)) = (member.inbox_unread, member.inbox_total) {
        facts.push(format!("inbox {unread}/{total}"));
    }
    page.line(format!("{mark} {}  {}", who(agent_id, &member.address, member.signed), facts.join("  ")));
    for held in &member.held {
        let messages = count(held.messages, "message");
        page.line(format!(
            "    Held: mail to {}, after {messages} without a person; a prompt to either goes on",
            name::printable(&held.to)
        ));
    }
    let short =
        |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(|text| quote_within(text, 120));
    if let Some(intent) = short(intent) {
        page.line(format!("    Intent: {intent}"));
    }
    if let Some(task) = short(current_task) {
        page.line(format!("    Task: {task}"));
    }
    let ahead =
        if member.unmerged_commits > 0 { format!(" ({} ahead)", member.unmerged_commits) } else { String::new() };
    let branch = short(&member.branch).map(|branch| branch + &ahead);
    let place: Vec<_> =
        [short(&Some(member.hostname.clone())), short(&member.worktree), branch].into_iter().flatten().collect();
    if !place.is_empty() {
        page.line(format!("    {DIM}{}{DIM:#}", place.join(" · ")));
    }
    let changed: Vec<&str> = member.file_changes.iter().map(|change| change.path.as_str()).collect();
    if !changed.is_empty() {
        let shown: Vec<_> = changed.iter().take(FILES).map(|path| quote(path)).collect();
        let more = if changed.len() > FILES { format!(" and {} more", changed.len() - FILES) } else { String::new() };
        page.line(format!("    {DIM}Files: {}{more}{DIM:#}", shown.join(", ")));
    }
}
