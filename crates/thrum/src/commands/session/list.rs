//! `thrum session list`: lists sessions.

use serde::Deserialize;
use serde_json::{Value, json};
use thrum_core::{Error, Timestamp};

use crate::{
    answers::Answer,
    commands::known,
    context::Context,
    render::{Page, Render, plain_agent, style::DIM},
    text::{quote, quote_within},
};

/// List sessions, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A session is silent if it is open but its agent was not seen for an hour (on another machine: for a day).

Examples:
  thrum session list --active
  thrum session list --agent ann")]
pub(crate) struct Args {
    /// Only active sessions
    #[arg(long)]
    active: bool,
    /// Only sessions of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Maximum number of sessions
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
}

/// The answer to `session.list`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Sessions {
    sessions: Vec<Session>,
    #[serde(default)]
    more: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Session {
    session_id: String,
    agent_id: String,
    address: String,
    signed: Option<bool>,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    end_reason: Option<String>,
    last_seen_at: Timestamp,
    intent: Option<String>,
    status: String,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Answer<Sessions>, Error> {
    let agent = args.agent.as_deref().map(known::bare);
    let params = json!({"active_only": args.active, "agent_id": agent, "limit": args.limit});
    let answer: Answer<Sessions> = cx.daemon()?.call("session.list", params)?;
    if let (Some(agent), true) = (agent, answer.read.sessions.is_empty()) {
        known::agent(agent, cx)?;
    }
    Ok(answer)
}

impl Render for Answer<Sessions> {
    fn human(&self, page: &mut Page) {
        if self.read.sessions.is_empty() {
            return page.line("No sessions");
        }
        let row = |session: &Session| {
            let Session {
                session_id,
                agent_id,
                address,
                signed,
                started_at,
                ended_at,
                end_reason,
                last_seen_at,
                intent,
                status,
            } = session;
            let state = match (ended_at, end_reason) {
                // Go Thrum's word for a session that a new one replaced, whether or not there was a crash.
                (Some(_), Some(reason)) if reason == "crash_recovered" => {
                    format!("{status} (replaced by a new session)")
                }
                (Some(_), Some(reason)) => format!("{status} ({})", quote(&reason.replace('_', "-"))),
                _ => status.clone(),
            };
            let intent = intent
                .as_deref()
                .filter(|intent| !intent.is_empty())
                .map(|intent| quote_within(intent, 60))
                .unwrap_or_default();
            vec![
                quote(session_id),
                plain_agent(agent_id, address, *signed),
                state,
                page.time(*started_at),
                page.time(*last_seen_at),
                intent,
            ]
        };
        let rows = self.read.sessions.iter().map(row).collect();
        page.table(&["SESSION", "AGENT", "STATE", "STARTED", "LAST SEEN", "INTENT"], rows);
        if self.read.more {
            page.line(format!("{DIM}… and older ones; --limit shows more{DIM:#}"));
        }
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }
}
