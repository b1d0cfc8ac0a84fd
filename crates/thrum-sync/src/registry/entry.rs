//! One peer as stored in `peers.json`.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use thrum_core::{Timestamp, bounds, key, limits, name};

use crate::{
    Token,
    pairing::Protocol,
    transport::{Caller, Kind, Node},
};

/// A paired daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Display name; unique among our peers.
    #[serde(default)]
    pub name: String,
    /// Whether the user chose the name. Otherwise the name follows the peer's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub named_here: bool,
    /// The address to dial, `host:port`.
    #[serde(default)]
    pub address: String,
    /// The peer's daemon id.
    pub daemon_id: String,
    /// The shared secret. Peers from Go's oldest versions have none and cannot sync.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "token")]
    pub token: Option<Token>,
    /// When the peer was paired.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "time")]
    pub paired_at: Option<Timestamp>,
    /// When we last had contact with the peer; the name is Go's. The file may lag by [`limits::SYNC_INTERVAL`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "time")]
    pub last_sync: Option<Timestamp>,
    /// The kind of transport on which the peer was paired; the token is valid only there. Missing in Go's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// Whether the token has ever worked. Until it has, pairing with the same daemon again replaces this entry. Entries
    /// from Go's files lack this field and count as used.
    #[serde(default = "default_true")]
    pub token_used: bool,
    /// Whether the peer has told us that it no longer knows us.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed_us: bool,
    /// The pairing protocol, as in [`Protocol::as_str`]; `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paired_by: Option<String>,
    /// The id by which the peer knows us: that of the Go Thrum that we replaced. The peer stores our token under this
    /// id. `None` if it knows us by our own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_daemon_id: Option<String>,
    /// The node on which the peer listens. Its token is sent only there. A peer with a key also calls from there.
    /// `None` on loopback. Also `None`, until learnt, for imported entries and for a Go Thrum that joined us.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "node_if_any")]
    pub node: Option<Node>,
    /// The node from which the peer calls, if that may be another one: Go Thrum listens on a node of its own, and dials
    /// from the machine's node. Recorded once, when it pairs with us or first calls.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "node_if_any")]
    pub calls_from: Option<Node>,
    /// The last time the peer proved that it has moved to another node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// The move of a peer from one node to another, proven with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The previous node.
    #[serde(deserialize_with = "node")]
    pub from: Node,
    /// The current node.
    #[serde(deserialize_with = "node")]
    pub to: Node,
    /// When the peer proved the move.
    pub at: Timestamp,
}

/// How the calling node relates to the peer whose token was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeMatch {
    /// A node that is recorded for this peer, or loopback.
    Known,
    /// It was not yet known from which node the peer calls; [`Registry::learn_caller`](super::Registry::learn_caller)
    /// records this one.
    FirstCall,
    /// A node other than those recorded for this peer, or an unknown one.
    Elsewhere,
}

fn default_true() -> bool {
    true
}

/// Reads a token. Go omits an absent one; hand-edited files may contain an empty one.
fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Token>, D::Error> {
    let text = zeroize::Zeroizing::new(Option::<String>::deserialize(deserializer)?.unwrap_or_default());
    if text.is_empty() {
        return Ok(None);
    }
    Token::parse(&text).map(Some).ok_or_else(|| serde::de::Error::custom("a token that is not 64 hex digits"))
}

/// Reads a time. `None` for a missing or unreadable one, and for the year 1, which Go writes for "never".
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.as_deref().and_then(Timestamp::parse))
}

/// Reads a node. Cuts its name and user to the limit instead of refusing the entry: both are only displayed. A node id
/// that is too long is an error ([`Peer::check`]).
fn node<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
    let mut node = Node::deserialize(deserializer)?;
    for text in [&mut node.name, &mut node.user] {
        bounds::truncate(text, limits::MAX_FOREIGN_ID_BYTES);
    }
    Ok(node)
}

fn node_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Node>, D::Error> {
    #[derive(Deserialize)]
    struct BoundedNode(#[serde(deserialize_with = "node")] Node);
    Ok(Option::<BoundedNode>::deserialize(deserializer)?.map(|BoundedNode(node)| node))
}

impl Peer {
    pub(super) fn new(candidate: Candidate, name: String, token: Token, at: Timestamp) -> Self {
        Self {
            name,
            named_here: false,
            address: candidate.address,
            daemon_id: candidate.daemon_id,
            token: Some(token),
            paired_at: Some(at),
            last_sync: None,
            transport: Some(candidate.kind.as_str().to_owned()),
            token_used: false,
            removed_us: false,
            paired_by: Some(candidate.protocol.as_str().to_owned()),
            as_daemon_id: None,
            node: candidate.node,
            calls_from: candidate.calls_from,
            moved: None,
            unknown: Map::new(),
        }
    }

    /// Creates the entry of a peer taken over from a Go Thrum. Its token counts as used. The peer knows us as
    /// `as_daemon_id`.
    pub(crate) fn taken_over(
        name: String,
        address: String,
        daemon_id: String,
        token: Token,
        paired_at: Option<Timestamp>,
        as_daemon_id: String,
    ) -> Self {
        let kind = Kind::of_address(&address);
        let candidate = Candidate {
            daemon_id,
            name: String::new(),
            address,
            kind,
            node: None,
            calls_from: None,
            protocol: Protocol::Plain,
        };
        let peer = Self::new(candidate, name, token, Timestamp::ZERO);
        Self { paired_by: None, paired_at, token_used: true, as_daemon_id: Some(as_daemon_id), ..peer }
    }

    /// Returns the kind of transport on which the peer was paired; `None` for an unknown kind. If the entry has no
    /// kind, as in Go's files, it follows from the address.
    pub fn kind(&self) -> Option<Kind> {
        match &self.transport {
            Some(name) => Kind::parse(name),
            None => Some(Kind::of_address(&self.address)),
        }
    }

    /// Returns `true` if the peer can prove its identity: its id is a public key.
    pub fn has_key(&self) -> bool {
        key::is_signed_origin(&self.daemon_id)
    }

    /// Returns how this caller's node relates to the peer whose token it used.
    pub fn match_node(&self, caller: &Caller) -> NodeMatch {
        let Some(from) = &caller.node else {
            // Should not happen on a tailnet, where every caller has a node. Refuse it.
            return if caller.kind == Kind::Local { NodeMatch::Known } else { NodeMatch::Elsewhere };
        };
        let is = |node: &Option<Node>| node.as_ref().is_some_and(|node| node.id == from.id);
        let is_unrecorded = if self.has_key() { self.node.is_none() } else { self.calls_from.is_none() };
        if is(&self.node) || is(&self.calls_from) {
            NodeMatch::Known
        } else if is_unrecorded {
            NodeMatch::FirstCall
        } else {
            NodeMatch::Elsewhere
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.daemon_id.is_empty() || self.daemon_id.len() > limits::MAX_FOREIGN_ID_BYTES {
            return Err(format!("a peer's daemon_id has {} bytes", self.daemon_id.len()));
        }
        if let Some(node) = [&self.node, &self.calls_from]
            .into_iter()
            .flatten()
            .find(|node| node.id.len() > limits::MAX_FOREIGN_ID_BYTES)
        {
            return Err(format!(
                "the id of a node of {} has {} bytes",
                name::printable(&self.daemon_id),
                node.id.len()
            ));
        }
        name::check_peer(&self.name).map_err(|error| format!("{}: {error}", name::printable(&self.daemon_id)))
    }
}

/// A daemon that is about to become a peer. The id and the name are its own claims. If it called us, so is the address;
/// if we joined it, the address is the one that we dialled.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The id that it claims.
    pub daemon_id: String,
    /// The name that it gives itself; may be any text.
    pub name: String,
    /// The address at which it can be reached.
    pub address: String,
    /// The kind of transport on which we paired.
    pub kind: Kind,
    /// The node on which it listens, if known.
    pub node: Option<Node>,
    /// The node from which it called, if it may listen on another.
    pub calls_from: Option<Node>,
    /// The pairing protocol.
    pub protocol: Protocol,
}

impl Candidate {
    /// Returns its name in displayable form: printable, and short enough to leave room for the `-2`, `-3`, … that makes
    /// a name unique.
    pub(super) fn display_name(&self) -> String {
        display_name(if self.name.is_empty() { &self.daemon_id } else { &self.name })
    }
}

/// Converts a peer's own name into displayable form: printable, and short enough to leave room for the `-2`, `-3`, …
/// that makes a name unique.
pub(super) fn display_name(name: &str) -> String {
    name::printable(name).chars().take(limits::MAX_PEER_NAME_CHARS - 8).collect()
}
