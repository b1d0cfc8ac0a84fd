//! Whom a message is for: names into recipients, and the audience of an answer.

use std::collections::HashSet;

use thrum_core::{ErrorKind, Fault, limits, name, payload::Tag};

use crate::{
    Reader, StoreError, Tx,
    query::{Addressable, Message},
};

const EVERYONE: &str = "everyone";

/// Whom a message is for, worked out from its mentions.
#[derive(Default)]
pub(super) struct Addressed {
    pub(super) recipients: Vec<String>,
    pub(super) audiences: Vec<Tag>,
    pub(super) scopes: Vec<Tag>,
    pub(super) refs: Vec<Tag>,
    pub(super) warnings: Vec<String>,
    /// How many mentions named somebody.
    pub(super) resolved_to: usize,
}

impl Addressed {
    /// Adds agents by name, as far as an event has room; the group itself is what addresses.
    fn expand(&mut self, members: Vec<String>) {
        let room = limits::MAX_AUDIENCE.saturating_sub(self.recipients.len());
        self.recipients.extend(members.into_iter().take(room));
    }

    fn group(&mut self, audience: &str, group: &str) {
        self.audiences.push(Tag::new(audience, group));
        self.scopes.push(Tag::new("group", group));
        self.refs.push(Tag::new("group", group));
    }
}

impl Tx<'_> {
    /// Every mention names an agent, a role or everyone; all that name nobody are listed in one error. Nobody named is
    /// everyone. A scope or ref that says the same as a mention addresses, too: Go Thrum's `reply` sends such.
    pub(super) fn address(&self, author: &str, mentions: &[String], scopes: Vec<Tag>, refs: Vec<Tag>) -> Result<Addressed, StoreError> {
        let mut to = Addressed { resolved_to: mentions.len(), ..Addressed::default() };
        let mut names: Vec<&str> = mentions.iter().map(|mention| mention.strip_prefix('@').unwrap_or(mention)).collect();
        for tag in scopes.iter().filter(|tag| tag.kind == "group").chain(refs.iter().filter(|tag| is_address(tag))) {
            if tag.value == EVERYONE || self.is_known(&tag.value)? {
                names.push(&tag.value);
            }
        }
        if names.is_empty() {
            names.push(EVERYONE);
        }
        self.resolve(&mut to, author, &names)?;
        to.scopes.extend(scopes.iter().cloned());
        to.refs.extend(refs.iter().cloned());
        unique(&mut to.scopes);
        unique(&mut to.refs);
        Ok(to)
    }

    /// Whom an answer goes to: the author of what it answers and whoever that named, but not who answers. An answer to a
    /// message for everyone is for its author, not for everyone again; where nobody else is left it stays with who answers.
    /// Who was named and is gone since is left out, with a warning. A group that a Go Thrum keeps is not known here: its
    /// members then are the recipients that Go noted in the message, and they get the answer, which keeps the group's tag.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if all of them are gone.
    pub(super) fn address_answer(&self, agent: &str, parent: &Message) -> Result<Addressed, StoreError> {
        let is_own = parent.agent_id == agent && parent.home == self.home();
        let groups = parent.refs.iter().chain(&parent.scopes).filter(|tag| tag.kind == "group");
        let mentions = parent.refs.iter().filter(|tag| tag.kind == "mention");
        let mut names: Vec<&str> = mentions.chain(groups).map(|tag| tag.value.as_str()).collect();
        names.retain(|name| *name != EVERYONE && *name != agent);
        if !is_own {
            names.insert(0, &parent.agent_id);
        }
        if names.is_empty() {
            names.push(agent);
        }
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(*name));
        let (mut known, mut gone, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            let is_group = || parent.scopes.iter().any(|tag| tag.kind == "group" && tag.value == name);
            match self.is_known(name)? {
                true => known.push(name),
                false if is_group() => foreign.push(name),
                false => gone.push(name),
            }
        }
        let mut members = Vec::new();
        if !foreign.is_empty() {
            for recipient in parent.recipients.iter().map(|recipient| recipient.agent_id.as_str()).filter(|name| *name != agent) {
                if seen.insert(recipient) && self.is_known(recipient)? {
                    members.push(recipient);
                }
            }
            known.extend(members.iter().take(limits::MAX_AUDIENCE));
        }
        if known.is_empty() {
            gone.extend(foreign);
            return Err(self.unknown_recipients(&gone)?.into());
        }
        let mut to = Addressed { resolved_to: known.len(), ..Addressed::default() };
        to.warnings = gone.iter().map(|name| format!("@{} is not registered any more and gets no answer", name::printable(name))).collect();
        self.resolve(&mut to, agent, &known)?;
        for group in foreign {
            to.group("group", group);
            let names: Vec<String> = members.iter().take(MOST_LISTED).map(|name| format!("@{}", name::printable(name))).collect();
            let more = members.len().saturating_sub(names.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let who = if names.is_empty() {
                "nobody else gets the answer".to_owned()
            } else {
                format!("{}{more} get the answer, too", names.join(", "))
            };
            let group = name::printable(group);
            to.warnings.push(format!("@{group} is a group of Go Thrum; of those who got the message, {who}"));
        }
        Ok(to)
    }

    fn resolve(&self, to: &mut Addressed, author: &str, names: &[&str]) -> Result<(), StoreError> {
        let others = |mut members: Vec<(String, String)>| {
            members.retain(|(name, home)| !(name == author && home == self.home()));
            members.into_iter().map(|(name, _)| name).collect()
        };
        let mut unknown = Vec::new();
        for name in names {
            if *name == EVERYONE {
                to.expand(others(self.reader().members(None)?));
                to.group("broadcast", EVERYONE);
                continue;
            }
            let is_agent = !self.reader().homes(name)?.is_empty();
            let members = self.reader().members(Some(name))?;
            if !is_agent && members.is_empty() {
                unknown.push(*name);
            }
            if is_agent {
                // One's own name is taken at its word: mail to oneself is stored.
                to.recipients.push((*name).to_owned());
                to.audiences.push(Tag::new("agent", name));
                to.refs.push(Tag::new("mention", name));
            }
            // Both, if another machine calls an agent what is a role here.
            if !members.is_empty() {
                to.expand(others(members));
                to.group("group", name);
                to.warnings.push(match is_agent {
                    true => format!("@{name} is an agent and a role, and both get it"),
                    // The text is Go Thrum's (recorded).
                    false => format!("@{name} resolved to a group, not an individual agent"),
                });
            }
        }
        if !unknown.is_empty() {
            return Err(self.unknown_recipients(&unknown)?.into());
        }
        unique(&mut to.audiences);
        unique(&mut to.scopes);
        unique(&mut to.refs);
        unique(&mut to.recipients);
        Ok(())
    }

    fn is_known(&self, name: &str) -> Result<bool, StoreError> {
        Ok(!self.reader().homes(name)?.is_empty() || !self.reader().members(Some(name))?.is_empty())
    }

    /// All names that name nobody, and who may have been meant.
    fn unknown_recipients(&self, unknown: &[&str]) -> Result<Fault, StoreError> {
        let agents = self.reader().addressable()?;
        let listed: Vec<String> = unknown.iter().map(|name| format!("@{}", name::printable(name))).collect();
        // The text is Go Thrum's (recorded).
        let text = format!("unknown recipients: {} \u{2014} no matching agent, role, or group found", listed.join(", "));
        if let Some(several) = unknown.iter().find(|name| name.contains(',')) {
            let each: Vec<String> = several.split(',').map(|name| format!("--to @{}", bare(&name::printable(name)))).collect();
            return Ok(Fault::new(ErrorKind::NotFound, text).hint(format!("Repeat --to for each: {}", each.join(" "))));
        }
        let mut near: Vec<String> =
            unknown.iter().filter_map(|name| nearest(name, names(&agents, true))).map(|name| format!("@{name}")).collect();
        unique(&mut near);
        let hint = if near.is_empty() { WHO.to_owned() } else { format!("Did you mean {}?", near.join(", ")) };
        Ok(Fault::new(ErrorKind::NotFound, text).hint(hint))
    }
}

/// Most members of a group that a warning names.
const MOST_LISTED: usize = 8;

const WHO: &str = "thrum team --all lists who there is.";

/// A name without the `@` and the space around it.
fn bare(name: &str) -> &str {
    let name = name.trim();
    name.strip_prefix('@').unwrap_or(name)
}

/// Whether anybody, here or elsewhere, has this name, or with `roles` this role. For lists, in which a name misspelt would
/// look like one of which there is nothing.
///
/// # Errors
/// [`ErrorKind::NotFound`] if nobody has, with who may have been meant.
pub fn known(reader: &Reader<'_>, name: &str, roles: bool) -> Result<(), StoreError> {
    let is_agent = !reader.homes(name)?.is_empty() || reader.deleted_at(name)?.is_some();
    if is_agent || roles && (name == EVERYONE || !reader.members(Some(name))?.is_empty()) {
        return Ok(());
    }
    let what = if roles { "agent or role" } else { "agent" };
    let agents = reader.addressable()?;
    let hint = nearest(name, names(&agents, roles)).map_or_else(|| WHO.to_owned(), |near| format!("Did you mean @{near}?"));
    Err(Fault::new(ErrorKind::NotFound, format!("unknown {what}: @{}", name::printable(name))).hint(hint).into())
}

fn names(agents: &[Addressable], roles: bool) -> impl Iterator<Item = &str> {
    let roles = agents.iter().filter(move |_| roles).map(|agent| agent.role.as_str());
    agents.iter().map(|agent| agent.agent_id.as_str()).chain(roles)
}

fn is_address(tag: &Tag) -> bool {
    tag.kind == "mention" || tag.kind == "group"
}

/// The name that differs least, if it differs little. Names are lower case, so upper case is no difference.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    names
        .map(|known| (strsim::osa_distance(&name, known), known))
        .filter(|(far, known)| *far <= 1 + known.len() / 3)
        .min()
        .map(|(_, known)| known)
}

/// Keeps the first of each.
fn unique<T: Clone + Eq + std::hash::Hash>(list: &mut Vec<T>) {
    let mut seen = HashSet::new();
    list.retain(|entry| seen.insert(entry.clone()));
}
