//! `thrum sent`: shows the messages that an agent sent, and how far each got with each recipient.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use thrum_core::{Address, Error, Timestamp};

use crate::{
    answers::{Answer, Listing, Recipient, Summary, Tag},
    commands::{
        inbox::{self, Paging},
        known,
    },
    context::Context,
    render::{
        Page, Render, agent,
        style::{BOLD, DIM, GREEN},
        who,
    },
    text::{self, count, quote},
};

/// Maximum number of recipients that a list shows individually; for more it shows totals.
const SHOWN: usize = 6;

/// Number of characters after which a list cuts a text and adds "…".
const PREVIEW: usize = 100;

/// Show the messages you sent, newest first, and their delivery to each recipient
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
A message is first `stored` on this machine, then `at` the recipient's machine once that machine has confirmed it. \
It is `wake requested` once it was passed to a process that waits for the agent's mail, `shown` once the agent was \
shown a part of its text, and finally `read`.

Examples:
  thrum sent
  thrum sent --unread --to @bob
  thrum sent show msg_01JZ3E9Q0V7M4T6X8B2C5D9F2H"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    show: Option<Show>,
    /// Only messages that some recipient has not read
    #[arg(long)]
    unread: bool,
    /// Only messages to this agent or role
    #[arg(long, value_name = "@NAME")]
    to: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, clap::Subcommand)]
enum Show {
    /// Show one of your messages in full, with its delivery to each recipient
    #[command(after_help = "\
Examples:
  thrum sent show msg_01JZ3E9Q0V7M4T6X8B2C5D9F2H
  thrum sent show msg_01JZ3E9Q0V7M4T6X8B2C5D9F2H --json")]
    Show {
        /// The ID of the message
        #[arg(value_name = "MESSAGE")]
        message_id: String,
    },
}

/// The messages that an agent sent.
pub(crate) struct Sent {
    answer: Answer<Listing>,
    /// `true` if one message was requested, which is then shown whole.
    whole: bool,
    /// The agent.
    of: String,
    /// The words before "messages" that describe the filter: `unread ` or nothing.
    only: &'static str,
    /// The words after the agent that describe the filter, such as ` to @bob`.
    chosen: String,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Sent, Error> {
    let me = cx.identity()?.name;
    let mut params = json!({"caller_agent_id": me});
    match &args.show {
        Some(Show::Show { message_id }) => params["message_id"] = message_id.as_str().into(),
        None => {
            args.paging.put(&mut params);
            params["unread"] = args.unread.into();
            params["to"] = args.to.clone().into();
            params = inbox::printed(params, false);
        }
    }
    let mut answer: Answer<Listing> = cx.daemon()?.call("message.outbox", params)?;
    if args.show.is_some() {
        inbox::complete(&mut answer.read.messages, &mut answer.raw, cx)?;
    }
    if let (Some(to), 0) = (&args.to, answer.read.total) {
        known::agent_or_role(to, cx)?;
    }
    let chosen = args.to.as_deref().map(|to| format!(" to {}", Address::parse(to).shown())).unwrap_or_default();
    Ok(Sent { answer, whole: args.show.is_some(), of: me, only: if args.unread { "unread " } else { "" }, chosen })
}

impl Render for Sent {
    fn human(&self, page: &mut Page) {
        let listing = &self.answer.read;
        if listing.messages.is_empty() {
            return page.line(inbox::nothing(
                listing,
                &format!("{}messages sent by {}{}", self.only, agent(&self.of), self.chosen),
            ));
        }
        for message in &listing.messages {
            self.show(message, page);
        }
        if !self.whole {
            let pages = if listing.total_pages > 1 {
                format!(", page {} of {}", listing.page, listing.total_pages)
            } else {
                String::new()
            };
            page.line(format!("{} sent by {}{pages}", count(listing.total, "message"), agent(&self.of)));
        }
    }

    /// Returns the message if one was requested, otherwise the page.
    fn json(&self) -> Value {
        if self.whole { json!({"message": self.answer.raw["messages"][0]}) } else { self.answer.raw.clone() }
    }
}

impl Sent {
    fn show(&self, message: &Summary, page: &mut Page) {
        let edited = if message.updated_at.is_some() { " (edited)" } else { "" };
        let (id, to) = (quote(&message.message_id), audience(&message.audiences, &message.recipients));
        let deleted = if message.deleted { " (deleted)" } else { "" };
        page.line(format!(
            "{BOLD}to{BOLD:#} {to}  {}{edited}{deleted}  {DIM}{id}{DIM:#}",
            page.time(message.created_at)
        ));
        if self.whole {
            page.quote(&message.body.content, "  ");
            recipients(&message.recipients, usize::MAX, page);
        } else {
            page.quote(&text::preview(&message.body.content, PREVIEW), "  ");
            recipients(&message.recipients, SHOWN, page);
        }
    }
}

/// The audience of a message as text: agents by their addresses, roles and groups by name.
pub(crate) fn audience(audiences: &[Tag], recipients: &[Recipient]) -> String {
    let mut to: Vec<String> = Vec::new();
    for audience in audiences {
        let named =
            recipients.iter().filter(|recipient| audience.kind == "mention" && recipient.agent_id == audience.value);
        let before = to.len();
        to.extend(named.map(|recipient| who(&recipient.agent_id, &recipient.address, None)));
        if to.len() == before {
            to.push(agent(&audience.value));
        }
    }
    // An agent and a role of the same name are two audiences but one text.
    let mut before = BTreeSet::new();
    to.retain(|name| before.insert(name.clone()));
    if to.is_empty() { agent("everyone") } else { to.join(", ") }
}

/// The delivery states, latest first: the name, the words in the totals, and whether a total of 0 is shown.
const TOTALS: [(&str, &str, bool); 5] = [
    ("read", "read", true),
    ("shown", "shown", false),
    ("wake_requested", "wake requested", false),
    ("at_home", "at home", true),
    ("stored", "stored", true),
];

/// Shows how far a message got: per recipient, or as totals if there are more than `shown`.
pub(crate) fn recipients(recipients: &[Recipient], shown: usize, page: &mut Page) {
    if recipients.len() <= shown {
        for recipient in recipients {
            page.line(format!("  {}  {}", who(&recipient.agent_id, &recipient.address, None), state(recipient, page)));
        }
        return;
    }
    let mut other = recipients.len();
    let mut totals = Vec::new();
    for (state, words, is_always_shown) in TOTALS {
        let number = recipients.iter().filter(|recipient| recipient.state == state).count();
        other -= number;
        if number > 0 || is_always_shown {
            let total = format!("{number} {words}");
            totals.push(if state == "read" { format!("{GREEN}{total}{GREEN:#}") } else { total });
        }
    }
    if other > 0 {
        totals.push(format!("{other} other"));
    }
    page.line(format!("  {}: {}", count(recipients.len() as u64, "agent"), totals.join(", ")));
}

/// Describes the state of a delivery: `stored`, `at HOME since …`, `wake requested …`, `shown …` or `read …`.
fn state(recipient: &Recipient, page: &Page) -> String {
    let home = recipient.home_name.as_deref().map_or_else(|| "another machine".to_owned(), quote);
    let time = |at: Option<Timestamp>| at.map(|at| page.time(at)).unwrap_or_default();
    match (recipient.read_at, recipient.at_home_since) {
        (Some(at), _) => format!("{GREEN}read{GREEN:#} {}", page.time(at)),
        _ if recipient.seen_at.is_some() => format!("shown {}, not read to its end", time(recipient.seen_at)),
        _ if recipient.woken_at.is_some() => format!("wake requested {}", time(recipient.woken_at)),
        (None, Some(since)) => format!("at {home} since {}", page.time(since)),
        (None, None) if recipient.local == Some(false) => format!("stored, not confirmed by {home}"),
        (None, None) => "stored".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000).unwrap()
    }

    fn recipient(name: &str, state: &str) -> Recipient {
        let reached = |states: &[&str]| states.contains(&state).then(|| at(40));
        Recipient {
            agent_id: name.into(),
            state: state.into(),
            read_at: reached(&["read"]),
            seen_at: reached(&["shown", "read"]),
            woken_at: reached(&["wake_requested", "shown", "read"]),
            at_home_since: reached(&["at_home", "wake_requested", "shown", "read"]),
            home_name: Some("desk".into()),
            address: format!("@{name}@desk"),
            local: Some(false),
            outlook: None,
            outlook_state: None,
        }
    }

    fn shown(all: &[Recipient], shown: usize) -> String {
        let mut page = Page::new(Some(80), at(100));
        recipients(all, shown, &mut page);
        page.plain()
    }

    #[test]
    fn an_audience_is_named_once() {
        let tag = |kind: &str, value: &str| Tag { kind: kind.into(), value: value.into() };
        let to = [tag("mention", "bob"), tag("role", "tester"), tag("role", "bob"), tag("mention", "bob")];
        assert_eq!(audience(&to, &[]), [agent("bob"), agent("tester")].join(", "));
    }

    #[test]
    fn each_recipient_is_shown_with_its_latest_delivery_state() {
        let mut all =
            ["read", "shown", "wake_requested", "at_home", "stored"].map(|state| recipient("bob", state)).to_vec();
        all.push(Recipient { local: Some(true), address: "@eve".into(), ..recipient("eve", "stored") });
        all.push(Recipient { home_name: None, address: String::new(), ..recipient("zed", "at_home") });
        let expected = "  @bob@desk  read 1m ago\n  @bob@desk  shown 1m ago, not read to its end\n  @bob@desk  wake requested 1m ago\n  @bob@desk  at desk since 1m ago\n  @bob@desk  stored, not confirmed by desk\n  @eve  stored\n  @zed  at another machine since 1m ago\n";
        assert_eq!(shown(&all, 7), expected);
        assert_eq!(shown(&all, 4), "  7 agents: 1 read, 1 shown, 1 wake requested, 2 at home, 2 stored\n");
        assert_eq!(shown(&all[4..], 2), "  3 agents: 0 read, 1 at home, 2 stored\n");
        let later = [recipient("bob", "of_a_later_version"), recipient("eve", "stored")];
        assert_eq!(shown(&later, 1), "  2 agents: 0 read, 0 at home, 1 stored, 1 other\n");
    }
}
