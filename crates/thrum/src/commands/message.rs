//! `thrum message get` and `thrum message read`.

use serde_json::{Value, json};
use thrum_core::Fault;

use crate::{
    cli::boxed,
    context::Context,
    render::{Page, Render, Said, agent},
    shapes::{Answer, Got, Listing, Message, Recipient},
    text::count,
};

/// Look at one message, or mark messages read
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show one message whole, with who has read it; marks it read
    #[command(after_help = "\
Examples:
  thrum message get msg_01JZ3E9Q0V7M4T6X8B2C5D9F1G
  thrum message get msg_01JZ3E9Q0V7M4T6X8B2C5D9F2H --json")]
    Get {
        /// Its id
        #[arg(value_name = "MESSAGE")]
        message_id: String,
    },
    /// Mark messages read
    #[command(after_help = "\
Examples:
  thrum message read msg_01JZ3E9Q0V7M4T6X8B2C5D9F1G
  thrum message read --all")]
    Read {
        /// Their ids
        #[arg(value_name = "MESSAGE", required_unless_present = "all", conflicts_with = "all")]
        message_ids: Vec<String>,
        /// All of your inbox
        #[arg(long)]
        all: bool,
    },
}

impl Command {
    pub(crate) fn run(self, cx: &Context) -> Result<Box<dyn Render>, Fault> {
        match self {
            Self::Get { message_id } => boxed(get(&message_id, cx)),
            Self::Read { message_ids, all } => boxed(if all { read_all(cx) } else { read(&message_ids, cx) }),
        }
    }
}

fn get(message_id: &str, cx: &Context) -> Result<Answer<Got>, Fault> {
    let me = cx.identity()?.name;
    let mut client = cx.daemon()?;
    let got: Answer<Got> = client.call("message.get", json!({"message_id": message_id, "caller_agent_id": me}))?;
    let unread = |to: &Recipient| to.agent_id == me && to.read_at.is_none();
    if got.read.message.recipients.iter().any(unread) {
        client.call::<Value>("message.markRead", json!({"message_ids": [message_id], "caller_agent_id": me}))?;
    }
    Ok(got)
}

fn read(message_ids: &[String], cx: &Context) -> Result<Said, Fault> {
    let me = cx.identity()?.name;
    let answer: Value = cx.daemon()?.call("message.markRead", json!({"message_ids": message_ids, "caller_agent_id": me}))?;
    Ok(marked(answer["marked_count"].as_u64().unwrap_or(0), answer))
}

/// Marks what is addressed to me and unread, page by page, until nothing is left.
fn read_all(cx: &Context) -> Result<Said, Fault> {
    const PAGE: usize = 100;
    let me = cx.identity()?;
    let mut client = cx.daemon()?;
    let mut total = 0;
    let mut progress = None;
    loop {
        let mut params = json!({
            "caller_agent_id": me.name, "for_agent": me.name, "unread_for_agent": me.name, "page_size": PAGE,
        });
        if let Some(role) = me.role() {
            params["for_agent_role"] = role.into();
        }
        let listing: Listing = client.call("message.list", params)?;
        let ids: Vec<_> = listing.messages.iter().map(|message| &message.message_id).collect();
        if ids.is_empty() {
            break;
        }
        let answer: Value = client.call("message.markRead", json!({"message_ids": ids, "caller_agent_id": me.name}))?;
        let count = answer["marked_count"].as_u64().unwrap_or(0);
        total += count;
        progress.get_or_insert_with(|| cx.output.progress("Marking messages read", Some(listing.unread))).at(total);
        // Nothing left to mark, or the daemon will not mark the rest; asking again would not end.
        if count == 0 || ids.len() < PAGE {
            break;
        }
    }
    Ok(marked(total, json!({"marked_count": total})))
}

fn marked(number: u64, value: Value) -> Said {
    Said { line: format!("Marked {} as read", count(number, "message")), value }
}

impl Render for Answer<Got> {
    fn human(&self, page: &mut Page) {
        let Message { message_id, thread_id, reply_to, author, body, created_at, updated_at, deleted, audiences, recipients, .. } =
            &self.read.message;
        page.field("Message", message_id);
        page.field("From", agent(&author.agent_id));
        let to: Vec<_> = audiences.iter().map(|to| agent(&to.value)).collect();
        page.field("To", if to.is_empty() { agent("everyone") } else { to.join(", ") });
        page.field("Sent", page.time(*created_at));
        if let Some(at) = updated_at {
            page.field("Edited", page.time(*at));
        }
        for (name, id) in [("Thread", thread_id), ("Answers", reply_to)] {
            if let Some(id) = id {
                page.field(name, id);
            }
        }
        for Recipient { agent_id, read_at } in recipients {
            let state = read_at.map_or_else(|| "stored".to_owned(), |at| format!("read {}", page.time(at)));
            page.line(format!("  {}  {state}", agent(agent_id)));
        }
        page.line("");
        page.body(if *deleted { "(deleted)" } else { &body.content }, "");
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }
}
