//! `thrum send`.

use serde_json::{Value, json};
use thrum_core::{ErrorKind, Fault};

use crate::{
    commands::body::Body,
    context::Context,
    render::{Page, Render, agent, style::GREEN},
    shapes::{Answer, Sent},
    text::count,
};

/// Send a message to agents or roles, or to everyone
#[derive(Debug, clap::Args)]
#[command(after_help = "\
When this returns the message is stored durably here. It reaches agents on other machines as soon as their daemons are reachable.

Examples:
  thrum send \"Ready for review\" --to @bob
  thrum send --body-file notes.md --to @bob --to @tester")]
pub(crate) struct Args {
    #[command(flatten)]
    body: Body,
    /// An agent or a role, with or without @; @everyone for all. May be repeated
    #[arg(long, value_name = "@NAME")]
    to: Vec<String>,
    /// To everyone
    #[arg(long, short, visible_alias = "everyone")]
    broadcast: bool,
}

/// A message that is stored.
pub(crate) struct Stored {
    answer: Answer<Sent>,
    verb: &'static str,
}

pub(crate) fn run(args: Args, cx: &Context) -> Result<Stored, Fault> {
    let mentions = audience(&args)?;
    let from = cx.identity()?;
    let content = args.body.read()?;
    let answer = store(cx, json!({"content": content, "mentions": mentions, "caller_agent_id": from.name}))?;
    Ok(Stored { answer, verb: "Sent" })
}

/// Sends so that a message is stored once, however often it must be tried: the key tells the daemon that it is the same one.
pub(crate) fn store(cx: &Context, mut params: Value) -> Result<Answer<Sent>, Fault> {
    params["idempotency_key"] = fresh_key()?.into();
    let answer: Answer<Sent> = cx.repeat(std::time::Duration::ZERO, "message.send", &params)?;
    for warning in &answer.read.warnings {
        cx.output.note(&format!("Note: {warning}"));
    }
    Ok(answer)
}

/// Whom the message goes to; an empty list means everyone, and only `--broadcast` or `@everyone` makes one.
fn audience(args: &Args) -> Result<Vec<String>, Fault> {
    let names: Vec<_> = args.to.iter().map(|to| to.strip_prefix('@').unwrap_or(to)).collect();
    if let Some(bad) = names.iter().position(|name| name.is_empty()) {
        return Err(Fault::new(ErrorKind::Invalid, format!("--to '{}' names nobody", args.to[bad])).hint(WHOM));
    }
    if args.broadcast || names.contains(&"everyone") {
        let beside = names.iter().any(|name| *name != "everyone");
        return match beside {
            true => Err(Fault::new(ErrorKind::Invalid, "a message goes to everyone or to the agents named, not both").hint(WHOM)),
            false => Ok(Vec::new()),
        };
    }
    if names.is_empty() {
        return Err(Fault::new(ErrorKind::Invalid, "no recipient").hint(WHOM));
    }
    Ok(names.iter().map(|name| format!("@{name}")).collect())
}

const WHOM: &str = "Add --to @NAME or --to @ROLE (thrum team shows them), or --broadcast for everyone.";

fn fresh_key() -> Result<String, Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Fault::new(ErrorKind::Failed, format!("no randomness: {error}")))?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

impl Stored {
    pub(crate) fn reply(answer: Answer<Sent>) -> Self {
        Self { answer, verb: "Replied" }
    }
}

impl Render for Stored {
    fn human(&self, page: &mut Page) {
        let Sent { message_id, recipients, .. } = &self.answer.read;
        let to = match recipients.len() {
            0 => "nobody else is registered yet".to_owned(),
            number => format!("to {}", count(number as u64, "agent")),
        };
        page.line(format!("{} {message_id} {to}", self.verb));
        for recipient in recipients {
            page.line(format!("  {}  {GREEN}stored{GREEN:#}", agent(&recipient.agent_id)));
        }
    }

    fn json(&self) -> Value {
        self.answer.raw.clone()
    }
}
