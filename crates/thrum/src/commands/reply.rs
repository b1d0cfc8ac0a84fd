//! `thrum reply`.

use serde_json::{Value, json};
use thrum_core::Fault;

use crate::{
    commands::{body::Body, send},
    context::Context,
    shapes::{Answer, Got, Message},
};

/// Answer a message: to its author and all it was addressed to
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
}

pub(crate) fn run(args: Args, cx: &Context) -> Result<send::Stored, Fault> {
    let me = cx.identity()?.name;
    let content = args.body.read()?;
    let mut client = cx.daemon()?;
    let parent: Answer<Got> = client.call("message.get", json!({"message_id": args.message_id, "caller_agent_id": me}))?;
    let mentions = audience(&parent.read.message, &me);
    let answer = send::store(cx, json!({"content": content, "mentions": mentions, "reply_to": args.message_id, "caller_agent_id": me}))?;
    client.call::<Value>("message.markRead", json!({"message_ids": [args.message_id], "caller_agent_id": me}))?;
    Ok(send::Stored::reply(answer))
}

/// The author and whom the message was addressed to, without me; never empty, because nobody named would mean everyone.
fn audience(parent: &Message, me: &str) -> Vec<String> {
    let named =
        parent.audiences.iter().chain(&parent.refs).filter(|tag| matches!(tag.kind.as_str(), "agent" | "mention" | "group" | "role"));
    let mut names = vec![parent.author.agent_id.as_str()];
    for tag in named {
        if !names.contains(&tag.value.as_str()) && tag.value != "everyone" {
            names.push(&tag.value);
        }
    }
    names.retain(|name| *name != me);
    if names.is_empty() {
        names.push(me);
    }
    names.iter().map(|name| format!("@{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::{Author, Tag};

    fn message(author: &str, audiences: &[(&str, &str)]) -> Message {
        let audiences = audiences.iter().map(|(kind, value)| Tag { kind: (*kind).into(), value: (*value).into() }).collect();
        Message { author: Author { agent_id: author.into() }, audiences, ..Message::default() }
    }

    #[test]
    fn an_answer_goes_to_the_author_and_the_others_addressed() {
        let parent = message("ann", &[("mention", "me"), ("mention", "bob"), ("group", "tester")]);
        assert_eq!(audience(&parent, "me"), ["@ann", "@bob", "@tester"]);
    }

    #[test]
    fn an_answer_to_everyone_goes_to_the_author_only() {
        assert_eq!(audience(&message("ann", &[("broadcast", "everyone")]), "me"), ["@ann"]);
        assert_eq!(audience(&message("ann", &[("group", "everyone")]), "me"), ["@ann"]);
    }

    #[test]
    fn an_answer_to_oneself_does_not_become_a_broadcast() {
        assert_eq!(audience(&message("me", &[("broadcast", "everyone")]), "me"), ["@me"]);
        assert_eq!(audience(&message("me", &[("mention", "bob")]), "me"), ["@bob"]);
    }
}
