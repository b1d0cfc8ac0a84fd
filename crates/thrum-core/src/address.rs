//! Addresses of agents: `@name` for an agent of this daemon, `@name@machine` for one of another daemon.
//!
//! Two daemons may each have an agent `ann`, and two peers may announce the same machine name. [`Machines`] gives every
//! daemon id a machine name that is unique here, so that an address identifies one mailbox. A name outside our alphabet
//! is quoted and escaped, so that no part of it can be mistaken for the surrounding text.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use crate::{SetDigest, name};

/// An agent's address as a user typed it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The name of an agent or a role.
    pub name: String,
    /// The machine: a name assigned by [`Machines`], or a daemon id. `None` if the address names none.
    pub machine: Option<String>,
}

impl Address {
    /// Parses `name` or `name@machine`, with or without a leading `@`, each part plain or in quotes. Never fails: any
    /// other text, without a leading `@`, becomes the name as a whole.
    pub fn parse(text: &str) -> Self {
        let text = text.strip_prefix('@').unwrap_or(text);
        let whole = || Self { name: text.to_owned(), machine: None };
        let (name, rest) = match quoted_part(text) {
            Some(part) => part,
            None => match text.find('@') {
                // `ann, @bob` is a list, not an address.
                Some(at) if at > 0 && !text[..at].contains([',', ' ']) => (text[..at].to_owned(), &text[at..]),
                _ => return whole(),
            },
        };
        match rest.strip_prefix('@') {
            None if rest.is_empty() => Self { name, machine: None },
            Some(machine) if !machine.is_empty() => match quoted_part(machine) {
                Some((machine, "")) => Self { name, machine: Some(machine) },
                _ => Self { name, machine: Some(machine.to_owned()) },
            },
            _ => whole(),
        }
    }

    /// The address for display, with the `@`.
    pub fn shown(&self) -> String {
        match &self.machine {
            None => format!("@{}", name::shown(&self.name)),
            Some(machine) => format!("@{}@{}", name::shown(&self.name), name::shown_machine(machine)),
        }
    }
}

/// Splits a quoted text, as written by [`name::shown`], off the front. Returns it without quotes and escapes, and the
/// rest; `None` if the text does not begin with a complete one.
fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.char_indices();
    let (mut part, mut escaped) = (String::new(), false);
    while let Some((at, c)) = chars.next() {
        match (escaped, c) {
            (false, '"') => return Some((part, &text[at + 2..])),
            (false, '\\') => {
                escaped = true;
                continue;
            }
            (false, c) => part.push(c),
            (true, 'n') => part.push('\n'),
            (true, 'r') => part.push('\r'),
            (true, 't') => part.push('\t'),
            (true, 'u') => {
                let code: String =
                    chars.by_ref().map(|(_, c)| c).skip_while(|c| *c == '{').take_while(|c| *c != '}').collect();
                part.push(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32)?);
            }
            (true, c) => part.push(c),
        }
        escaped = false;
    }
    None
}

/// Unique machine names for daemon ids. Our own daemon and the peers have the names that a user gave them. A daemon
/// that is known only through others has its announced host name plus a part of its id.
#[derive(Clone, Debug, Default)]
pub struct Machines {
    own: String,
    names: BTreeMap<String, String>,
    taken: BTreeSet<String>,
}

/// Number of characters of a daemon id appended to a machine name; more only if needed to make the name unique.
const TAIL: usize = 7;

/// Longest part of an announced name that is displayed, in characters.
const ANNOUNCED: usize = 32;

impl Machines {
    /// Names our own daemon and the peers, from pairs of id and name. A peer whose name is already taken, by us or by
    /// another peer, gets a part of its id appended.
    pub fn new<'a>(own: (&str, &str), peers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut machines = Self { own: own.0.to_owned(), ..Self::default() };
        machines.put(own.0, own.1.to_owned());
        for (id, name) in peers {
            if !machines.knows(id) {
                let name = if machines.taken.contains(name) { machines.with_tail(name, id) } else { name.to_owned() };
                machines.put(id, name);
            }
        }
        machines
    }

    /// Adds daemons that are known only through others, as pairs of id and announced host name. An id that already has
    /// a name keeps it.
    pub fn add_announced<'a>(&mut self, daemons: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let daemons: BTreeMap<&str, &str> = daemons.into_iter().filter(|(id, _)| !self.knows(id)).collect();
        for (id, announced) in daemons {
            let name = self.with_tail(&announced_name(announced), id);
            self.put(id, name);
        }
    }

    /// Returns `true` if this id was given a name.
    pub fn knows(&self, id: &str) -> bool {
        self.names.contains_key(id)
    }

    /// Returns `true` if this is our own id.
    pub fn is_own(&self, id: &str) -> bool {
        self.own == id
    }

    /// The machine name of a daemon. For an id that was never added, `machine` with a part of the id.
    pub fn name(&self, id: &str) -> Cow<'_, str> {
        self.names.get(id).map_or_else(|| self.with_tail("machine", id).into(), |name| name.as_str().into())
    }

    /// The agent's address for display: `@name`, or `@name@machine` for an agent of another daemon.
    pub fn address(&self, agent: &str, home: &str) -> String {
        let machine = (!self.is_own(home)).then(|| self.name(home).into_owned());
        Address { name: agent.to_owned(), machine }.shown()
    }

    /// Returns `true` if `machine`, as typed by a user, denotes the daemon `id`.
    pub fn is_called(&self, id: &str, machine: &str) -> bool {
        id == machine || self.name(id) == machine
    }

    /// The ids of all added daemons that `machine`, as typed by a user, may denote.
    pub fn called<'a>(&'a self, machine: &'a str) -> impl Iterator<Item = &'a str> {
        self.names.iter().filter(move |(id, name)| *id == machine || *name == machine).map(|(id, _)| id.as_str())
    }

    fn put(&mut self, id: &str, name: String) {
        self.taken.insert(name.clone());
        self.names.insert(id.to_owned(), name);
    }

    /// Appends the first [`TAIL`] characters of the id to the name, or more if that name is taken.
    fn with_tail(&self, name: &str, id: &str) -> String {
        let tail = match id.strip_prefix("d_") {
            Some(tail) if name::is_plain(tail) => tail.to_owned(),
            // This id cannot be part of a name, but its hash can.
            _ => format!("x{}", SetDigest::of(id.as_bytes())),
        };
        let lengths = (TAIL.min(tail.len())..tail.len()).map(|length| format!("{name}-{}", &tail[..length]));
        let mut names =
            lengths.chain((1..).map(|n| if n == 1 { format!("{name}-{tail}") } else { format!("{name}-{tail}-{n}") }));
        names.find(|name| !self.taken.contains(name)).unwrap_or_default()
    }
}

/// Converts an announced name to lower-case ASCII letters, digits and `._-`, cut to [`ANNOUNCED`] characters. `machine`
/// if nothing is left.
fn announced_name(announced: &str) -> String {
    let plain =
        |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c.to_ascii_lowercase() } else { '-' };
    let name: String = announced.chars().take(ANNOUNCED).map(plain).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "machine".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machines() -> Machines {
        let peers = [("d_kpeer1aaaaaa", "desk"), ("d_kpeer2bbbbbb", "here"), ("d_gopeer", "my laptop\nHint: x")];
        let mut machines = Machines::new(("d_kown", "here"), peers);
        machines.add_announced([
            ("d_kfar1zzzzzzz", "desk"),
            ("d_kfar1zzzzzyy", "desk"),
            ("d \n", "Büro ● @boss"),
            ("d_kpeer1aaaaaa", "liar"),
        ]);
        machines
    }

    #[test]
    fn every_daemon_has_a_different_name() {
        let machines = machines();
        let name = |id| machines.name(id).into_owned();
        assert_eq!(name("d_kown"), "here");
        assert_eq!(name("d_kpeer1aaaaaa"), "desk", "what a person calls a peer is its name, whatever it announces");
        assert_eq!(name("d_kpeer2bbbbbb"), "here-kpeer2b", "our own name stays ours");
        assert_eq!(name("d_kfar1zzzzzyy"), "desk-kfar1zz");
        assert_eq!(name("d_kfar1zzzzzzz"), "desk-kfar1zzz", "as much of the id as tells the two apart");
        assert!(name("d \n").starts_with("b-ro----boss-x"), "{}", name("d \n"));
        assert!(name("d_kunknownxxx").starts_with("machine-kunknow"));
        let ids = [
            "d_kown",
            "d_kpeer1aaaaaa",
            "d_kpeer2bbbbbb",
            "d_gopeer",
            "d_kfar1zzzzzzz",
            "d_kfar1zzzzzyy",
            "d \n",
            "d_kunknownxxx",
        ];
        assert_eq!(ids.iter().map(|id| name(id)).collect::<BTreeSet<_>>().len(), ids.len());
    }

    #[test]
    fn an_address_is_one_word_or_quoted_and_parses_as_displayed() {
        let machines = machines();
        let shown = |name, home| machines.address(name, home);
        assert_eq!(shown("ann", "d_kown"), "@ann");
        assert_eq!(shown("ann", "d_kpeer1aaaaaa"), "@ann@desk");
        assert_eq!(shown("ann", "d_gopeer"), "@ann@\"my laptop\\nHint: x\"");
        assert_eq!(shown("аnn  5m ago\n", "d_kown"), "@\"\\u{430}nn  5m ago\\n\"", "the first letter is Cyrillic");
        for name in ["ann", "a b", "a@b", "\"", "\\", "a\"b\\n\n\u{202e}é", "", "@", "x\u{1b}[2J"] {
            for home in ["d_kown", "d_kpeer1aaaaaa", "d_gopeer", "d \n"] {
                let read = Address::parse(&shown(name, home));
                assert_eq!(read.name, name);
                assert_eq!(read.machine, (!machines.is_own(home)).then(|| machines.name(home).into_owned()));
            }
        }
    }

    #[test]
    fn an_unquoted_address_is_parsed() {
        let parse = |text| {
            let Address { name, machine } = Address::parse(text);
            (name, machine)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parse("ann"), ("ann".into(), None));
        assert_eq!(parse("@ann@desk"), ("ann".into(), some("desk")));
        assert_eq!(parse("ann@my laptop"), ("ann".into(), some("my laptop")));
        assert_eq!(parse("ann@"), ("ann@".into(), None));
        assert_eq!(parse("@"), ("".into(), None));
        assert_eq!(parse("@ann, @bob"), ("ann, @bob".into(), None));
        assert_eq!(parse("\"ann"), ("\"ann".into(), None));
    }
}
