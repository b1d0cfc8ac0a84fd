//! `thrum reply`: answers a message.

use serde_json::json;
use thrum_core::Error;

use crate::{
    commands::{body::Body, send},
    context::Context,
};

/// Answer a message; the answer goes to its author and to its other recipients
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Marks the message read. An answer to a message to everyone goes to its author only.

Examples:
  thrum reply msg_01JZ3E9Q0V7M4T6X8B2C5D9F1G \"Looks good, merge it\"
  thrum reply msg_01JZ3E9Q0V7M4T6X8B2C5D9F1G --body-file notes.md")]
pub(crate) struct Args {
    /// The message to answer
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
