//! `thrum message delete`: takes back a message of the caller, at all its recipients.

use serde_json::{Value, json};
use thrum_core::{Error, name::printable};

use crate::{commands::agent::confirm, context::Context, render::OneLine};

/// Delete one of your messages on all machines, permanently
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks for confirmation on a terminal; otherwise --force is required.

The text is no longer shown. It is removed from the disks, here and on the peers, by a `thrum purge` that covers the message's time.

Examples:
  thrum message delete msg_01JZ3E9Q0V7M4T6X8B2C5D9F2H --force
  thrum message delete msg_01JZ3E9Q0V7M4T6X8B2C5D9F2H --force --reason \"wrong branch\"")]
pub(crate) struct Args {
    /// The ID of the message
    #[arg(value_name = "MESSAGE")]
    message_id: String,
    /// Skip the confirmation prompt
    #[arg(long, short)]
    force: bool,
    /// The reason, as shown to agents that look up the message
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<OneLine, Error> {
    let me = cx.identity()?.name;
    if !args.force {
        confirm(&format!("Delete {} for everybody?", printable(&args.message_id)), cx)?;
    }
    let params = json!({"message_id": args.message_id, "reason": args.reason, "caller_agent_id": me});
    let value: Value = cx.daemon()?.call("message.delete", params)?;
    Ok(OneLine { line: format!("Deleted {}", args.message_id), value })
}
