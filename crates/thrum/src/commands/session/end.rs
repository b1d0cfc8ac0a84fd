//! `thrum session end`: ends a session.

use serde::Deserialize;
use serde_json::json;
use thrum_core::Error;

use super::{mine, update_identity};
use crate::{answers::Answer, context::Context, render::OneLine, time};

/// End a session; the agent stays registered and still receives mail
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum session end --reason crash
  thrum session end --session-id ses_01JZ3E9Q0V7M4T6X8B2C5D9F3J")]
pub(crate) struct Args {
    /// Reason for the end
    #[arg(long, value_enum, default_value = "normal")]
    reason: Reason,
    /// The ID of the session [default: the open session of this agent]
    #[arg(long, value_name = "SESSION")]
    session_id: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Reason {
    Normal,
    Crash,
}

/// The answer to `session.end`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SessionEnded {
    duration_ms: u64,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<OneLine, Error> {
    let mut client = cx.daemon()?;
    let mine = mine(args.session_id.as_ref(), cx, &mut client)?;
    let reason = match args.reason {
        Reason::Normal => "normal",
        Reason::Crash => "crash",
    };
    let ended: Answer<SessionEnded> =
        client.call("session.end", json!({"session_id": mine.session_id, "reason": reason}))?;
    update_identity(mine.identity, cx, |file| file.session_id = None)?;
    let lasted = time::brief(std::time::Duration::from_millis(ended.read.duration_ms));
    Ok(OneLine { line: format!("Session {} ended after {lasted}", mine.session_id), value: ended.raw })
}
