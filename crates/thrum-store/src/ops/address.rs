//! Whom a message is for: names into recipients, and the audience of an answer.

use std::collections::{BTreeMap, HashSet};

use thrum_core::{Address, ErrorKind, Fault, Machines, limits, name, payload::Tag};

use crate::{
    Reader, StoreError, Tx,
    query::{Addressable, Mailbox, Message},
};

const EVERYONE: &str = "everyone";

/// Whom a message is for, worked out from its mentions.
#[derive(Default)]
pub(super) struct Addressed {
    /// Agents by name and home.
    pub(super) mailboxes: Vec<Mailbox>,
    pub(super) audiences: Vec<Tag>,
    pub(super) scopes: Vec<Tag>,
    pub(super) refs: Vec<Tag>,
    pub(super) warnings: Vec<String>,
    /// How many mentions named somebody.
    pub(super) resolved_to: usize,
}

impl Addressed {
    /// The names of the recipients, each once.
    pub(super) fn recipients(&self) -> Vec<String> {
        let mut names: Vec<String> = self.mailboxes.iter().map(|mailbox| mailbox.agent_id.clone()).collect();
        unique(&mut names);
        names
    }

    /// The names by home, as the event carries them.
    pub(super) fn homes(&self) -> BTreeMap<String, Vec<String>> {
        let mut homes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for Mailbox { agent_id, home } in &self.mailboxes {
            homes.entry(home.clone()).or_default().push(agent_id.clone());
        }
        homes
    }

    /// Adds the members of a group, as far as an event has room; the group itself is what addresses.
    fn expand(&mut self, members: Vec<Mailbox>) {
        let room = limits::MAX_AUDIENCE.saturating_sub(self.mailboxes.len());
        self.mailboxes.extend(members.into_iter().take(room));
    }

    fn agent(&mut self, mailbox: Mailbox) {
        self.audiences.push(Tag::new("agent", &mailbox.agent_id));
        self.refs.push(Tag::new("mention", &mailbox.agent_id));
        self.mailboxes.push(mailbox);
    }

    fn group(&mut self, audience: &str, group: &str) {
        self.audiences.push(Tag::new(audience, group));
        self.scopes.push(Tag::new("group", group));
        self.refs.push(Tag::new("group", group));
    }

    fn without_repetitions(mut self) -> Self {
        unique(&mut self.mailboxes);
        unique(&mut self.audiences);
        unique(&mut self.scopes);
        unique(&mut self.refs);
        self
    }
}

/// Which homes a typed address means.
enum Meant {
    Nobody,
    One(String),
    /// The agent of this daemon; these homes have agents of the name, too.
    Own(Vec<String>),
    /// One of these, and nothing tells which.
    OneOf(Vec<String>),
}

impl Tx<'_> {
    /// Works out whom the mentions address: each names an agent, a role or everyone. All that name nobody are listed in one
    /// error, and so are all names that several daemons have. Nobody named is everyone. A scope or ref that says the same as a
    /// mention addresses, too: Go Thrum's `reply` sends such.
    pub(super) fn address(
        &self,
        author: &str,
        mentions: &[String],
        scopes: Vec<Tag>,
        refs: Vec<Tag>,
        machines: &Machines,
    ) -> Result<Addressed, StoreError> {
        let mut to = Addressed { resolved_to: mentions.len(), ..Addressed::default() };
        let mut names: Vec<Address> = mentions.iter().map(|mention| Address::parse(mention)).collect();
        for tag in scopes.iter().filter(|tag| tag.kind == "group").chain(refs.iter().filter(|tag| is_address(tag))) {
            if tag.value == EVERYONE || self.is_known(&tag.value)? {
                names.push(Address { name: tag.value.clone(), machine: None });
            }
        }
        if names.is_empty() {
            names.push(Address { name: EVERYONE.to_owned(), machine: None });
        }
        self.resolve(&mut to, author, &names, machines)?;
        to.scopes.extend(scopes);
        to.refs.extend(refs);
        Ok(to.without_repetitions())
    }

    /// Works out whom an answer goes to: the author of the parent, where it was written, and whoever the parent named, but not
    /// the author of the answer. An answer to a message for everyone is for its author, not for everyone again; where nobody
    /// else is left it stays with its own author. Who was named and is gone since is left out, with a warning. A group
    /// that a Go Thrum keeps is not known here: its members then are the recipients that Go noted in the message, and they get the
    /// answer, which keeps the group's tag.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if all of them are gone.
    pub(super) fn address_answer(&self, agent: &str, parent: &Message, machines: &Machines) -> Result<Addressed, StoreError> {
        let own = Mailbox { agent_id: agent.to_owned(), home: self.home().to_owned() };
        let mentions = parent.refs.iter().filter(|tag| tag.kind == "mention").map(|tag| tag.value.as_str());
        let named = |name: &str| {
            let of_name = parent.recipients.iter().filter(|recipient| recipient.agent_id == name);
            of_name.filter_map(|recipient| Some(Mailbox { agent_id: name.to_owned(), home: recipient.home.clone()? })).collect::<Vec<_>>()
        };
        let mut agents = vec![Mailbox { agent_id: parent.agent_id.clone(), home: parent.home.clone() }];
        // Go's mention may name a role, which no recipient is called.
        let mut names: Vec<&str> = Vec::new();
        for name in mentions {
            let mailboxes = named(name);
            if mailboxes.is_empty() {
                names.push(name);
            }
            agents.extend(mailboxes);
        }
        let groups = parent.refs.iter().chain(&parent.scopes).filter(|tag| tag.kind == "group");
        names.extend(groups.map(|tag| tag.value.as_str()));
        names.retain(|name| *name != EVERYONE && *name != agent);
        agents.retain(|mailbox| *mailbox != own);
        if agents.is_empty() && names.is_empty() {
            agents.push(own.clone());
        }
        unique(&mut agents);
        unique(&mut names);
        let mut to = Addressed::default();
        let mut gone = Vec::new();
        for mailbox in agents {
            match self.reader().homes(&mailbox.agent_id)?.contains(&mailbox.home) {
                true => to.agent(mailbox),
                false => gone.push(self.shown(&mailbox, machines)?),
            }
        }
        let (mut known, mut foreign) = (Vec::new(), Vec::new());
        for name in names {
            let address = Address { name: name.to_owned(), machine: None };
            let is_group = || parent.scopes.iter().any(|tag| tag.kind == "group" && tag.value == name);
            match self.is_known(name)? {
                true => known.push(address),
                false if is_group() => foreign.push(name),
                false => gone.push(address.shown()),
            }
        }
        let mut members = Vec::new();
        if !foreign.is_empty() {
            for recipient in &parent.recipients {
                let Some(home) = recipient.home.clone() else { continue };
                let mailbox = Mailbox { agent_id: recipient.agent_id.clone(), home };
                if mailbox != own && !to.mailboxes.contains(&mailbox) && self.reader().homes(&mailbox.agent_id)?.contains(&mailbox.home) {
                    members.push(mailbox);
                }
            }
            members.iter().take(limits::MAX_AUDIENCE).cloned().for_each(|mailbox| to.agent(mailbox));
        }
        to.resolved_to = to.mailboxes.len() + known.len();
        if to.resolved_to == 0 {
            gone.extend(foreign.iter().map(|group| Address { name: (*group).to_owned(), machine: None }.shown()));
            return Err(self.unknown_recipients(&gone, &[])?.into());
        }
        self.resolve(&mut to, agent, &known, machines)?;
        to.warnings.extend(gone.iter().map(|shown| format!("{shown} is not registered any more and gets no answer")));
        for group in foreign {
            to.group("group", group);
            let shown = members.iter().take(MOST_LISTED).map(|mailbox| self.shown(mailbox, machines)).collect::<Result<Vec<_>, _>>()?;
            let more = members.len().saturating_sub(shown.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let who = if shown.is_empty() {
                "nobody else gets the answer".to_owned()
            } else {
                format!("{}{more} get the answer, too", shown.join(", "))
            };
            to.warnings.push(format!("@{} is a group of Go Thrum; of those who got the message, {who}", name::shown(group)));
        }
        Ok(to.without_repetitions())
    }

    fn resolve(&self, to: &mut Addressed, author: &str, names: &[Address], machines: &Machines) -> Result<(), StoreError> {
        let others = |members: Vec<(String, String)>| {
            let all = members.into_iter().map(|(agent_id, home)| Mailbox { agent_id, home });
            all.filter(|member| !(member.agent_id == author && member.home == self.home())).collect::<Vec<_>>()
        };
        let (mut unknown, mut ambiguous) = (Vec::new(), Vec::new());
        for address @ Address { name, machine } in names {
            if name == EVERYONE && machine.is_none() {
                to.expand(others(self.reader().members(None)?));
                to.group("broadcast", EVERYONE);
                continue;
            }
            let meant = self.meant(address, machines)?;
            // A role has no machine.
            let members = if machine.is_none() { self.reader().members(Some(name))? } else { Vec::new() };
            let is_agent = !matches!(meant, Meant::Nobody);
            match meant {
                Meant::Nobody if members.is_empty() => unknown.push(address),
                Meant::Nobody => {}
                // One's own name is taken at its word: mail to oneself is stored.
                Meant::One(home) => to.agent(Mailbox { agent_id: name.clone(), home }),
                Meant::Own(others) => {
                    let all = self.all_shown(name, &others, machines)?;
                    to.warnings.push(format!("@{} is the agent of this machine; there is also {all}", name::shown(name)));
                    to.agent(Mailbox { agent_id: name.clone(), home: self.home().to_owned() });
                }
                Meant::OneOf(homes) => ambiguous.push((address, homes)),
            }
            // Both, if another machine calls an agent what is a role here.
            if !members.is_empty() {
                to.expand(others(members));
                to.group("group", name);
                let name = name::shown(name);
                to.warnings.push(match is_agent {
                    true => format!("@{name} is an agent and a role, and both get it"),
                    // The text is Go Thrum's (recorded).
                    false => format!("@{name} resolved to a group, not an individual agent"),
                });
            }
        }
        if !unknown.is_empty() {
            // As it was typed, where that is one word: a name in capitals is a typing error, not an attack.
            let typed = |address: &&Address| match address.machine {
                None => format!("@{}", name::quoted(&address.name)),
                Some(_) => address.shown(),
            };
            let shown: Vec<String> = unknown.iter().map(typed).collect();
            let names: Vec<&str> = unknown.iter().map(|address| address.name.as_str()).collect();
            return Err(self.unknown_recipients(&shown, &names)?.into());
        }
        if !ambiguous.is_empty() {
            let mut each = Vec::new();
            for (address, homes) in &ambiguous {
                each.push(format!("{} may be {}", address.shown(), self.all_shown(&address.name, homes, machines)?));
            }
            let text = format!("{}; nothing was sent", each.join("; "));
            return Err(Fault::new(ErrorKind::Invalid, text).hint("Write the address of the one you mean.").into());
        }
        Ok(())
    }

    /// The homes that an address means. A bare name that several daemons have is the agent of this one, if it is among them.
    fn meant(&self, address: &Address, machines: &Machines) -> Result<Meant, StoreError> {
        let mut homes = self.reader().homes(&address.name)?;
        homes.sort_unstable();
        if let Some(machine) = &address.machine {
            let machines = self.all_named(&homes, machines)?;
            homes.retain(|home| machines.is_called(home, machine));
        }
        Ok(match homes.as_slice() {
            [] => Meant::Nobody,
            [only] => Meant::One(only.clone()),
            _ if address.machine.is_none() && homes.iter().any(|home| home == self.home()) => {
                homes.retain(|home| home != self.home());
                Meant::Own(homes)
            }
            _ => Meant::OneOf(homes),
        })
    }

    /// The machines with names for these homes, also for those behind peers.
    fn all_named(&self, homes: &[String], machines: &Machines) -> Result<Machines, StoreError> {
        let mut machines = machines.clone();
        self.reader().name_machines(&mut machines, homes.iter().map(String::as_str))?;
        Ok(machines)
    }

    fn all_shown(&self, name: &str, homes: &[String], machines: &Machines) -> Result<String, StoreError> {
        let machines = self.all_named(homes, machines)?;
        Ok(homes.iter().map(|home| machines.address(name, home)).collect::<Vec<_>>().join(" or "))
    }

    fn shown(&self, mailbox: &Mailbox, machines: &Machines) -> Result<String, StoreError> {
        self.all_shown(&mailbox.agent_id, std::slice::from_ref(&mailbox.home), machines)
    }

    fn is_known(&self, name: &str) -> Result<bool, StoreError> {
        Ok(!self.reader().homes(name)?.is_empty() || !self.reader().members(Some(name))?.is_empty())
    }

    /// Lists all addresses that are nobody's, and who may have been meant by their names.
    fn unknown_recipients(&self, shown: &[String], names: &[&str]) -> Result<Fault, StoreError> {
        let agents = self.reader().addressable()?;
        // The text is Go Thrum's (recorded).
        let text = format!("unknown recipients: {} \u{2014} no matching agent, role, or group found", shown.join(", "));
        if let Some(several) = names.iter().find(|name| name.contains(',')) {
            let each: Vec<String> = several.split(',').map(|name| format!("--to {}", Address::parse(name.trim()).shown())).collect();
            return Ok(Fault::new(ErrorKind::NotFound, text).hint(format!("Repeat --to for each: {}", each.join(" "))));
        }
        let mut near: Vec<String> = names
            .iter()
            .filter_map(|name| nearest(name, self::names(&agents, true)))
            .map(|name| format!("@{}", name::shown(name)))
            .collect();
        unique(&mut near);
        let hint = if near.is_empty() { WHO.to_owned() } else { format!("Did you mean {}?", near.join(", ")) };
        Ok(Fault::new(ErrorKind::NotFound, text).hint(hint))
    }
}

/// Most members of a group that a warning names.
const MOST_LISTED: usize = 8;

const WHO: &str = "thrum team --all lists who there is.";

/// Reads an address for a list: a name, and with `name@machine` the id of that machine's daemon. A bare name stands for all
/// agents that have it, because a list shows the machine of each.
///
/// # Errors
/// [`ErrorKind::NotFound`] if no machine is called so, [`ErrorKind::Invalid`] if several are.
pub fn listed(reader: &Reader<'_>, text: &str, mut machines: Machines) -> Result<(String, Option<String>), StoreError> {
    let Address { name, machine: Some(machine) } = Address::parse(text) else { return Ok((Address::parse(text).name, None)) };
    reader.name_machines(&mut machines, reader.homes(&name)?.iter().map(String::as_str))?;
    let shown = name::shown_machine(&machine);
    match machines.called(&machine).collect::<Vec<_>>().as_slice() {
        [id] => Ok((name, Some((*id).to_owned()))),
        [] => Err(Fault::new(ErrorKind::NotFound, format!("no machine is called {shown} here"))
            .hint("thrum team --all shows the agents with their machines.")
            .into()),
        several => Err(Fault::new(ErrorKind::Invalid, format!("{shown} may be {}", several.join(" or ")))
            .hint("Write the daemon id in place of the machine's name.")
            .into()),
    }
}

/// Whether anybody, here or elsewhere, has this name, or with `roles` this role. For lists, in which a name misspelt would
/// look like one of which there is nothing.
///
/// # Errors
/// [`ErrorKind::NotFound`] if nobody has, with who may have been meant; those of [`listed`].
pub fn known(reader: &Reader<'_>, text: &str, roles: bool, machines: Machines) -> Result<(), StoreError> {
    let (name, home) = listed(reader, text, machines)?;
    let name = name.as_str();
    if let Some(home) = home {
        if reader.homes(name)?.contains(&home) {
            return Ok(());
        }
        let shown = Address::parse(text).shown();
        return Err(Fault::new(ErrorKind::NotFound, format!("unknown agent: {shown}")).hint(WHO).into());
    }
    let is_agent = !reader.homes(name)?.is_empty() || reader.deleted_at(name)?.is_some();
    if is_agent || roles && (name == EVERYONE || !reader.members(Some(name))?.is_empty()) {
        return Ok(());
    }
    let what = if roles { "agent or role" } else { "agent" };
    let agents = reader.addressable()?;
    let hint = nearest(name, names(&agents, roles)).map_or_else(|| WHO.to_owned(), |near| format!("Did you mean @{}?", name::shown(near)));
    Err(Fault::new(ErrorKind::NotFound, format!("unknown {what}: @{}", name::quoted(name))).hint(hint).into())
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
