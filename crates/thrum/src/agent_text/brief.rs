//! The briefing that an agent starts with, in about 400 tokens: its identity, its unread mail, who works on what, and
//! which machines are offline.

use serde_json::{Value, json};
use thrum_core::{Error, name::shown};

use crate::{
    agent_text::wants_in,
    answers::{Listing, Member, Peer, SyncStatus, Team, Whoami},
    context::Context,
    render::plain_agent,
    text::{count, preview, quote, quote_within},
};

/// Maximum number of agents, and of machines, in a briefing.
const MOST: usize = 8;

/// Maximum number of unread messages that are previewed.
const OF_UNREAD: usize = 3;

/// Maximum number of characters shown of a text such as an intent, not counting the "…" after a text that was cut.
const OF_TEXT: usize = 120;

/// A briefing, as data and as text.
pub(crate) struct Brief {
    pub(crate) structured: Value,
    pub(crate) text: String,
}

impl Brief {
    /// Builds the briefing of the agent `me`.
    ///
    /// # Errors
    /// Returns the daemon's error.
    pub(crate) fn of(me: &str, cx: &Context) -> Result<Self, Error> {
        Self::of_known(me, &cx.repeat("agent.whoami", &json!({"caller_agent_id": me}))?, cx)
    }

    /// Builds the briefing of the agent `me`. `known` is the answer to `agent.whoami`.
    ///
    /// # Errors
    /// Returns the daemon's error.
    pub(crate) fn of_known(me: &str, known: &Whoami, cx: &Context) -> Result<Self, Error> {
        let params = json!({
            "caller_agent_id": me, "for_agent": me, "unread_for_agent": me, "page_size": OF_UNREAD, "max_content_bytes": 1024,
        });
        let mail: Listing = cx.repeat("message.list", &params)?;
        let team: Team = cx.repeat("team.list", &json!({"include_offline": false}))?;
        let sync: SyncStatus = cx.repeat("sync.status", &json!({}))?;
        let others: Vec<&Member> =
            team.members.iter().filter(|member| !(member.agent_id == me && member.local == Some(true))).collect();

        let mut text = format!("You are @{me} ({} · {}).\n", shown(&known.role), shown(&known.module));
        for (what, said) in [("Your intent", &known.intent), ("Your task", &known.current_task)] {
            if let Some(said) = said.as_deref().filter(|said| !said.is_empty()) {
                text.push_str(&format!("{what}: {}\n", quote_within(said, OF_TEXT)));
            }
        }
        let read = if mail.unread > 0 { "; check_messages reads them" } else { "" };
        text.push_str(&format!("{}{read}.\n", count(mail.unread, "unread message")));
        for message in &mail.messages {
            let from = plain_agent(&message.agent_id, &message.address, message.signed);
            text.push_str(&format!("  {from} wrote: {}\n", quote_within(&message.body.content, 80)));
        }
        text.push_str(&format!("{} at work:\n", count(others.len() as u64, "other agent")));
        others.iter().take(MOST).for_each(|member| text.push_str(&format!("  {}", line(member))));
        let away: Vec<&Peer> = sync.peers.iter().filter(|peer| peer.state != "connected").collect();
        for peer in away.iter().take(MOST) {
            text.push_str(&format!(
                "Machine {} is {}: mail to it waits.\n",
                quote(&peer.name),
                quote(&peer.state.replace('_', " "))
            ));
        }
        if let Some(sentence) = wants_in::sentence(sync.waiting()) {
            text.push_str(&format!("{sentence}\n"));
        }
        let unread: Vec<Value> = mail
            .messages
            .iter()
            .map(
                |message| json!({"message_id": message.message_id, "from": message.address, "preview": preview(&message.body.content, 80)}),
            )
            .collect();
        let mut structured = json!({
            "you": {"name": me, "role": known.role, "module": known.module, "intent": known.intent, "task": known.current_task},
            "unread": mail.unread, "newest_unread": unread,
            "agents": others.iter().take(MOST).map(|member| facts(member)).collect::<Vec<_>>(), "agents_total": others.len(),
            "peers": sync.peers.iter().take(MOST).map(|peer| json!({"name": peer.name, "state": peer.state})).collect::<Vec<_>>(),
        });
        if !sync.waiting().is_empty() {
            structured["wants_in"] = wants_in::facts(sync.waiting());
        }
        Ok(Self { structured, text })
    }
}

/// Returns an agent as JSON.
pub(crate) fn facts(member: &Member) -> Value {
    let mut agent = json!({
        "name": member.agent_id, "address": member.address, "machine": member.home_name, "signed": member.signed,
        "role": member.role, "module": member.module, "status": member.status,
    });
    let texts = [("intent", &member.intent), ("task", &member.current_task), ("branch", &member.branch)];
    for (name, text) in texts {
        if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
            agent[name] = preview(text, OF_TEXT).into();
        }
    }
    if let Some(presence) = &member.doing.presence {
        agent["presence"] = presence.as_str().into();
        agent["wakeable"] = member.doing.wakeable.into();
    }
    if let Some(at) = member.last_seen {
        agent["last_seen_at"] = json!(at);
    }
    if let Some(state) = member.home_state.as_deref().filter(|state| !matches!(*state, "connected" | "connecting")) {
        agent["machine_state"] = state.into();
    }
    agent
}

/// Describes what the agent's program is doing; the agent's status if that is unknown or the agent is not active.
fn does(member: &Member) -> String {
    member.doing.words().filter(|_| member.status == "active").unwrap_or_else(|| quote(&member.status))
}

/// Returns an agent as one line of text.
pub(crate) fn line(member: &Member) -> String {
    let who = plain_agent(&member.agent_id, &member.address, member.signed);
    let mut line = format!("{who} ({} · {}) {}", shown(&member.role), shown(&member.module), does(member));
    for (what, text) in [("", &member.intent), ("task ", &member.current_task), ("branch ", &member.branch)] {
        if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
            line.push_str(&format!(", {what}{}", quote_within(text, OF_TEXT)));
        }
    }
    line.push('\n');
    line
}
