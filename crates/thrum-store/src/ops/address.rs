//! Resolves the names in a message's address into recipients, and determines the audience of an answer.

use std::collections::{BTreeMap, HashSet};

use thrum_core::{
    Address, Error, ErrorKind, Machines,
    audience::{self, Addressee, EVERYONE},
    limits, name,
    payload::Tag,
};

use crate::{
    Reader, StoreError, Tx,
    query::{Addressable, Mailbox, Message},
};

/// The resolved audience of a message.
#[derive(Default)]
pub(super) struct Addressed {
    /// Recipients by name and home.
    pub(super) mailboxes: Vec<Mailbox>,
    pub(super) audiences: Vec<Tag>,
    pub(super) scopes: Vec<Tag>,
    pub(super) refs: Vec<Tag>,
    pub(super) warnings: Vec<String>,
    /// Number of mentions; for an answer to the parent's audience, number of `audiences`.
    pub(super) resolved_to: usize,
}

impl Addressed {
    /// The names of the recipients, without duplicates.
    pub(super) fn recipients(&self) -> Vec<String> {
        let mut names: Vec<String> = self.mailboxes.iter().map(|mailbox| mailbox.agent_id.clone()).collect();
        unique(&mut names);
        names
    }

    /// The recipients' names by home, in the form that the event carries.
    pub(super) fn homes(&self) -> BTreeMap<String, Vec<String>> {
        audience::recipient_homes(self.mailboxes.iter().map(|mailbox| (&*mailbox.agent_id, &*mailbox.home)))
    }

    /// Adds the members of a role, or all agents, up to [`limits::MAX_AUDIENCE`] recipients in total. The group tag,
    /// not the list of members, addresses the message.
    fn expand(&mut self, members: Vec<Mailbox>) {
        let room = limits::MAX_AUDIENCE.saturating_sub(self.mailboxes.len());
        self.mailboxes.extend(members.into_iter().take(room));
    }

    fn add_agent(&mut self, mailbox: Mailbox) {
        self.add(Addressee::Agent(&mailbox.agent_id));
        self.mailboxes.push(mailbox);
    }

    fn add(&mut self, addressee: Addressee<'_>) {
        self.audiences.push(addressee.sent());
        self.scopes.extend(addressee.scope());
        self.refs.push(addressee.reference());
    }

    fn without_repetitions(mut self) -> Self {
        unique(&mut self.mailboxes);
        unique(&mut self.audiences);
        unique(&mut self.scopes);
        unique(&mut self.refs);
        self
    }
}

/// The homes that an address, as the user wrote it, may mean.
enum Meant {
    Nobody,
    One(String),
    /// The agent of this daemon; agents at these other homes have the same name.
    Own(Vec<String>),
    /// One of these homes, but it is ambiguous which.
    OneOf(Vec<String>),
}

impl Tx<'_> {
    /// Resolves the mentions of a message; each names an agent, a role, a group of Go Thrum or everyone. The error
    /// lists all mentions that match no recipient or, if there are none, all names that are ambiguous between daemons.
    /// A scope or ref that addresses a known agent, a known role or everyone counts as a mention, because Go Thrum's
    /// `reply` sends such tags. Without any mention the message goes to everyone.
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
        let addressees = scopes.iter().filter_map(Addressee::of_scope).chain(refs.iter().filter_map(Addressee::of_ref));
        for name in addressees.map(Addressee::name) {
            if name == EVERYONE || self.is_known(name)? {
                names.push(Address { name: name.to_owned(), machine: None });
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

    /// Resolves the recipients of an answer: the parent's author, at that author's home, and all recipients that the
    /// parent names, but not the author of the answer. An answer to a message for everyone goes only to that
    /// message's author. If no recipient remains, the answer goes to the agent that wrote it. Named recipients that
    /// are no longer registered are left out, with a warning. A group of Go Thrum is not resolved again: the recipients
    /// that the parent lists get the answer, which keeps the group's tag.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no recipient is registered any more; [`ErrorKind::Invalid`] if the parent names an
    /// agent without its home, and several other daemons, but not this one, have an agent of this name.
    pub(super) fn address_answer(
        &self,
        agent: &str,
        parent: &Message,
        machines: &Machines,
    ) -> Result<Addressed, StoreError> {
        let own = Mailbox { agent_id: agent.to_owned(), home: self.home().to_owned() };
        let mailboxes_of = |name: &str| {
            let of_name = parent.recipients.iter().filter(|recipient| recipient.agent_id == name);
            of_name
                .filter_map(|recipient| Some(Mailbox { agent_id: name.to_owned(), home: recipient.home.clone()? }))
                .collect::<Vec<_>>()
        };
        let mut agents = vec![Mailbox { agent_id: parent.agent_id.clone(), home: parent.home.clone() }];
        // A mention by Go Thrum may name a role, and a role is not listed among the recipients.
        let mut names: Vec<&str> = Vec::new();
        let refs = parent.refs.iter().filter_map(Addressee::of_ref);
        for name in refs.clone().filter(|to| matches!(to, Addressee::Agent(_))).map(Addressee::name) {
            let mailboxes = mailboxes_of(name);
            if mailboxes.is_empty() {
                names.push(name);
            }
            agents.extend(mailboxes);
        }
        let scopes = parent.scopes.iter().filter_map(Addressee::of_scope);
        let groups = refs.filter(|to| !matches!(to, Addressee::Agent(_))).chain(scopes.clone());
        names.extend(groups.map(Addressee::name));
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
                true => to.add_agent(mailbox),
                false => gone.push(self.shown(&mailbox, machines)?),
            }
        }
        let (mut known, mut foreign) = (Vec::new(), Vec::new());
        for name in names {
            let address = Address { name: name.to_owned(), machine: None };
            let is_group = || scopes.clone().any(|scope| scope == Addressee::Group(name));
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
                if mailbox != own
                    && !to.mailboxes.contains(&mailbox)
                    && self.reader().homes(&mailbox.agent_id)?.contains(&mailbox.home)
                {
                    members.push(mailbox);
                }
            }
            members.iter().take(limits::MAX_AUDIENCE).cloned().for_each(|mailbox| to.add_agent(mailbox));
        }
        if to.mailboxes.is_empty() && known.is_empty() {
            gone.extend(foreign.iter().map(|group| Address { name: (*group).to_owned(), machine: None }.shown()));
            return Err(self.unknown_recipients(&gone, &[], machines)?.into());
        }
        self.resolve(&mut to, agent, &known, machines)?;
        to.warnings.extend(gone.iter().map(|shown| format!("{shown} is not registered any more and gets no answer")));
        for group in foreign {
            to.add(Addressee::Group(group));
            let who = match members.is_empty() {
                true => "nobody else gets the answer".to_owned(),
                false => format!("{} get the answer, too", self.some_shown(&members, machines)?),
            };
            to.warnings
                .push(format!("@{} is a group of Go Thrum; of those who got the message, {who}", name::shown(group)));
        }
        let to = to.without_repetitions();
        Ok(Addressed { resolved_to: to.audiences.len(), ..to })
    }

    fn resolve(
        &self,
        to: &mut Addressed,
        author: &str,
        names: &[Address],
        machines: &Machines,
    ) -> Result<(), StoreError> {
        let others = |members: Vec<(String, String)>| {
            let all = members.into_iter().map(|(agent_id, home)| Mailbox { agent_id, home });
            all.filter(|member| !(member.agent_id == author && member.home == self.home())).collect::<Vec<_>>()
        };
        let (mut unknown, mut ambiguous) = (Vec::new(), Vec::new());
        for address @ Address { name, machine } in names {
            if name == EVERYONE && machine.is_none() {
                to.expand(others(self.reader().members(None)?));
                to.add(Addressee::Everyone);
                continue;
            }
            let meant = self.meant(address, machines)?;
            // An address with a machine cannot be a role.
            let members = if machine.is_none() { self.reader().members(Some(name))? } else { Vec::new() };
            let is_agent = !matches!(meant, Meant::Nobody);
            match meant {
                Meant::Nobody if members.is_empty() => {
                    let group = if machine.is_none() { self.reader().group_of_go(name)? } else { None };
                    match group {
                        Some(mailboxes) => self.address_group(to, author, name, mailboxes, machines)?,
                        None => unknown.push(address),
                    }
                }
                Meant::Nobody => {}
                // An agent may address itself; such mail is stored.
                Meant::One(home) => to.add_agent(Mailbox { agent_id: name.clone(), home }),
                Meant::Own(others) => {
                    let all = self.all_shown(name, &others, machines)?;
                    to.warnings
                        .push(format!("@{} is the agent of this machine; there is also {all}", name::shown(name)));
                    to.add_agent(Mailbox { agent_id: name.clone(), home: self.home().to_owned() });
                }
                Meant::OneOf(homes) => ambiguous.push((address, homes)),
            }
            // If the name is that of an agent and of a role, address both. `register` prevents this within one daemon,
            // not between daemons.
            if !members.is_empty() {
                to.expand(others(members));
                to.add(Addressee::Group(name));
                let name = name::shown(name);
                to.warnings.push(match is_agent {
                    true => format!("@{name} is an agent and a role, and both get it"),
                    // This is Go Thrum's text, as recorded.
                    false => format!("@{name} resolved to a group, not an individual agent"),
                });
            }
        }
        if !unknown.is_empty() {
            // Unlike an address with a machine, a bare name is quoted only if it is not a single word. `Ann` is
            // probably a slip, and quotes would only distract from it.
            let typed = |address: &&Address| match address.machine {
                None => format!("@{}", name::quoted(&address.name)),
                Some(_) => address.shown(),
            };
            let shown: Vec<String> = unknown.iter().map(typed).collect();
            return Err(self.unknown_recipients(&shown, &unknown, machines)?.into());
        }
        if !ambiguous.is_empty() {
            let mut each = Vec::new();
            for (address, homes) in &ambiguous {
                each.push(format!("{} may be {}", address.shown(), self.all_shown(&address.name, homes, machines)?));
            }
            let text = format!("{}; nothing was sent", each.join("; "));
            return Err(Error::new(ErrorKind::Invalid, text).hint("Write the address of the one you mean.").into());
        }
        Ok(())
    }

    /// Addresses each member of a Go Thrum group individually, at most [`limits::MAX_AUDIENCE`], because the fold
    /// delivers nothing to the members of such a group. The group's tag is kept, so that members on Go Thrum find the
    /// message by it.
    fn address_group(
        &self,
        to: &mut Addressed,
        author: &str,
        group: &str,
        mut members: Vec<Mailbox>,
        machines: &Machines,
    ) -> Result<(), StoreError> {
        members.retain(|member| !(member.agent_id == author && member.home == self.home()));
        let who = self.some_shown(&members, machines)?;
        let who = if members.is_empty() {
            "it has no other member that is registered".to_owned()
        } else {
            format!("it goes to {who}")
        };
        to.warnings.push(format!("@{} is a group of Go Thrum; {who}", name::shown(group)));
        members.into_iter().take(limits::MAX_AUDIENCE).for_each(|mailbox| to.add_agent(mailbox));
        to.add(Addressee::Group(group));
        Ok(())
    }

    /// Formats the addresses of the first [`MOST_LISTED`] of these agents, and how many more there are.
    fn some_shown(&self, agents: &[Mailbox], machines: &Machines) -> Result<String, StoreError> {
        let shown =
            agents.iter().take(MOST_LISTED).map(|agent| self.shown(agent, machines)).collect::<Result<Vec<_>, _>>()?;
        let more = agents.len().saturating_sub(shown.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Ok(format!("{}{more}", shown.join(", ")))
    }

    /// Resolves an address to homes. A bare name that several daemons have means the agent of this daemon, if there is
    /// one.
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

    /// Returns `machines` with names for these homes added, including daemons known only through peers.
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

    /// Builds the error that lists all unknown addresses, with suggestions.
    fn unknown_recipients(
        &self,
        shown: &[String],
        unknown: &[&Address],
        machines: &Machines,
    ) -> Result<Error, StoreError> {
        let agents = self.reader().addressable()?;
        // This is Go Thrum's text, as recorded.
        let text = format!("unknown recipients: {} \u{2014} no matching agent, role, or group found", shown.join(", "));
        if let Some(several) = unknown.iter().map(|address| address.name.as_str()).find(|name| name.contains(',')) {
            let each: Vec<String> =
                several.split(',').map(|name| format!("--to {}", Address::parse(name.trim()).shown())).collect();
            return Ok(Error::new(ErrorKind::NotFound, text).hint(format!("Repeat --to for each: {}", each.join(" "))));
        }
        let mut near = Vec::new();
        for address in unknown {
            let namesakes = if address.machine.is_some() { self.namesakes(&address.name)? } else { Vec::new() };
            if !namesakes.is_empty() {
                near.push(self.some_shown(&namesakes, machines)?);
            } else if let Some(name) = name::nearest(&address.name, names(&agents, true)) {
                near.push(format!("@{}", name::shown(name)));
            }
        }
        unique(&mut near);
        let hint = if near.is_empty() { WHO.to_owned() } else { format!("Did you mean {}?", near.join(", ")) };
        Ok(Error::new(ErrorKind::NotFound, text).hint(hint))
    }

    /// Lists all agents of this name, the agent of this daemon last: a user who typed a machine name did not mean that
    /// agent.
    fn namesakes(&self, name: &str) -> Result<Vec<Mailbox>, StoreError> {
        let mut homes = self.reader().homes(name)?;
        homes.sort_unstable_by_key(|home| (home == self.home(), home.clone()));
        Ok(homes.into_iter().map(|home| Mailbox { agent_id: name.to_owned(), home }).collect())
    }
}

/// Maximum number of agents that `some_shown` names; the others are only counted.
const MOST_LISTED: usize = 8;

const WHO: &str = "thrum team --all lists who there is.";

/// Parses an address by which a list is filtered: returns the name and, for `name@machine`, the id of that machine's
/// daemon. A bare name stands for all agents that have it, because a list shows the machine of each.
///
/// # Errors
/// [`ErrorKind::NotFound`] if no machine has this name, [`ErrorKind::Invalid`] if several do.
pub fn listed(reader: &Reader<'_>, text: &str, mut machines: Machines) -> Result<(String, Option<String>), StoreError> {
    let Address { name, machine: Some(machine) } = Address::parse(text) else {
        return Ok((Address::parse(text).name, None));
    };
    let homes = reader.homes(&name)?;
    reader.name_machines(&mut machines, homes.iter().map(String::as_str))?;
    let shown = name::shown_machine(&machine);
    match machines.called(&machine).collect::<Vec<_>>().as_slice() {
        [id] => Ok((name, Some((*id).to_owned()))),
        [] => {
            let names: Vec<_> = homes.iter().map(|home| machines.name(home)).collect();
            let near = name::nearest_machine(&machine, names.iter().map(AsRef::as_ref));
            let hint =
                near.map(|near| format!("Did you mean {}?", Address { name, machine: Some(near.to_owned()) }.shown()));
            let hint = hint.unwrap_or_else(|| "thrum team --all shows the agents with their machines.".to_owned());
            Err(Error::new(ErrorKind::NotFound, format!("no machine is called {shown} here")).hint(hint).into())
        }
        several => Err(Error::new(ErrorKind::Invalid, format!("{shown} may be {}", several.join(" or ")))
            .hint("Write the daemon id in place of the machine's name.")
            .into()),
    }
}

/// Checks that an agent (or, with `roles`, a role or everyone) of this name exists here or elsewhere. For lists, where
/// a misspelt name would look like one without any entries. For a bare name, an agent that was deleted here also
/// counts.
///
/// # Errors
/// [`ErrorKind::NotFound`] with a hint if none exists; those of [`listed`].
pub fn known(reader: &Reader<'_>, text: &str, roles: bool, machines: Machines) -> Result<(), StoreError> {
    let (name, home) = listed(reader, text, machines)?;
    let name = name.as_str();
    if let Some(home) = home {
        if reader.homes(name)?.contains(&home) {
            return Ok(());
        }
        let shown = Address::parse(text).shown();
        return Err(Error::new(ErrorKind::NotFound, format!("unknown agent: {shown}")).hint(WHO).into());
    }
    let is_agent = !reader.homes(name)?.is_empty() || reader.deleted_at(name)?.is_some();
    if is_agent || roles && (name == EVERYONE || !reader.members(Some(name))?.is_empty()) {
        return Ok(());
    }
    let what = if roles { "agent or role" } else { "agent" };
    let agents = reader.addressable()?;
    let hint = name::nearest(name, names(&agents, roles))
        .map_or_else(|| WHO.to_owned(), |near| format!("Did you mean @{}?", name::shown(near)));
    Err(Error::new(ErrorKind::NotFound, format!("unknown {what}: @{}", name::quoted(name))).hint(hint).into())
}

fn names(agents: &[Addressable], roles: bool) -> impl Iterator<Item = &str> {
    let roles = agents.iter().filter(move |_| roles).map(|agent| agent.role.as_str());
    agents.iter().map(|agent| agent.agent_id.as_str()).chain(roles)
}

/// Removes duplicates and keeps the first occurrence of each entry.
fn unique<T: Clone + Eq + std::hash::Hash>(list: &mut Vec<T>) {
    let mut seen = HashSet::new();
    list.retain(|entry| seen.insert(entry.clone()));
}
