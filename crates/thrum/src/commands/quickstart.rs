//! `thrum quickstart`: from nothing to an agent that can send, in one command.

use serde_json::{Value, json};
use thrum_core::Fault;

use crate::{
    beat,
    commands::register,
    context::Context,
    identity::IdentityFile,
    registration::{self, Enrolled, Wanted},
    render::{Page, Render},
    text::preview,
};

/// Register as an agent and begin a session; sets the repository up if need be
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Safe to repeat: a registered agent stays the same and begins a new session.

Examples:
  thrum quickstart --name ann --role implementer --module auth
  thrum quickstart --name ann --intent \"Make login faster\"")]
pub(crate) struct Args {
    #[command(flatten)]
    wanted: Wanted,
    /// What it is about to do; the team sees it
    #[arg(long, value_name = "TEXT")]
    intent: Option<String>,
}

/// An agent with a session.
pub(crate) struct Started {
    enrolled: Enrolled,
    path: String,
}

pub(crate) fn run(args: Args, cx: &Context) -> Result<Started, Fault> {
    let (mut enrolled, mut client) = registration::enrol(&args.wanted, cx)?;
    let file = &mut enrolled.file;
    let session: Value = client.call(
        "session.start",
        json!({
            "agent_id": file.agent.name, "intent": args.intent, "work_context": beat::work(cx)?,
        }),
    )?;
    file.session_id = session["session_id"].as_str().map(str::to_owned);
    file.intent = args.intent;
    let path = enrolled.keep(cx)?.display().to_string();
    Ok(Started { enrolled, path })
}

impl Render for Started {
    fn human(&self, page: &mut Page) {
        register::registered(&self.enrolled, page);
        let IdentityFile { session_id, intent, .. } = &self.enrolled.file;
        page.line(format!("Session {}", session_id.as_deref().unwrap_or("-")));
        if let Some(intent) = intent {
            page.line(format!("Intent: {}", preview(intent, 200)));
        }
    }

    fn json(&self) -> Value {
        let Enrolled { file: IdentityFile { agent: part, session_id, intent, worktree, branch, .. }, status } = &self.enrolled;
        json!({
            "status": status, "agent_id": part.name, "role": part.role, "module": part.module, "display": part.display,
            "session_id": session_id, "intent": intent, "worktree": worktree, "branch": branch, "identity_file": self.path,
        })
    }
}
