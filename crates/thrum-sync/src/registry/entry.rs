//! One peer as `peers.json` keeps it.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use thrum_core::{Stamp, key, limits, name};

use crate::{
    Token,
    pairing::Protocol,
    transport::{Caller, Kind, Node},
};

/// A paired daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Unique among our peers; what people call it.
    #[serde(default)]
    pub name: String,
    /// Whether a person gave it that name; else the name follows what the peer calls itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub named_here: bool,
    /// Where it is dialled, `host:port`.
    #[serde(default)]
    pub address: String,
    /// Who it is.
    pub daemon_id: String,
    /// The secret shared with it. Entries of Go's oldest versions have none and cannot sync.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "token")]
    pub token: Option<Token>,
    /// When it was paired.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "time")]
    pub paired_at: Option<Stamp>,
    /// When it was last heard, at most a round ago if it is now.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "time")]
    pub last_sync: Option<Stamp>,
    /// The kind of transport it was paired on, the only one on which its token is valid. Missing in Go's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// Whether its token ever worked. A pairing that one side never heard of is replaced without asking. Go's files do not
    /// say; their entries are in use.
    #[serde(default = "yes")]
    pub token_used: bool,
    /// Whether it told us that it does not know us any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed_us: bool,
    /// How it was paired, as [`Protocol::as_str`] says it; `None` if nobody noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paired_by: Option<String>,
    /// Whom it takes us for: the daemon of Go Thrum that we have replaced. It files our token under that id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_daemon_id: Option<String>,
    /// The node where it listens: its token goes there and nowhere else. A peer of ours calls from there, too. `None` on
    /// loopback, and until it was learnt for entries that others made.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "node_if_any")]
    pub node: Option<Node>,
    /// The node from which it calls, where that may be another one: Go Thrum listens with a node of its own and dials from
    /// the machine's. Learnt at its first call, once.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "node_if_any")]
    pub calls_from: Option<Node>,
    /// The last time it proved that it is on another node now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// A peer that went from one node to another, and proved with its key that it is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Where it was.
    #[serde(deserialize_with = "node")]
    pub from: Node,
    /// Where it is.
    #[serde(deserialize_with = "node")]
    pub to: Node,
    /// Since when.
    pub at: Stamp,
}

/// What it means that a peer's token comes from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It comes from where the peer is.
    Its,
    /// It is not known yet where the peer is: here, from now on.
    New,
    /// The peer is another node.
    Elsewhere,
}

fn yes() -> bool {
    true
}

/// Go writes an absent token as no key, hand-edited files have an empty one.
fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Token>, D::Error> {
    let text = zeroize::Zeroizing::new(Option::<String>::deserialize(deserializer)?.unwrap_or_default());
    if text.is_empty() {
        return Ok(None);
    }
    Token::parse(&text).map(Some).ok_or_else(|| serde::de::Error::custom("a token that is not 64 hex digits"))
}

/// Go writes the year 1 for "never".
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Stamp>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.as_deref().and_then(Stamp::parse))
}

/// What is only shown of a node is cut where it is too long: no name keeps a daemon from starting.
fn node<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
    let mut node = Node::deserialize(deserializer)?;
    for text in [&mut node.name, &mut node.user] {
        text.truncate(text.floor_char_boundary(limits::MAX_FOREIGN_ID_BYTES));
    }
    Ok(node)
}

fn node_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Node>, D::Error> {
    #[derive(Deserialize)]
    struct Cut(#[serde(deserialize_with = "node")] Node);
    Ok(Option::<Cut>::deserialize(deserializer)?.map(|Cut(node)| node))
}

impl Peer {
    pub(super) fn new(stranger: Stranger, name: String, token: Token, at: Stamp) -> Self {
        Self {
            name,
            named_here: false,
            address: stranger.address,
            daemon_id: stranger.daemon_id,
            token: Some(token),
            paired_at: Some(at),
            last_sync: None,
            transport: Some(stranger.kind.as_str().to_owned()),
            token_used: false,
            removed_us: false,
            paired_by: Some(stranger.protocol.as_str().to_owned()),
            as_daemon_id: None,
            node: stranger.node,
            calls_from: stranger.calls_from,
            moved: None,
            unknown: Map::new(),
        }
    }

    /// A peer of Go Thrum's, whose token is in use. It knows us as `as_daemon_id`.
    pub(crate) fn taken_over(
        name: String,
        address: String,
        daemon_id: String,
        token: Token,
        paired_at: Option<Stamp>,
        as_daemon_id: String,
    ) -> Self {
        let kind = Kind::of_address(&address);
        let stranger = Stranger { daemon_id, name: String::new(), address, kind, node: None, calls_from: None, protocol: Protocol::Plain };
        let peer = Self::new(stranger, name, token, Stamp::ZERO);
        Self { paired_by: None, paired_at, token_used: true, as_daemon_id: Some(as_daemon_id), ..peer }
    }

    /// The kind of transport it was paired on; `None` for one we do not have. Go's files name none but have an address.
    pub fn kind(&self) -> Option<Kind> {
        match &self.transport {
            Some(name) => Kind::parse(name),
            None => Some(Kind::of_address(&self.address)),
        }
    }

    /// Whether it can prove who it is: its id is a key.
    pub fn has_key(&self) -> bool {
        key::is_signed_origin(&self.daemon_id)
    }

    /// What it means that this caller shows the peer's token.
    pub fn origin(&self, caller: &Caller) -> Origin {
        let Some(from) = &caller.node else {
            // A caller on a tailnet always has a node; who has none is nobody there.
            return if caller.kind == Kind::Local { Origin::Its } else { Origin::Elsewhere };
        };
        let is = |node: &Option<Node>| node.as_ref().is_some_and(|node| node.id == from.id);
        let learns = if self.has_key() { self.node.is_none() } else { self.calls_from.is_none() };
        if is(&self.node) || is(&self.calls_from) {
            Origin::Its
        } else if learns {
            Origin::New
        } else {
            Origin::Elsewhere
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.daemon_id.is_empty() || self.daemon_id.len() > limits::MAX_FOREIGN_ID_BYTES {
            return Err(format!("a peer's daemon_id has {} bytes", self.daemon_id.len()));
        }
        if let Some(node) = [&self.node, &self.calls_from].into_iter().flatten().find(|node| node.id.len() > limits::MAX_FOREIGN_ID_BYTES) {
            return Err(format!("the id of a node of {} has {} bytes", self.daemon_id, node.id.len()));
        }
        name::check_peer(&self.name).map_err(|fault| format!("{}: {fault}", self.daemon_id))
    }
}

/// A daemon that is about to become a peer. Its words are its own.
#[derive(Clone, Debug)]
pub struct Stranger {
    /// Who it says it is.
    pub daemon_id: String,
    /// What it calls itself; may be anything.
    pub name: String,
    /// Where it can be reached.
    pub address: String,
    /// The kind of transport it came on.
    pub kind: Kind,
    /// The node where it listens, if that is known.
    pub node: Option<Node>,
    /// The node it called from, if it may listen on another.
    pub calls_from: Option<Node>,
    /// How it is paired.
    pub protocol: Protocol,
}

impl Stranger {
    /// Its name as far as it can be shown: printable, and short enough for a suffix.
    pub(super) fn display_name(&self) -> String {
        shown(if self.name.is_empty() { &self.daemon_id } else { &self.name })
    }
}

/// A name of a peer's own choice as far as it can be shown: printable, and short enough for a suffix.
pub(super) fn shown(name: &str) -> String {
    name::printable(name).chars().take(limits::MAX_PEER_NAME_CHARS - 8).collect()
}
