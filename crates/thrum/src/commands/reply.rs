//! `thrum reply`: answers a message.

use serde_json::json;
use thrum_core::Error;

use crate::{
    commands::{body::Body, send},
    context::Context,
};

/// Reply to a message; the reply goes to its author and its other recipients
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Marks the message as read. A reply to a message to everyone goes only to its author.

Examples:
  thrum reply msg_01JZ3E9Q0V7M4T6X8B2C5D9F1G \"Looks good, merge it\"
  thrum reply msg_01JZ3E9Q0V7M4T6X8B2C5D9F1G --body-file notes.md")]
pub(crate) struct Args {
    /// The ID of the message to reply to
    #[arg(value_name = "MESSAGE")]
    message_id: String,
    #[command(flatten)]
    body: Body,
    #[command(flatten)]
    details: send::Details,
}

pub(crate) fn run(args: Args, cx: &Context) -> Result<send::Stored, Error> {
    let me = cx.identity()?.name;
    let content = args.body.read(&cx.output)?;
    let params =
        json!({"content": content, "reply_to": args.message_id, "to_parent_audience": true, "caller_agent_id": me});
    Ok(send::Stored::reply(send::store(cx, params, args.details, send::with_option)?))
}
