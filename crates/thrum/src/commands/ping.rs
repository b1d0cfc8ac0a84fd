//! `thrum ping`: shows whether an agent is there.

use serde_json::{Value, json};
use thrum_core::{Address, Error, ErrorKind, name};

use crate::{
    answers::{Answer, Member, Team},
    context::Context,
    render::{Page, Render, who},
    text::quote,
};

/// Show whether an agent is active, and when it was last seen
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An agent is active while it has a session and was seen within the last hour (on another machine: the last day).

Examples:
  thrum ping @bob
  thrum ping reviewer --json")]
pub(crate) struct Args {
    /// The name, display name or role of an agent
    #[arg(value_name = "AGENT")]
    agent: String,
}

/// All agents that the name matches.
pub(crate) struct Matches(Vec<(Member, Value)>);

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Matches, Error> {
    let Address { name: wanted, machine } = Address::parse(&args.agent);
    let team: Answer<Team> = cx.daemon()?.call("team.list", json!({"include_offline": true}))?;
    let Answer { mut raw, read } = team;
    let values = raw["members"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let all: Vec<(Member, Value)> = read.members.into_iter().zip(values).collect();
    let is_there = |member: &Member| {
        let called = |name: &Option<String>| machine.is_none() || *name == machine;
        called(&member.home_name) || called(&member.home)
    };
    let named = |says: fn(&Member) -> &str| {
        all.iter()
            .filter(|(member, _)| says(member).eq_ignore_ascii_case(&wanted) && is_there(member))
            .cloned()
            .collect::<Vec<_>>()
    };
    let found =
        [named(|m| &m.agent_id), named(|m| &m.display), named(|m| &m.role)].into_iter().find(|found| !found.is_empty());
    found.map(Matches).ok_or_else(|| {
        let ids =
            || all.iter().map(|(member, _)| member).filter(|member| machine.is_none() || member.agent_id == wanted);
        let near = match &machine {
            Some(machine) => name::nearest_machine(machine, ids().filter_map(|member| member.home_name.as_deref()))
                .map(|machine| Address { name: wanted.clone(), machine: Some(machine.to_owned()) }),
            None => name::nearest(&wanted, ids().flat_map(|member| [member.agent_id.as_str(), &member.role]))
                .map(|name| Address { name: name.to_owned(), machine: None }),
        };
        let hint = near.map_or_else(|| "thrum team --all".to_owned(), |near| format!("Did you mean {}?", near.shown()));
        Error::new(ErrorKind::NotFound, format!("no agent, display name or role is called {}", quote(&args.agent)))
            .hint(hint)
    })
}

impl Render for Matches {
    fn human(&self, page: &mut Page) {
        for (member, _) in &self.0 {
            page.line(line(member, page));
        }
    }

    fn json(&self) -> Value {
        json!({"agents": self.0.iter().map(|(_, value)| value).collect::<Vec<_>>()})
    }
}

fn line(member: &Member, page: &Page) -> String {
    let Member { agent_id, address, signed, status, last_seen, home_state, home_state_since, .. } = member;
    let seen = last_seen.map_or_else(|| "never seen".to_owned(), |at| format!("last seen {}", page.time(at)));
    let state = match (status.as_str(), last_seen) {
        ("active", _) => format!("active, {seen}"),
        (_, Some(at)) => format!("offline, last seen {}", page.time(*at)),
        _ => "offline, never seen".to_owned(),
    };
    let reach = match (home_state.as_deref(), home_state_since) {
        (None, _) => String::new(),
        (Some("connected"), _) => "; its daemon answers".to_owned(),
        (Some("through_git"), _) => "; its daemon is reached through git".to_owned(),
        (Some("git_absent"), _) => "; its daemon is not on the git remote any more".to_owned(),
        (Some(state), Some(since)) => {
            format!("; its daemon is {} ({})", quote(&state.replace('_', "-")), page.lasting(*since))
        }
        (Some(state), None) => format!("; its daemon is {}", quote(state)),
    };
    format!("{}: {state}{reach}", who(agent_id, address, *signed))
}
