//! `thrum session start`: starts a session.

use serde::Deserialize;
use serde_json::{Value, json};
use thrum_core::Error;

use super::update_identity;
use crate::{
    answers::Answer,
    context::Context,
    identity::Identity,
    render::{OneLine, agent},
    work_report,
};

/// Start a session; an open session of this agent ends
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Requires a registered agent (`thrum register`); `thrum quickstart` does both.

Examples:
  thrum session start
  thrum session start --as ann --intent \"Fix the login\"")]
pub(crate) struct Args {
    /// The intent of the session, as shown to the team
    #[arg(long, value_name = "TEXT")]
    intent: Option<String>,
}

/// The answer to `session.start`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SessionStarted {
    pub(crate) session_id: String,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<OneLine, Error> {
    let identity = cx.identity()?;
    let name = identity.name.clone();
    let started = begin(identity, args.intent.as_deref(), cx)?;
    let line = format!("Session {} of {}", started.read.session_id, agent(&name));
    Ok(OneLine { line, value: with_intent(started.raw, args.intent.as_deref()) })
}

/// Starts a session of this agent with the state of the worktree, and stores session and intent in the agent's identity
/// file, if it has one in this worktree.
///
/// # Errors
/// Returns the daemon's error, or that of writing the identity file.
pub(crate) fn begin(identity: Identity, intent: Option<&str>, cx: &Context) -> Result<Answer<SessionStarted>, Error> {
    let params = json!({"agent_id": identity.name, "intent": intent, "work_context": work_report::work(cx)?});
    let started: Answer<SessionStarted> = cx.daemon()?.call("session.start", params)?;
    update_identity(Some(identity), cx, |file| {
        file.session_id = Some(started.read.session_id.clone());
        file.intent = intent.map(str::to_owned);
    })?;
    Ok(started)
}

fn with_intent(mut value: Value, intent: Option<&str>) -> Value {
    if let Some(intent) = intent {
        value["intent"] = intent.into();
    }
    value
}
