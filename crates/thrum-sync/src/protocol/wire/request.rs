//! Requests: decodes those received from peers, encodes those sent to peers.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;
use thrum_core::limits::{MAX_BATCH_EVENTS, MAX_FOREIGN_ID_BYTES};

use super::{About, RpcError, frame::Id, go::Params};
use crate::{Token, transport::Node};

/// A peer's request for an existing method. Parameters of a request that needs a token are decoded only after the token
/// was accepted.
#[derive(Debug)]
pub struct Request {
    /// The id to echo in the reply.
    pub id: Id,
    method: Method,
    params: Params,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Pull,
    Notify,
    PeerInfo,
    Pair,
    Begin,
    Confirm,
    Prove,
    Refused,
    Probe,
    Hello,
    About(&'static str),
    Differs,
    Lend,
    Goodbye,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default, rename = "jsonrpc")]
    _version: Option<String>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default, borrow, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "present")]
    id: Id,
}

/// Distinguishes a member that is `null` from an absent one: Go's decoder does so for `params`, and an id is echoed as
/// received.
fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A decoded request from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// `sync.pull`
    Pull(Pull),
    /// `sync.notify`: the sender has new events.
    Notify {
        /// The daemon that claims to have new events.
        daemon_id: String,
        /// The highest announced sequence; unchecked, and perhaps negative.
        latest: i64,
        /// The number of announced events; for logs.
        count: i64,
        /// The announced events, if they were sent along.
        pushed: Option<Pushed>,
    },
    /// `sync.peer_info`
    PeerInfo {
        /// Whether to include the digest of the projection.
        digest: bool,
        /// The caller's current listening port. Sent only by non-legacy peers.
        port: Option<u16>,
    },
    /// `pair.request`
    Pair(Pair),
    /// `pair.begin`: the first message of the PAKE. Not in Go Thrum.
    Begin(Begin),
    /// `pair.confirm`: the joiner's confirmation. Not in Go Thrum.
    Confirm(String),
    /// `sync.prove`: the answer to a challenge. Not in Go Thrum.
    Prove {
        /// The daemon that answers.
        daemon_id: String,
        /// The daemon's signature over the challenge.
        signature: String,
    },
    /// `sync.refused`: the peer refused the token that it shares with us, because a caller on this node used it. Not in
    /// Go Thrum.
    Refused(Node),
    /// `pair.probe`: which daemon is this, and is it waiting to pair? Not in Go Thrum.
    Probe,
    /// `sync.hello`: prove your identity. Carries no token. The first request on a lent connection, and on an
    /// unencrypted one from a daemon of an earlier version. Not in Go Thrum.
    Hello {
        /// The challenge to sign: 64 hex digits.
        challenge: String,
        /// The daemon that asks, and will prove its own identity.
        daemon_id: String,
        /// The id that the asking process drew at its start; `None` if absent or invalid, as from an earlier version.
        instance: Option<String>,
    },
    /// `sync.ranges`, `sync.ids`, `sync.fetch`: which events of one log are held, or send some. Not in Go Thrum.
    About(About),
    /// `sync.differs`: events that the peer holds are missing here. Not in Go Thrum.
    Differs,
    /// `sync.lend`: send your own requests over this connection from now on. Not in Go Thrum.
    Lend,
    /// `sync.goodbye`: the peer's daemon is stopping, whatever reason it gives. Not in Go Thrum.
    Goodbye,
}

/// Events that are sent along with `sync.notify`, so that the peer need not wait for a pull. Not in Go Thrum, which
/// ignores them.
#[derive(Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The sequence after which the events follow. They are of no use to a peer that has read up to another sequence.
    pub after: u64,
    /// The line that would answer a `sync.pull` of these events with the id 0.
    pub line: String,
}

impl fmt::Debug for Pushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushed").field("after", &self.after).field("bytes", &self.line.len()).finish()
    }
}

/// The name of the protocol extension [`Pull::stored`], as listed in `sync.peer_info`. A daemon that does not know it
/// would take the events up to [`Pull::after`] for stored.
pub const AHEAD: &str = "ahead-1";

/// The name of the protocol extension [`Call::Goodbye`], as listed in `sync.peer_info`.
pub const GOODBYE: &str = "goodbye-1";

/// The name of the protocol extension [`Pull::references`], as listed in `sync.peer_info`. A daemon that lists it also
/// takes references among the events that are sent along with an announcement.
pub const REFERENCES: &str = "references-1";

/// The parameters of `sync.pull`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Requests events above this sequence.
    pub after: u64,
    /// Maximum number of events, 1 to [`MAX_BATCH_EVENTS`].
    pub max_batch: usize,
    /// The log to which `after` refers; `None` from and to legacy peers.
    pub log: Option<String>,
    /// If the events up to `after` are not all durable at the asking daemon yet: the sequence up to which they are.
    /// Not in Go Thrum.
    pub stored: Option<u64>,
    /// Whether events that the asking daemon is assumed to hold may be sent as references, with sequence and id only.
    /// `Some(false)` if it lacks an event that was sent as a reference; `None` in the first pull of a connection, and to
    /// and from a daemon that does not list [`REFERENCES`]. Not in Go Thrum.
    pub references: Option<bool>,
}

impl Pull {
    /// Returns the sequence up to which the asking daemon has stored the log durably.
    pub fn acknowledged(&self) -> u64 {
        self.stored.map_or(self.after, |stored| stored.min(self.after))
    }
}

/// The parameters of `pair.request`.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The code that the person typed.
    pub code: String,
    /// The joiner's id.
    pub daemon_id: String,
    /// The joiner's name, unchecked.
    pub name: String,
    /// The address at which the joiner claims to be reachable, unchecked.
    pub address: String,
}

/// The parameters of `pair.begin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Version of the exchange: [`pake::VERSION`](crate::pairing::pake::VERSION). Any other version fails like a wrong
    /// code.
    pub version: String,
    /// The joiner's id.
    pub daemon_id: String,
    /// The joiner's name, unchecked.
    pub name: String,
    /// The address at which the joiner claims to be reachable, unchecked.
    pub address: String,
    /// The joiner's PAKE message, in hex; unchecked.
    pub message: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("code", &"****")
            .field("daemon_id", &self.daemon_id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Call {
    /// Returns `true` if the reply costs the peer only a few milliseconds, so that it arrives as soon as the network
    /// allows.
    pub const fn is_cheap(&self) -> bool {
        !matches!(self, Self::PeerInfo { digest: true } | Self::About(_))
    }

    /// Returns `true` for a pull of a single event from a legacy peer. No smaller request exists.
    pub fn is_for_one_of_an_old_peer(&self) -> bool {
        matches!(self, Self::Pull(Pull { max_batch: 1, log: None, .. }))
    }
}

/// Returns `true` if a line begins an HTTP request: from a browser, or from Go Thrum v0.7 or later, which connects over
/// WebSocket.
pub fn is_http(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    version.len() < line.len() && version.len() == b"HTTP/1.1".len() && version.starts_with(b"HTTP/")
}

/// Reply to an HTTP request before the connection is closed. Sends no CORS header, so no web page can read it.
pub const NOT_HTTP: &str = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nDaemons of Thrum speak here, and not HTTP.";

impl Request {
    /// Reads one line.
    ///
    /// # Errors
    /// The error and the id to echo: `parse error` (without an id) or `method not found`.
    pub fn read(line: &[u8]) -> Result<Self, (Id, RpcError)> {
        let envelope: Envelope<'_> = match serde_json::from_slice(line) {
            // serde would also accept an array, as the fields in order.
            Ok(envelope) if line.trim_ascii_start().starts_with(b"{") => envelope,
            _ => return Err((None, RpcError::parse())),
        };
        let params = Params::read(envelope.params).map_err(|_| (None, RpcError::parse()))?;
        let method = match envelope.method.as_deref().unwrap_or_default() {
            "sync.pull" => Method::Pull,
            "sync.notify" => Method::Notify,
            "sync.peer_info" => Method::PeerInfo,
            "pair.request" => Method::Pair,
            "pair.begin" => Method::Begin,
            "pair.confirm" => Method::Confirm,
            "sync.prove" => Method::Prove,
            "sync.refused" => Method::Refused,
            "pair.probe" => Method::Probe,
            "sync.hello" => Method::Hello,
            "sync.ranges" => Method::About("sync.ranges"),
            "sync.ids" => Method::About("sync.ids"),
            "sync.fetch" => Method::About("sync.fetch"),
            "sync.differs" => Method::Differs,
            "sync.lend" => Method::Lend,
            "sync.goodbye" => Method::Goodbye,
            other => return Err((envelope.id, RpcError::unknown_method(other))),
        };
        Ok(Self { id: envelope.id, method, params })
    }

    /// Returns `true` for pairing requests and the probe before them, which need no token.
    pub fn is_pairing(&self) -> bool {
        matches!(self.method, Method::Pair | Method::Begin | Method::Confirm | Method::Probe)
    }

    /// Returns `true` if the caller asks us to prove our identity. Needs no token.
    pub fn is_hello(&self) -> bool {
        self.method == Method::Hello
    }

    /// Returns `true` if the request answers a challenge.
    pub fn is_proof(&self) -> bool {
        self.method == Method::Prove
    }

    /// Returns the caller's token; empty if absent.
    pub fn token(&self) -> &str {
        self.params.token()
    }

    /// Decodes the parameters. For a request that needs a token, call this only after the token was accepted, as Go
    /// does, so that strangers learn nothing.
    ///
    /// # Errors
    /// Go's texts for parameters that are missing, of the wrong type, or out of range.
    pub fn query(&self) -> Result<Query, RpcError> {
        match self.method {
            Method::Pull => {
                let fields = self.params.fields("SyncPullRequest")?;
                let after = fields.integer("after_sequence", "int64")?;
                let max_batch = fields.integer("max_batch", "int")?;
                let log = Some(fields.text("log_id")?).filter(|log| !log.is_empty());
                let after = u64::try_from(after).map_err(|_| RpcError::plain("after_sequence must be >= 0"))?;
                let max_batch = usize::try_from(max_batch)
                    .ok()
                    .filter(|n| (1..=MAX_BATCH_EVENTS).contains(n))
                    .unwrap_or(MAX_BATCH_EVENTS);
                let stored = match &log {
                    Some(_) if fields.has("stored_sequence") => {
                        let stored = fields.integer("stored_sequence", "int64")?;
                        Some(u64::try_from(stored).map_err(|_| RpcError::plain("stored_sequence must be >= 0"))?)
                    }
                    _ => None,
                };
                let references = (log.is_some() && fields.has("references")).then(|| fields.flag("references"));
                Ok(Query::Pull(Pull { after, max_batch, log, stored, references }))
            }
            Method::Notify => {
                if matches!(self.params, Params::Missing) {
                    return Err(RpcError::plain("missing params"));
                }
                let fields = self.params.fields("SyncNotifyRequest")?;
                let daemon_id = fields.text("daemon_id")?;
                let (latest, count) = (fields.integer("latest_seq", "int64")?, fields.integer("event_count", "int")?);
                if daemon_id.is_empty() {
                    return Err(RpcError::plain("daemon_id is required"));
                }
                // Ignore invalid events; the pull that follows brings them, too.
                let line = fields.text("pushed").ok().filter(|line| !line.is_empty());
                let after = fields.integer("after_sequence", "int64").ok().and_then(|after| u64::try_from(after).ok());
                let pushed = line.zip(after).map(|(line, after)| Pushed { after, line });
                Ok(Query::Notify { daemon_id, latest, count, pushed })
            }
            Method::PeerInfo if matches!(&self.params, Params::Object(_)) => {
                let fields = self.params.fields("SyncPeerInfoRequest")?;
                // Ignore an invalid port; it is no reason to refuse the request.
                let port = fields.integer("port", "int").ok().and_then(|port| u16::try_from(port).ok());
                Ok(Query::PeerInfo { digest: fields.flag("digest"), port: port.filter(|port| *port > 0) })
            }
            Method::PeerInfo => Ok(Query::PeerInfo { digest: false, port: None }),
            Method::Prove => {
                let fields = self.params.fields("SyncProveRequest")?;
                Ok(Query::Prove { daemon_id: fields.text("daemon_id")?, signature: fields.text("signature")? })
            }
            Method::Refused => {
                let fields = self.params.fields("SyncRefusedRequest")?;
                let text = |name: &str| {
                    fields.text(name).map(|text| text[..text.floor_char_boundary(MAX_FOREIGN_ID_BYTES)].to_owned())
                };
                Ok(Query::Refused(Node { id: text("node_id")?, name: text("node_name")?, user: text("node_user")? }))
            }
            Method::Probe => Ok(Query::Probe),
            Method::Hello => {
                let fields = self.params.fields("SyncHelloRequest")?;
                let (challenge, daemon_id) = (fields.text("challenge")?, fields.text("daemon_id")?);
                if !super::is_challenge(&challenge) || !(1..=MAX_FOREIGN_ID_BYTES).contains(&daemon_id.len()) {
                    return Err(RpcError::plain("challenge must be 64 hex digits, and daemon_id an id"));
                }
                let instance = fields.text("instance").ok().filter(|instance| super::is_instance(instance));
                Ok(Query::Hello { challenge, daemon_id, instance })
            }
            Method::About(method) => Ok(Query::About(About::read(method, self.params.object()?)?)),
            Method::Differs => Ok(Query::Differs),
            Method::Lend => Ok(Query::Lend),
            Method::Goodbye => Ok(Query::Goodbye),
            Method::Begin => {
                let fields = self.params.fields("PairBeginRequest")?;
                let begin = Begin {
                    version: fields.text("version")?,
                    daemon_id: fields.text("daemon_id")?,
                    name: fields.text("name")?,
                    address: fields.text("address")?,
                    message: fields.text("msg")?,
                };
                if begin.daemon_id.is_empty() {
                    return Err(RpcError::plain("daemon_id is required"));
                }
                Ok(Query::Begin(begin))
            }
            Method::Confirm => Ok(Query::Confirm(self.params.fields("PairConfirmRequest")?.text("mac")?)),
            Method::Pair => {
                let fields = self.params.fields("PairRequest")?;
                let pair = Pair {
                    code: fields.text("code")?,
                    daemon_id: fields.text("daemon_id")?,
                    name: fields.text("name")?,
                    address: fields.text("address")?,
                };
                if pair.code.is_empty() {
                    return Err(RpcError::plain("code is required"));
                }
                if pair.daemon_id.is_empty() {
                    return Err(RpcError::plain("daemon_id is required"));
                }
                Ok(Query::Pair(pair))
            }
        }
    }
}

/// A request to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `sync.peer_info`: which daemon is this, and which events does it hold?
    PeerInfo {
        /// Whether to request the digest of the projection, which costs the peer a pass over it.
        digest: bool,
    },
    /// `sync.pull`: send the events above `after`.
    Pull(Pull),
    /// `sync.notify`: there are events above those that the peer has read.
    Notify {
        /// Our highest sequence of an event that did not come from this peer.
        latest: u64,
        /// Number of commits announced together, sent as `event_count`; for the peer's logs.
        count: u64,
        /// The sequence up to which the peer has probably read our log: the last one announced or acknowledged. The
        /// events above it are sent along. `None` for a legacy peer, and before the first announcement or
        /// acknowledgement.
        after: Option<u64>,
        /// Origins whose events the peer also gets from others, so that references to them are enough. `None` if the
        /// peer does not list [`REFERENCES`].
        references: Option<Arc<BTreeSet<String>>>,
    },
    /// `sync.ranges`, `sync.ids` or `sync.fetch`: a question about one log of one origin.
    About(About),
    /// `sync.differs`: events that we hold are missing at the peer.
    Differs,
    /// `sync.goodbye`: this daemon is stopping. Only to peers that list [`GOODBYE`].
    Goodbye,
}

impl Call {
    /// Encodes the request without a line end. A notify includes `own_id`, by which a Go peer identifies the daemon to
    /// pull from.
    pub fn line(&self, id: u64, own_id: &str, token: &Token) -> String {
        self.line_with(id, own_id, token, None)
    }

    /// Encodes the request like [`line`](Self::line). A notify includes the `pushed` events.
    pub fn line_with(&self, id: u64, own_id: &str, token: &Token, pushed: Option<&Pushed>) -> String {
        let token = token.reveal();
        let (method, params) = match self {
            Self::About(about) => {
                let (method, mut params) = about.request();
                params["token"] = token.into();
                (method, params)
            }
            Self::Differs => ("sync.differs", serde_json::json!({"token": token})),
            Self::Goodbye => ("sync.goodbye", serde_json::json!({"reason": "stopping", "token": token})),
            Self::PeerInfo { digest: false } => ("sync.peer_info", serde_json::json!({"token": token})),
            Self::PeerInfo { digest: true } => ("sync.peer_info", serde_json::json!({"token": token, "digest": true})),
            Self::Pull(Pull { after, max_batch, log, stored, references }) => {
                let mut params = serde_json::json!({"after_sequence": after, "max_batch": max_batch, "token": token});
                if let Some(log) = log {
                    params["log_id"] = log.as_str().into();
                }
                if let Some(stored) = stored {
                    params["stored_sequence"] = (*stored).into();
                }
                if let Some(references) = references {
                    params["references"] = (*references).into();
                }
                ("sync.pull", params)
            }
            Self::Notify { latest, count, .. } => {
                let mut params = serde_json::json!({"daemon_id": own_id, "event_count": count, "latest_seq": latest, "token": token});
                if let Some(Pushed { after, line }) = pushed {
                    params["after_sequence"] = (*after).into();
                    params["pushed"] = line.as_str().into();
                }
                ("sync.notify", params)
            }
        };
        line(method, &params, id)
    }
}

impl Pair {
    /// Encodes `pair.request` without a line end.
    pub fn line(&self, id: u64) -> String {
        let params = serde_json::json!({"address": self.address, "code": self.code, "daemon_id": self.daemon_id, "name": self.name});
        line("pair.request", &params, id)
    }
}

impl Begin {
    /// Encodes `pair.begin` without a line end.
    pub fn line(&self, id: u64) -> String {
        let Self { version, daemon_id, name, address, message } = self;
        let params = serde_json::json!({"address": address, "daemon_id": daemon_id, "msg": message, "name": name, "version": version});
        line("pair.begin", &params, id)
    }
}

/// Encodes `pair.confirm` without a line end.
pub fn confirm_request(id: u64, confirmation: &str) -> String {
    line("pair.confirm", &serde_json::json!({"mac": confirmation}), id)
}

/// Encodes `pair.probe` without a line end.
pub fn probe_request(id: u64) -> String {
    line("pair.probe", &serde_json::json!({}), id)
}

/// The request that begins the handshake of an encrypted connection.
pub const ENCRYPT: &str = "sync.encrypt";

/// Encodes the request for an encrypted connection, without a line end. Contains no readable secret.
pub fn encrypt_request(id: u64, message: &str) -> String {
    line(ENCRYPT, &serde_json::json!({"message": message}), id)
}

/// Reads a request for an encrypted connection: the id to echo, and the message. `None` for any other line.
pub fn read_encrypt(line: &[u8]) -> Option<(Id, String)> {
    #[derive(Deserialize)]
    struct Fields {
        message: String,
    }
    let envelope: Envelope<'_> = serde_json::from_slice(line).ok()?;
    envelope.method.as_deref().filter(|method| *method == ENCRYPT)?;
    let Fields { message } = serde_json::from_str(envelope.params?.get()).ok()?;
    Some((envelope.id, message))
}

/// Encodes `sync.hello` without a line end. Contains no secret.
pub fn hello_request(id: u64, challenge: &str, own_id: &str, instance: &str) -> String {
    line("sync.hello", &serde_json::json!({"challenge": challenge, "daemon_id": own_id, "instance": instance}), id)
}

/// Encodes `sync.prove` without a line end.
pub fn prove_request(id: u64, own_id: &str, token: &Token, signature: &str) -> String {
    line("sync.prove", &serde_json::json!({"daemon_id": own_id, "signature": signature, "token": token.reveal()}), id)
}

/// Encodes `sync.peer_info` to a non-legacy peer, which records our listening `port`; without a line end.
pub fn peer_info_request(id: u64, token: &Token, digest: bool, port: u16) -> String {
    let mut params = serde_json::json!({"port": port, "token": token.reveal()});
    if digest {
        params["digest"] = true.into();
    }
    line("sync.peer_info", &params, id)
}

/// Encodes `sync.lend` without a line end.
pub fn lend_request(id: u64, token: &Token) -> String {
    line("sync.lend", &serde_json::json!({"token": token.reveal()}), id)
}

/// Encodes `sync.refused` without a line end.
pub fn refused_request(id: u64, token: &Token, node: &Node) -> String {
    let params = serde_json::json!({"node_id": node.id, "node_name": node.name, "node_user": node.user, "token": token.reveal()});
    line("sync.refused", &params, id)
}

fn line(method: &str, params: &serde_json::Value, id: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":{id}}}"#)
}
