//! `thrum send`: sends a message.

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, Retry, name::printable, payload::Tag};

use crate::{
    answers::{Answer, Sent, Tag as Audience},
    commands::{body::Body, known::bare},
    context::Context,
    render::{Page, Render, agent, style::GREEN, who},
    text::count,
};

/// Send a message to agents or roles, or to everyone
#[derive(Debug, clap::Args)]
#[command(after_help = "\
When the command returns, the message is durably stored on this machine. Agents on other machines receive it as soon \
as their daemons are reachable; `thrum sent` shows the delivery.

Examples:
  thrum send \"Ready for review\" --to @bob
  thrum send --body-file notes.md --to @bob --to @tester
  thrum send \"Parser is done\" --to @reviewer --scope module:auth --ref issue:17
  thrum send \"Tests are red on main\" --broadcast")]
pub(crate) struct Args {
    #[command(flatten)]
    body: Body,
    /// Recipient: an agent or a role, with or without @; @NAME@MACHINE for an agent on another machine; @everyone for all agents. May be repeated
    #[arg(long, value_name = "@NAME", visible_alias = "mention")]
    to: Vec<String>,
    /// Send to everyone
    #[arg(long, short, visible_alias = "everyone")]
    broadcast: bool,
    #[command(flatten)]
    details: Details,
}

/// What a message may carry beside its text and its recipients.
#[derive(Debug, clap::Args)]
pub(crate) struct Details {
    /// Format of the text
    #[arg(long, default_value = "markdown", value_parser = ["markdown", "plain", "json"])]
    pub(crate) format: String,
    /// Additional data for programs, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    pub(crate) structured: Option<Value>,
    /// Scope of the message, such as module:auth. May be repeated
    #[arg(long, value_name = "TYPE:VALUE", value_parser = tag)]
    pub(crate) scope: Vec<Tag>,
    /// Reference of the message, such as issue:17. May be repeated
    #[arg(long = "ref", value_name = "TYPE:VALUE", value_parser = tag)]
    pub(crate) refs: Vec<Tag>,
    /// Key for this request; a repeated request with the same key is not sent again
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

impl Default for Details {
    fn default() -> Self {
        Self {
            format: "markdown".to_owned(),
            structured: None,
            scope: Vec::new(),
            refs: Vec::new(),
            idempotency_key: None,
        }
    }
}

fn json_object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(Value::Object(object)),
        Ok(_) => Err("is not a JSON object, such as {\"file\": \"src/login.rs\"}".to_owned()),
        Err(error) => Err(format!("is no JSON: {error}")),
    }
}

/// Parses `TYPE:VALUE`, the form of scopes and refs.
pub(crate) fn tag(text: &str) -> Result<Tag, String> {
    match text.split_once(':') {
        Some((kind, value)) if !kind.is_empty() && !value.is_empty() => Ok(Tag::new(kind, value)),
        _ => Err("write it as TYPE:VALUE, such as module:auth".to_owned()),
    }
}

/// A message that the daemon has stored.
pub(crate) struct Stored {
    answer: Answer<Sent>,
    verb: &'static str,
}

pub(crate) fn run(args: Args, cx: &Context) -> Result<Stored, Error> {
    let mentions = audience(&args)?;
    let from = cx.identity()?;
    let content = args.body.read(&cx.output)?;
    let answer = store(
        cx,
        json!({"content": content, "mentions": mentions, "caller_agent_id": from.name}),
        args.details,
        with_option,
    )?;
    Ok(Stored { answer, verb: "Sent" })
}

/// Sends a message so that it is stored once, however often the request is repeated: the daemon recognizes a repeated
/// request by its idempotency key.
///
/// # Errors
/// Returns the daemon's error. If a retry may help, its hint ends with the sentence that `repeat` returns: how to retry
/// with the same key.
pub(crate) fn store(
    cx: &Context,
    mut params: Value,
    details: Details,
    repeat: impl FnOnce(&str) -> String,
) -> Result<Answer<Sent>, Error> {
    let Details { format, structured, scope, refs, idempotency_key } = details;
    params["format"] = format.into();
    for (name, tags) in [("scopes", scope), ("refs", refs)] {
        if !tags.is_empty() {
            params[name] = json!(tags);
        }
    }
    if let Some(structured) = structured {
        params["structured"] = structured;
    }
    let key = idempotency_key.map_or_else(fresh_key, Ok)?;
    params["idempotency_key"] = key.as_str().into();
    let sent = cx.repeat("message.send", &params);
    let answer: Answer<Sent> =
        sent.map_err(|error| if error.retry == Retry::Useful { with_hint(error, &repeat(&key)) } else { error })?;
    for warning in &answer.read.warnings {
        cx.output.note(&format!("Note: {warning}"));
    }
    Ok(answer)
}

/// The recipients of the message. An empty list means everyone; only `--broadcast` or `@everyone` produces it.
fn audience(args: &Args) -> Result<Vec<String>, Error> {
    match (args.broadcast, args.to.iter().all(|to| is_everyone(to))) {
        (true, true) => Ok(Vec::new()),
        (true, false) => Err(not_both().hint("Leave one out: --broadcast (or @everyone), or --to @NAME.")),
        (false, _) => mentions(&args.to, "--to", WHOM),
    }
}

/// Converts the names of recipients into mentions; an empty result means everyone. For errors, `what` is the option
/// that contained the names, and `whom` is the hint.
///
/// # Errors
/// `invalid` if there are no names, if one is empty, or if everyone is named beside others.
pub(crate) fn mentions(to: &[String], what: &str, whom: &str) -> Result<Vec<String>, Error> {
    if let Some(bad) = to.iter().find(|to| bare(to).is_empty()) {
        return Err(Error::new(ErrorKind::Invalid, format!("{what} '{bad}' is no name of a recipient")).hint(whom));
    }
    if to.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "no recipient").hint(whom));
    }
    match (to.iter().any(|to| is_everyone(to)), to.iter().all(|to| is_everyone(to))) {
        (true, true) => Ok(Vec::new()),
        (true, false) => Err(not_both().hint(whom)),
        (false, _) => Ok(to.iter().map(|to| format!("@{}", bare(to))).collect()),
    }
}

fn is_everyone(to: &str) -> bool {
    bare(to) == "everyone"
}

fn not_both() -> Error {
    Error::new(ErrorKind::Invalid, "a message goes to everyone or to the agents named, not both")
}

const WHOM: &str = "Add --to @NAME or --to @ROLE (thrum team shows them), or --broadcast for everyone.";

/// Explains how to repeat a command with this key. The user may not know the key, and without it the message might be
/// stored twice.
pub(crate) fn with_option(key: &str) -> String {
    format!("With --idempotency-key {key} the same message is not sent twice.")
}

/// Appends a sentence to the hint of an error.
fn with_hint(error: Error, more: &str) -> Error {
    let before = error.hint.as_deref().map(|hint| format!("{hint} ")).unwrap_or_default();
    error.hint(format!("{before}{more}"))
}

fn fresh_key() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::new(ErrorKind::Failed, format!("no randomness: {error}")))?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

/// Explains why a message has no recipient: no other agent has the role or belongs to the group, or none is registered.
fn to_nobody(audiences: &[Audience]) -> String {
    match audiences.iter().find(|to| to.kind == "group" && to.value != "everyone") {
        Some(role) => format!("no recipients: no other agent is {}", agent(&role.value)),
        None => "no recipients: no other agent is registered yet".to_owned(),
    }
}

impl Stored {
    pub(crate) fn reply(answer: Answer<Sent>) -> Self {
        Self { answer, verb: "Replied" }
    }
}

impl Render for Stored {
    fn human(&self, page: &mut Page) {
        let Sent { message_id, recipients, audiences, .. } = &self.answer.read;
        let to = match recipients.len() {
            0 => to_nobody(audiences),
            number => format!("to {}", count(number as u64, "agent")),
        };
        page.line(format!("{} {message_id} {to}", self.verb));
        for recipient in recipients {
            let outlook = recipient.outlook.as_deref().map(|why| format!("; {}", printable(why))).unwrap_or_default();
            page.line(format!(
                "  {}  {GREEN}stored{GREEN:#}{outlook}",
                who(&recipient.agent_id, &recipient.address, None)
            ));
        }
    }

    fn json(&self) -> Value {
        self.answer.raw.clone()
    }
}
