//! The audience of a message: agents, roles or everyone.
//!
//! Go Thrum's messages specify it in three places: recipients, mentions and group scopes, and a mention may name an
//! agent or a role. The result is stored in the table `audience`, with a row for each agent and home, each role, and
//! everyone.
//!
//! Example: a message to the recipient `coder` that mentions `reviewer` has the rows agent `coder`, agent `reviewer`
//! and role `reviewer`. A message without any of the three has the row everyone.

use thrum_core::{
    bounds,
    payload::{MessageCreate, Tag},
};

/// The agents and roles that a message addresses. A message that addresses none is for everyone, as in Go.
pub(super) struct Audience<'a> {
    message: &'a MessageCreate,
    pub(super) agents: Vec<&'a str>,
    pub(super) roles: Vec<&'a str>,
    pub(super) everyone: bool,
}

impl<'a> Audience<'a> {
    pub(super) fn of(message: &'a MessageCreate) -> Self {
        let MessageCreate { agent_id: author, recipients, scopes, refs, .. } = message;
        let values = |tags: &'a [Tag], kind: &'static str| {
            tags.iter().filter(move |tag| tag.kind == kind).map(|tag| tag.value.as_str())
        };
        let mut agents: Vec<&str> = recipients.iter().map(String::as_str).chain(values(refs, "mention")).collect();
        let groups: Vec<&str> = values(scopes, "group").chain(values(refs, "group")).collect();
        // A mention by Go may name a role as well as an agent; an agent is also among the recipients.
        let mentioned = values(refs, "mention").filter(|name| !recipients.iter().any(|recipient| recipient == name));
        let mut roles: Vec<&str> =
            groups.iter().copied().filter(|group| *group != "everyone").chain(mentioned).map(bounds::role).collect();
        // An answer by Go repeats the mentions of its parent, so it usually mentions its own author. That is not mail
        // to oneself unless the author is a recipient.
        agents.retain(|agent| agent != author || recipients.is_empty() || recipients.contains(author));
        for list in [&mut agents, &mut roles] {
            list.sort_unstable();
            list.dedup();
        }
        let everyone = groups.contains(&"everyone") || (agents.is_empty() && groups.is_empty());
        Self { message, agents, roles, everyone }
    }

    /// The rows of the table: kind, value and home. An agent for which the message gives no home has one row with an
    /// empty home.
    pub(super) fn rows(&self) -> impl Iterator<Item = (i64, &'a str, &'a str)> {
        let message = self.message;
        let agents = self.agents.iter().flat_map(move |agent| {
            let mut homes: Vec<&str> = message.homes_of(agent).collect();
            if homes.is_empty() {
                homes.push("");
            }
            homes.into_iter().map(|home| (0, *agent, home))
        });
        let roles = self.roles.iter().map(|role| (1, *role, ""));
        agents.chain(roles).chain(self.everyone.then_some((2, "", "")))
    }
}
