//! `thrum quickstart`: from nothing to an agent that can send, in one command.
//!
//! A user's own hook may run it at every start of a program, also after a compaction, so a second run continues the
//! open session with its task, scopes and refs, and with its intent unless `--intent` sets another. Only
//! `--new-session` ends that session and begins another one.

use serde_json::{Value, json};
use thrum_core::Error;

use crate::{
    answers::Whoami,
    client::Client,
    commands::register,
    context::Context,
    identity::IdentityFile,
    registration::{self, Enrolled, Wanted},
    render::{Page, Render},
    text::quote_within,
    work_report,
};

/// Register as an agent and start a session; sets up the repository if necessary
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Safe to repeat: a registered agent keeps its identity, and its open session continues with its intent, task, scopes and refs.

Examples:
  thrum quickstart --name ann --role implementer --module auth
  thrum quickstart --name ann --intent \"Make login faster\"
  thrum quickstart --new-session")]
pub(crate) struct Args {
    #[command(flatten)]
    wanted: Wanted,
    /// What the agent is about to do, as shown to the team
    #[arg(long, value_name = "TEXT")]
    intent: Option<String>,
    /// End the open session and start a new one
    #[arg(long)]
    new_session: bool,
}

/// An agent with an open session.
pub(crate) struct Started {
    enrolled: Enrolled,
    /// `true` if the session was open before.
    continued: bool,
    path: String,
}

pub(crate) fn run(args: Args, cx: &Context) -> Result<Started, Error> {
    let (mut enrolled, mut client) = registration::enrol(&args.wanted, cx)?;
    let file = &mut enrolled.file;
    let open = if args.new_session { None } else { open_session(&file.agent.name, &mut client)? };
    let continued = open.is_some();
    (file.session_id, file.intent) = match open {
        Some((id, intent)) => {
            client.call::<Value>(
                "session.heartbeat",
                json!({"session_id": id, "work_context": work_report::work(cx)?}),
            )?;
            if let Some(intent) = &args.intent {
                client.call::<Value>("session.setIntent", json!({"session_id": id, "intent": intent}))?;
            }
            (Some(id), args.intent.or(intent).filter(|intent| !intent.is_empty()))
        }
        None => {
            let params =
                json!({"agent_id": file.agent.name, "intent": args.intent, "work_context": work_report::work(cx)?});
            let session: Value = client.call("session.start", params)?;
            (session["session_id"].as_str().map(str::to_owned), args.intent)
        }
    };
    let path = enrolled.keep(cx)?.display().to_string();
    Ok(Started { enrolled, continued, path })
}

/// Returns the id and the intent of an agent's open session, if it has one.
fn open_session(name: &str, client: &mut Client) -> Result<Option<(String, Option<String>)>, Error> {
    let me: Whoami = client.call("agent.whoami", json!({"caller_agent_id": name}))?;
    Ok(me.session_id.map(|id| (id, me.intent)))
}

impl Render for Started {
    fn human(&self, page: &mut Page) {
        register::registered(&self.enrolled, page);
        let IdentityFile { session_id, intent, .. } = &self.enrolled.file;
        let goes_on = if self.continued { " goes on" } else { "" };
        page.line(format!("Session {}{goes_on}", session_id.as_deref().unwrap_or("-")));
        if let Some(intent) = intent {
            page.line(format!("Intent: {}", quote_within(intent, 200)));
        }
    }

    fn json(&self) -> Value {
        let Enrolled { file: IdentityFile { agent: part, session_id, intent, worktree, branch, .. }, status } =
            &self.enrolled;
        json!({
            "status": status, "agent_id": part.name, "role": part.role, "module": part.module, "display": part.display,
            "session_id": session_id, "continued": self.continued, "intent": intent, "worktree": worktree, "branch": branch, "identity_file": self.path,
        })
    }
}
