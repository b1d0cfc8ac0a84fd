//! `thrum message read`: marks messages as read.

use serde_json::{Value, json};
use thrum_core::Error;

use crate::{context::Context, render::OneLine, text::count};

/// Mark messages as read; messages of other mailboxes are not changed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum message read msg_01JZ3E9Q0V7M4T6X8B2C5D9F1G
  thrum message read --all")]
pub(crate) struct Args {
    /// The IDs of the messages
    #[arg(value_name = "MESSAGE", required_unless_present = "all", conflicts_with = "all")]
    message_ids: Vec<String>,
    /// Mark all messages in your inbox
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<OneLine, Error> {
    let me = cx.identity()?.name;
    if args.all {
        return all(&me, cx);
    }
    let answer: Value =
        cx.daemon()?.call("message.markRead", json!({"message_ids": args.message_ids, "caller_agent_id": me}))?;
    Ok(marked(answer["marked_count"].as_u64().unwrap_or(0), answer))
}

/// Marks the whole inbox as read. The daemon marks a limited number of messages per request, so that it stays free for
/// other callers; the request is repeated until nothing is left.
fn all(me: &str, cx: &Context) -> Result<OneLine, Error> {
    let mut client = cx.daemon()?;
    let mut total = 0;
    let mut progress = None;
    loop {
        let answer: Value = client.call("message.markRead", json!({"all": true, "caller_agent_id": me}))?;
        let (count, left) = (answer["marked_count"].as_u64().unwrap_or(0), answer["unread"].as_u64().unwrap_or(0));
        total += count;
        if count == 0 || left == 0 {
            return Ok(marked(total, json!({"marked_count": total})));
        }
        progress.get_or_insert_with(|| cx.output.progress("Marking messages read", Some(total + left))).at(total);
    }
}

fn marked(number: u64, value: Value) -> OneLine {
    OneLine { line: format!("Marked {} as read", count(number, "message")), value }
}
