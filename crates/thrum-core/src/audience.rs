//! The audience of a message: how the fields of a `message.create` name agents, roles and everyone.
//!
//! Go Thrum defines the encoding. Three fields carry it:
//!
//! | addressee | `recipients` | `scopes` | `refs` |
//! |---|---|---|---|
//! | an agent | its name | | `mention:NAME` |
//! | a role, or a group of Go Thrum | the members known to the author's daemon | `group:NAME` | `group:NAME` |
//! | everyone | the agents known to the author's daemon | `group:everyone` | `group:everyone` |
//!
//! Our messages also carry `recipient_homes`, the home of each recipient; Go Thrum relays that field unchanged.
//!
//! Reading is more lenient than writing. A mention that is not among the recipients may name a role. A message that
//! addresses neither an agent nor a group is for everyone, because Go Thrum writes broadcasts without any tag.

use std::collections::BTreeMap;

use crate::{
    bounds,
    payload::{MessageCreate, Tag},
};

pub use crate::name::EVERYONE;

/// The type of a ref that names an agent or, in Go Thrum's messages, a role.
pub const MENTION: &str = "mention";
/// The type of a scope or ref that names a role, a group of Go Thrum, or everyone.
pub const GROUP: &str = "group";
/// The type that stands for everyone where an audience is shown; no event contains it.
const BROADCAST: &str = "broadcast";
/// The type of an agent in the answer to the sender; no event contains it.
const AGENT: &str = "agent";

/// One addressee of a message, as a tag names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Addressee<'a> {
    /// The agent of this name.
    Agent(&'a str),
    /// The role or group of this name.
    Group(&'a str),
    /// All agents.
    Everyone,
}

impl<'a> Addressee<'a> {
    /// Returns the addressee that a scope names; `None` if the scope is no address.
    pub fn of_scope(tag: &'a Tag) -> Option<Self> {
        (tag.kind == GROUP).then(|| Self::of_group(&tag.value))
    }

    /// Returns the addressee that a ref names; `None` if the ref is no address.
    pub fn of_ref(tag: &'a Tag) -> Option<Self> {
        if tag.kind == MENTION { Some(Self::Agent(&tag.value)) } else { Self::of_scope(tag) }
    }

    fn of_group(name: &'a str) -> Self {
        if name == EVERYONE { Self::Everyone } else { Self::Group(name) }
    }

    /// The name of the addressee in tags.
    pub fn name(self) -> &'a str {
        match self {
            Self::Agent(name) | Self::Group(name) => name,
            Self::Everyone => EVERYONE,
        }
    }

    /// The scope of a message to this addressee; an agent has none.
    pub fn scope(self) -> Option<Tag> {
        match self {
            Self::Agent(_) => None,
            Self::Group(_) | Self::Everyone => Some(Tag::new(GROUP, self.name())),
        }
    }

    /// The ref of a message to this addressee.
    pub fn reference(self) -> Tag {
        match self {
            Self::Agent(name) => Tag::new(MENTION, name),
            Self::Group(_) | Self::Everyone => Tag::new(GROUP, self.name()),
        }
    }

    /// The addressee in a list of messages: `mention`, `group` or `broadcast`.
    pub fn listed(self) -> Tag {
        match self {
            Self::Agent(_) | Self::Group(_) => self.reference(),
            Self::Everyone => Tag::new(BROADCAST, EVERYONE),
        }
    }

    /// The addressee in the answer to the sender: `agent`, `group` or `broadcast`.
    pub fn sent(self) -> Tag {
        match self {
            Self::Agent(name) => Tag::new(AGENT, name),
            Self::Group(_) | Self::Everyone => self.listed(),
        }
    }
}

/// The agents and roles that a message addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience<'a> {
    /// Names of agents, sorted. A mention that is not among the recipients may name an agent or a role, so its name is
    /// in both lists.
    pub agents: Vec<&'a str>,
    /// Names of roles or groups, cut like the roles of agents ([`bounds::role`]), and sorted.
    pub roles: Vec<&'a str>,
    /// Whether the message is for all agents.
    pub everyone: bool,
}

impl<'a> Audience<'a> {
    /// Reads the audience of a message.
    pub fn of(message: &'a MessageCreate) -> Self {
        let MessageCreate { agent_id: author, recipients, scopes, refs, .. } = message;
        let is_recipient = |name: &str| recipients.iter().any(|recipient| recipient == name);
        let mut agents: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let (mut roles, mut everyone, mut has_group) = (Vec::new(), false, false);
        for addressee in scopes.iter().filter_map(Addressee::of_scope).chain(refs.iter().filter_map(Addressee::of_ref))
        {
            match addressee {
                Addressee::Agent(name) => {
                    agents.push(name);
                    // A mention by Go Thrum may name a role instead of an agent. If it names an agent, the agent is
                    // also among the recipients.
                    if !is_recipient(name) {
                        roles.push(bounds::role(name));
                    }
                }
                Addressee::Group(name) => {
                    roles.push(bounds::role(name));
                    has_group = true;
                }
                Addressee::Everyone => everyone = true,
            }
        }
        // An answer by Go Thrum repeats the mentions of its parent, so it usually mentions its own author. That is mail
        // to oneself only if the author is a recipient, or if the message lists no recipients.
        agents.retain(|agent| agent != author || recipients.is_empty() || is_recipient(author));
        for list in [&mut agents, &mut roles] {
            list.sort_unstable();
            list.dedup();
        }
        everyone |= agents.is_empty() && !has_group;
        Self { agents, roles, everyone }
    }

    /// Returns `true` if the message is for named agents only, neither for a role nor for everyone.
    pub fn is_agents_only(&self) -> bool {
        self.roles.is_empty() && !self.everyone
    }
}

/// Groups recipients, given by name and home, by home: the field `recipient_homes`.
pub fn recipient_homes<'a>(recipients: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, Vec<String>> {
    let mut homes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, home) in recipients {
        homes.entry(home.to_owned()).or_default().push(name.to_owned());
    }
    homes
}

impl MessageCreate {
    /// The daemons that this message gives as homes of a recipient; empty if the recipient is addressed by its name
    /// alone.
    pub fn homes_of<'a>(&'a self, recipient: &'a str) -> impl Iterator<Item = &'a str> {
        let named = move |(home, names): (&'a String, &'a Vec<String>)| {
            names.iter().any(|name| name == recipient).then_some(home.as_str())
        };
        self.recipient_homes.iter().filter_map(named)
    }

    /// The addressees of this message for a list of messages: its mentions, then its group scopes.
    pub fn listed_addressees(&self) -> Vec<Tag> {
        let mentions = self.refs.iter().filter_map(Addressee::of_ref);
        let mentions = mentions.filter(|addressee| matches!(addressee, Addressee::Agent(_)));
        let groups = self.scopes.iter().filter_map(Addressee::of_scope);
        let mut listed: Vec<Tag> = mentions.chain(groups).map(Addressee::listed).collect();
        // Go Thrum writes broadcasts without any tag; at most they list the recipients that the author's daemon knew.
        if listed.is_empty() {
            listed.push(Addressee::Everyone.listed());
        }
        listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addressees, recipients by name and home, and the audience that they are read as.
    type Case<'a> = (&'a [Addressee<'a>], &'a [(&'a str, &'a str)], Audience<'a>);

    /// A message to these addressees and recipients, each with name and home.
    fn message(addressees: &[Addressee<'_>], recipients: &[(&str, &str)]) -> MessageCreate {
        MessageCreate {
            agent_id: "author".into(),
            scopes: addressees.iter().filter_map(|addressee| addressee.scope()).collect(),
            refs: addressees.iter().map(|addressee| addressee.reference()).collect(),
            recipients: recipients.iter().map(|(name, _)| (*name).to_owned()).collect(),
            recipient_homes: recipient_homes(recipients.iter().copied()),
            ..MessageCreate::default()
        }
    }

    #[test]
    fn an_encoded_audience_is_decoded_again() {
        use Addressee::{Agent, Everyone, Group};
        let (ann, bob) = (("ann", "d_1"), ("bob", "d_2"));
        let cases: [Case<'_>; 5] = [
            (
                &[Agent("bob"), Agent("ann")],
                &[bob, ann],
                Audience { agents: vec!["ann", "bob"], roles: vec![], everyone: false },
            ),
            (&[Group("tester")], &[], Audience { agents: vec![], roles: vec!["tester"], everyone: false }),
            (&[Everyone], &[], Audience { agents: vec![], roles: vec![], everyone: true }),
            (
                &[Agent("ann"), Group("tester"), Everyone],
                &[ann, bob],
                Audience { agents: vec!["ann", "bob"], roles: vec!["tester"], everyone: true },
            ),
            (
                &[Agent("author")],
                &[("author", "d_1")],
                Audience { agents: vec!["author"], roles: vec![], everyone: false },
            ),
        ];
        for (addressees, recipients, expected) in cases {
            let message = message(addressees, recipients);
            assert_eq!(Audience::of(&message), expected, "{addressees:?}");
            let refs: Vec<_> = message.refs.iter().filter_map(Addressee::of_ref).collect();
            assert_eq!(refs, addressees);
            let scopes: Vec<_> = message.scopes.iter().filter_map(Addressee::of_scope).collect();
            let groups: Vec<_> = addressees.iter().copied().filter(|it| !matches!(it, Agent(_))).collect();
            assert_eq!(scopes, groups);
            for (name, home) in recipients {
                assert_eq!(message.homes_of(name).collect::<Vec<_>>(), [*home]);
            }
        }
    }

    #[test]
    fn a_mention_that_is_no_recipient_may_name_a_role() {
        let message = message(&[Addressee::Agent("ann"), Addressee::Agent("tester")], &[("ann", "d_1")]);
        let audience = Audience::of(&message);
        assert_eq!(
            (audience.agents.as_slice(), audience.roles.as_slice()),
            (["ann", "tester"].as_slice(), ["tester"].as_slice())
        );
        assert!(!audience.is_agents_only());
    }

    #[test]
    fn an_answer_of_go_that_mentions_its_author_is_not_addressed_to_the_author() {
        let message = message(&[Addressee::Agent("ann"), Addressee::Agent("author")], &[("ann", "d_1")]);
        assert_eq!(Audience::of(&message).agents, ["ann"]);
    }

    #[test]
    fn a_message_without_addressees_is_for_everyone() {
        let message = MessageCreate { refs: vec![Tag::new("reply_to", "msg_1")], ..MessageCreate::default() };
        assert!(Audience::of(&message).everyone);
        assert_eq!(message.listed_addressees(), [Tag::new("broadcast", "everyone")]);
    }

    #[test]
    fn addressees_are_listed_and_returned_to_the_sender_in_the_forms_of_go() {
        let addressees = [Addressee::Agent("ann"), Addressee::Group("tester"), Addressee::Everyone];
        let all =
            |form: fn(Addressee<'static>) -> Tag| addressees.map(form).map(|tag| format!("{}:{}", tag.kind, tag.value));
        assert_eq!(all(Addressee::listed), ["mention:ann", "group:tester", "broadcast:everyone"]);
        assert_eq!(all(Addressee::sent), ["agent:ann", "group:tester", "broadcast:everyone"]);
    }
}
