//! `thrum message get`: shows one message in full, and the state of its deliveries.

use serde::Deserialize;
use serde_json::{Value, json};
use thrum_core::{Address, Error, Timestamp};

use crate::{
    answers::{Answer, Body, Recipient, Tag},
    commands::sent,
    context::Context,
    render::{NewMail, Page, Render, who},
    text::quote,
    time,
};

/// Show one message in full, with its delivery to each recipient; marks it as read
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum message get msg_01JZ3E9Q0V7M4T6X8B2C5D9F1G
  thrum message get msg_01JZ3E9Q0V7M4T6X8B2C5D9F2H --json")]
pub(crate) struct Args {
    /// The ID of the message
    #[arg(value_name = "MESSAGE")]
    message_id: String,
}

/// A message, and the agent that reads it.
pub(crate) struct Shown {
    answer: Answer<Got>,
    me: String,
    /// The id to mark as read once the message is shown. `None` if the message is read, deleted or the reader's own, or
    /// if showing it must not mark it ([`Context::takes_mail`]).
    to_mark_read: Option<String>,
}

/// The answer to `message.get`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Got {
    message: Message,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    message_id: String,
    thread_id: Option<String>,
    reply_to: Option<String>,
    author: Author,
    body: Body,
    scopes: Vec<Tag>,
    refs: Vec<Tag>,
    created_at: Timestamp,
    /// The time that the message claims, if that was after its arrival.
    claimed_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    deleted: bool,
    is_read: bool,
    audiences: Vec<Tag>,
    recipients: Vec<Recipient>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Author {
    agent_id: String,
    address: String,
    signed: Option<bool>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Shown, Error> {
    let me = cx.identity()?.name;
    let answer: Answer<Got> =
        cx.daemon()?.call("message.get", json!({"message_id": args.message_id, "caller_agent_id": me}))?;
    let Message { message_id, author, deleted, is_read, .. } = &answer.read.message;
    // The agent's own messages are never unread, even if it is a recipient. An author of the same name on another
    // machine is somebody else.
    let is_mine = author.agent_id == me && Address::parse(&author.address).machine.is_none();
    let is_new = !is_read && !deleted && !is_mine && cx.takes_mail();
    Ok(Shown { to_mark_read: is_new.then(|| message_id.clone()), answer, me })
}

impl Render for Shown {
    fn human(&self, page: &mut Page) {
        let Message {
            message_id,
            thread_id,
            reply_to,
            author,
            body,
            scopes,
            refs,
            created_at,
            updated_at,
            deleted,
            audiences,
            recipients,
            ..
        } = &self.answer.read.message;
        page.field("Message", quote(message_id));
        page.field("From", who(&author.agent_id, &author.address, author.signed));
        page.field("To", sent::audience(audiences, recipients));
        page.field("Sent", page.time(*created_at));
        if let Some(at) = &self.answer.read.message.claimed_at {
            page.field(
                "Dated",
                format!("{}: it arrived before that, so the clock that says so is or was wrong", time::exact(*at)),
            );
        }
        if let Some(at) = updated_at {
            page.field("Edited", page.time(*at));
        }
        for (name, id) in [("Thread", thread_id), ("Answers", reply_to)] {
            if let Some(id) = id {
                page.field(name, quote(id));
            }
        }
        // Leave out tags of kinds that To and Answers already show.
        for (name, tags, shown) in
            [("Scopes", scopes, ["group"].as_slice()), ("Refs", refs, &["group", "mention", "reply_to"])]
        {
            let tags: Vec<_> = tags.iter().filter(|tag| !shown.contains(&tag.kind.as_str())).map(Tag::shown).collect();
            if !tags.is_empty() {
                page.field(name, tags.join(", "));
            }
        }
        sent::recipients(recipients, usize::MAX, page);
        page.line("");
        match deleted {
            true => page.line("(deleted)"),
            false => page.quote(&body.content, ""),
        }
        if let Some(structured) = &body.structured {
            page.line("");
            page.quote(structured, "");
        }
    }

    fn json(&self) -> Value {
        self.answer.raw.clone()
    }

    fn new_mail(&self) -> Option<NewMail<'_>> {
        Some(NewMail { reader: &self.me, message_ids: self.to_mark_read.as_slice() })
    }
}
