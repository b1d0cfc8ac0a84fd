//! Resources that a user can attach to a prompt. Reading one changes nothing.

use rmcp::model::{ReadResourceResponse, ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, name::printable};

use super::{
    calls,
    results::{CallResult, OF_MESSAGES},
};
use crate::{
    agent_text::Page,
    answers::{Listing, Summary},
    context::Context,
};

/// Maximum number of messages in the inbox resource.
const INBOX: u64 = 20;

/// URI prefix of the messages.
const MESSAGE: &str = "thrum://message/";

const LISTS: [(&str, &str, &str); 3] = [
    ("thrum://inbox", "inbox", "Your latest messages, newest first, read and unread"),
    ("thrum://agents", "agents", "The agents on all machines and what they work on"),
    ("thrum://peers", "peers", "The machines that this one shares its mailbox with, and how each is doing"),
];

/// The resources that are lists.
pub(super) fn all() -> Vec<Resource> {
    let resource =
        |(uri, name, what): (&str, &str, &str)| Resource::new(uri, name).with_description(what).with_mime_type(JSON);
    LISTS.into_iter().map(resource).collect()
}

/// The template of the message resources.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    let message = ResourceTemplate::new(format!("{MESSAGE}{{message_id}}"), "message");
    vec![message.with_description("One message, with all of its text").with_mime_type(JSON)]
}

const JSON: &str = "application/json";

/// Wraps a resource's text in the protocol's response.
pub(super) fn contents(uri: String, text: String) -> ReadResourceResponse {
    ReadResourceResult::new(vec![ResourceContents::text(text, uri).with_mime_type(JSON)]).into()
}

/// Reads a resource.
///
/// # Errors
/// `not_found` for an unknown URI or message; otherwise the daemon's error.
pub(super) fn read(uri: &str, cx: &Context) -> Result<CallResult, Error> {
    let value = match uri {
        "thrum://inbox" => {
            let me = cx.identity()?.name;
            let params = json!({"caller_agent_id": me, "for_agent": me, "page_size": INBOX, "max_content_bytes": 4096});
            let listing: Listing = cx.repeat("message.list", &params)?;
            let is_read: Vec<bool> = listing.messages.iter().map(|message: &Summary| message.is_read).collect();
            let mut messages = Page::of(&listing.messages, OF_MESSAGES).messages;
            messages.iter_mut().zip(is_read).for_each(|(message, is_read)| message["is_read"] = is_read.into());
            json!({"messages": messages, "total": listing.total, "unread": listing.unread})
        }
        "thrum://agents" => calls::agents(true, cx)?.bounded().structured,
        "thrum://peers" => cx.repeat::<Value>("sync.status", &json!({}))?,
        _ => match uri.strip_prefix(MESSAGE) {
            Some(id) => cx.repeat::<Value>("message.get", &json!({"message_id": id}))?,
            None => {
                let known: Vec<_> = LISTS.iter().map(|(uri, ..)| *uri).collect();
                let message =
                    format!("there is no resource {}; there are {} and {MESSAGE}ID", printable(uri), known.join(", "));
                return Err(Error::new(ErrorKind::NotFound, message));
            }
        },
    };
    // Some clients do not show a single long line.
    let text =
        serde_json::to_string_pretty(&value).map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
    Ok(CallResult::new(Value::Null, text))
}
