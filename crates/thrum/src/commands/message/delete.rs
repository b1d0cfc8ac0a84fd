//! `thrum message delete`: takes back a message of the caller, at all its recipients.

use serde_json::{Value, json};
use thrum_core::{Error, name::printable};

use crate::{commands::agent::confirm, context::Context, render::OneLine};

/// Take a message of yours back, everywhere and for good
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks first on a terminal; elsewhere --force is needed.

The text is not shown any more. It leaves the disks, here and at the peers, with a `thrum purge` of its time.

Examples:
  thrum message delete msg_01JZ3E9Q0V7M4T6X8B2C5D9F2H --force
  thrum message delete msg_01JZ3E9Q0V7M4T6X8B2C5D9F2H --force --reason \"wrong branch\"")]
pub(crate) struct Args {
    /// The id of the message
    #[arg(value_name = "MESSAGE")]
    message_id: String,
    /// Do not ask
    #[arg(long, short)]
    force: bool,
    /// Why, for those who look it up
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
