//! `thrum session set-intent` and `set-task`: set what the team reads about this agent.

use serde_json::json;
use thrum_core::Error;

use super::{mine, update_identity};
use crate::{
    answers::{Answer, Any},
    commands::body,
    context::Context,
    identity::Identity,
    render::OneLine,
    text::quote_within,
};

/// Set your intent, which is shown to the team on all machines
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum session set-intent \"Make login faster\"
  thrum session set-intent \"\"")]
pub(crate) struct IntentArgs {
    /// The intent; "" clears it, - or no argument reads it from standard input
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// The ID of the session [default: the open session of this agent]
    #[arg(long, value_name = "SESSION")]
    session_id: Option<String>,
}

/// Set your task, which is shown to the team on all machines
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum session set-task AUTH-17
  thrum session set-task \"\"")]
pub(crate) struct TaskArgs {
    /// The task; "" clears it, - or no argument reads it from standard input
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// The ID of the session [default: the open session of this agent]
    #[arg(long, value_name = "SESSION")]
    session_id: Option<String>,
}

pub(crate) fn intent(args: &IntentArgs, cx: &Context) -> Result<OneLine, Error> {
    let text = body::short(args.text.clone(), &cx.output)?;
    let mut client = cx.daemon()?;
    let mine = mine(args.session_id.as_ref(), cx, &mut client)?;
    let set = set_intent(&mine.session_id, &text, mine.identity, cx)?;
    Ok(confirmation("Intent", &text, set))
}

/// Sets the intent of a session. If `of` is given and has an identity file in this worktree, also stores the intent
/// there.
///
/// # Errors
/// Returns the daemon's error, or that of writing the identity file.
pub(crate) fn set_intent(
    session_id: &str,
    text: &str,
    of: Option<Identity>,
    cx: &Context,
) -> Result<Answer<Any>, Error> {
    let set = cx.daemon()?.call("session.setIntent", json!({"session_id": session_id, "intent": text}))?;
    update_identity(of, cx, |file| file.intent = Some(text.to_owned()).filter(|text| !text.is_empty()))?;
    Ok(set)
}

/// Sets the task of a session.
///
/// # Errors
/// Returns the daemon's error.
pub(crate) fn set_task(session_id: &str, text: &str, cx: &Context) -> Result<Answer<Any>, Error> {
    cx.daemon()?.call("session.setTask", json!({"session_id": session_id, "current_task": text}))
}

pub(crate) fn task(args: &TaskArgs, cx: &Context) -> Result<OneLine, Error> {
    let text = body::short(args.text.clone(), &cx.output)?;
    let mut client = cx.daemon()?;
    let mine = mine(args.session_id.as_ref(), cx, &mut client)?;
    let set = set_task(&mine.session_id, &text, cx)?;
    Ok(confirmation("Task", &text, set))
}

fn confirmation(what: &str, text: &str, set: Answer<Any>) -> OneLine {
    let line = if text.is_empty() { format!("{what} cleared") } else { format!("{what}: {}", quote_within(text, 200)) };
    OneLine { line, value: set.raw }
}
