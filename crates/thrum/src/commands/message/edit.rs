//! `thrum message edit`: replaces the text of a message of the caller.

use serde_json::{Value, json};
use thrum_core::Error;

use crate::{commands::body::Body, context::Context, render::OneLine};

/// Replace the text of one of your messages
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Recipients who have read the message are not notified of the change: send a new message if they need to know.

Examples:
  thrum message edit msg_01JZ3E9Q0V7M4T6X8B2C5D9F2H \"Ready for review, tests included\"
  thrum message edit msg_01JZ3E9Q0V7M4T6X8B2C5D9F2H --body-file notes.md")]
pub(crate) struct Args {
    /// The ID of the message
    #[arg(value_name = "MESSAGE")]
    message_id: String,
    #[command(flatten)]
    body: Body,
}

pub(crate) fn run(args: Args, cx: &Context) -> Result<OneLine, Error> {
    let me = cx.identity()?.name;
    let content = args.body.read(&cx.output)?;
    let params = json!({"message_id": args.message_id, "content": content, "caller_agent_id": me});
    let value: Value = cx.daemon()?.call("message.edit", params)?;
    let line = format!("Edited {} (version {})", args.message_id, value["version"].as_u64().unwrap_or(1));
    Ok(OneLine { line, value })
}
