//! `thrum agent list`: lists the registered agents.

use serde_json::{Value, json};
use thrum_core::{Error, name};

use super::context;
use crate::{
    answers::{Agents, Answer, Contexts, ListedAgent},
    context::Context,
    render::{Page, Render, plain_agent},
    text::quote_within,
};

/// List the registered agents, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum agent list --role reviewer
  thrum agent list --module auth --context")]
pub(crate) struct Args {
    /// Only agents with this role
    #[arg(long)]
    role: Option<String>,
    /// Only agents of this module
    #[arg(long)]
    module: Option<String>,
    /// Include the work in their sessions
    #[arg(long)]
    context: bool,
}

/// Maximum number of characters shown of a display name or host name, not counting the "…" after a name that was cut.
const MOST: usize = 60;

/// Agents, with their contexts if requested.
pub(crate) struct List {
    agents: Answer<Agents>,
    contexts: Option<Answer<Contexts>>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<List, Error> {
    let mut client = cx.daemon()?;
    let agents: Answer<Agents> = client.call("agent.list", json!({"role": args.role, "module": args.module}))?;
    let mut contexts: Option<Answer<Contexts>> =
        if args.context { Some(client.call("agent.listContext", json!({}))?) } else { None };
    if let Some(Answer { raw, read }) = &mut contexts {
        let listed = |name: &str, home: &str| {
            agents.read.agents.iter().any(|agent| agent.agent_id == name && agent.home == home)
        };
        read.contexts.retain(|context| listed(&context.agent.agent_id, &context.agent.home));
        if let Some(raw) = raw["contexts"].as_array_mut() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            raw.retain(|context| listed(&text(&context["agent_id"]), &text(&context["home"])));
        }
    }
    Ok(List { agents, contexts })
}

impl Render for List {
    fn human(&self, page: &mut Page) {
        let agents = &self.agents.read.agents;
        if agents.is_empty() {
            return page.line("No agents");
        }
        let row = |agent: &ListedAgent| {
            let ListedAgent {
                agent_id,
                address,
                signed,
                role,
                module,
                display,
                home_name,
                local,
                hostname,
                last_seen_at,
                registered_at,
                doing,
                ..
            } = agent;
            let who = plain_agent(agent_id, address, *signed);
            let place = match home_name {
                _ if *local => "here".to_owned(),
                Some(machine) => name::shown_machine(machine),
                None => quote_within(hostname, MOST),
            };
            let display = if display.is_empty() { String::new() } else { quote_within(display, MOST) };
            let seen = last_seen_at
                .map_or_else(|| format!("never; registered {}", page.time(*registered_at)), |at| page.time(at));
            vec![who, name::shown(role), name::shown(module), display, place, doing.words().unwrap_or_default(), seen]
        };
        let rows = agents.iter().map(row).collect();
        page.table(&["AGENT", "ROLE", "MODULE", "DISPLAY", "LIVES", "DOES", "LAST SEEN"], rows);
        if self.agents.read.more {
            page.line("There are more than an answer has room for: --role and --module choose among them");
        }
        if let Some(contexts) = &self.contexts {
            page.line("");
            context::table(&contexts.read, page);
        }
    }

    fn json(&self) -> Value {
        let mut value = self.agents.raw.clone();
        if let Some(contexts) = &self.contexts {
            value["contexts"] = contexts.raw["contexts"].clone();
        }
        value
    }
}
