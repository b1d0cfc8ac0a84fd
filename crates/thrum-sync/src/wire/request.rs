//! Requests: read from peers, written to peers.

use serde::Deserialize;
use serde_json::value::RawValue;
use thrum_core::limits::{MAX_BATCH_EVENTS, MAX_FOREIGN_ID_BYTES};

use super::{About, RpcError, go::Params};
use crate::{Token, transport::Node};

/// The `id` of a request, to be echoed as it came; `None` if it had none.
pub type Id = Option<Box<RawValue>>;

/// A request of a peer whose method exists. What it asks is decoded only once the token is known to be good.
#[derive(Debug)]
pub struct Request {
    /// To be echoed.
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
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default, rename = "jsonrpc")]
    _version: Option<String>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default, borrow)]
    params: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "raw")]
    id: Id,
}

/// Keeps `null` apart from absence, as the echo does.
fn raw<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// What a peer asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// `sync.pull`
    Pull(Pull),
    /// `sync.notify`: `daemon_id` and `latest_seq`.
    Notify {
        /// Who claims to have news.
        daemon_id: String,
        /// The highest sequence it announces; for logs and for display.
        latest: i64,
        /// How many events it announces; for logs.
        count: i64,
    },
    /// `sync.peer_info`
    PeerInfo {
        /// Whether the digest of the projection is wanted, too.
        digest: bool,
        /// Where the asker listens now. From daemons of ours alone.
        port: Option<u16>,
    },
    /// `pair.request`
    Pair(Pair),
    /// `pair.begin`: the first message of the PAKE. Ours alone.
    Begin(Begin),
    /// `pair.confirm`: the joiner's confirmation. Ours alone.
    Confirm(String),
    /// `sync.prove`: the answer to a challenge, by whom and what. Ours alone.
    Prove {
        /// Who answers.
        daemon_id: String,
        /// The answer.
        signature: String,
    },
    /// `sync.refused`: somebody on that node used our token there, and was refused. Ours alone.
    Refused(Node),
    /// `pair.probe`: who are you, and do you wait to pair? Ours alone.
    Probe,
    /// `sync.hello`: prove that you are who you say. Without a token, and before one is sent. Ours alone.
    Hello {
        /// What is to be signed: 64 hex digits.
        challenge: String,
        /// Who asks, and will prove it.
        daemon_id: String,
    },
    /// `sync.ranges`, `sync.ids`, `sync.fetch`: what is held of one log. Ours alone.
    About(About),
    /// `sync.differs`: something of the asker's is missing here. Ours alone.
    Differs,
    /// `sync.lend`: ask your own questions over this connection from now on. Ours alone.
    Lend,
}

/// The parameters of `sync.pull`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Rows above this one.
    pub after: u64,
    /// At most so many, 1 to [`MAX_BATCH_EVENTS`].
    pub max_batch: usize,
    /// Of which log `after` speaks; `None` from Go peers.
    pub log: Option<String>,
}

/// The parameters of `pair.request`.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// What the person typed.
    pub code: String,
    /// The joiner's id.
    pub daemon_id: String,
    /// The joiner's name, unchecked.
    pub name: String,
    /// Where the joiner says it can be reached, unchecked.
    pub address: String,
}

/// The parameters of `pair.begin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Which exchange: [`pake::VERSION`](crate::pairing::pake::VERSION). Another one fails as a wrong code does.
    pub version: String,
    /// The joiner's id.
    pub daemon_id: String,
    /// The joiner's name, unchecked.
    pub name: String,
    /// Where the joiner says it can be reached, unchecked.
    pub address: String,
    /// Its message, in hex; unchecked.
    pub message: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("code", &"****").field("daemon_id", &self.daemon_id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Call {
    /// Whether it asks an old peer for a single event: nothing less can be asked for.
    pub fn is_for_one_of_an_old_peer(&self) -> bool {
        matches!(self, Self::Pull(Pull { max_batch: 1, log: None, .. }))
    }
}

/// Whether a line begins a request of HTTP: a browser's, or that of a client of long ago, which came over a WebSocket.
pub fn is_http(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    version.len() < line.len() && version.len() == b"HTTP/1.1".len() && version.starts_with(b"HTTP/")
}

/// What it is answered before the connection is closed. It lets no page read it.
pub const NOT_HTTP: &str =
    "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nDaemons of Thrum speak here, and not HTTP.";

impl Request {
    /// Reads one line.
    ///
    /// # Errors
    /// With the id to echo: `parse error` (which has none), `method not found`.
    pub fn read(line: &[u8]) -> Result<Self, (Id, RpcError)> {
        let envelope: Envelope<'_> = match serde_json::from_slice(line) {
            // An array would be taken as the fields in order.
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
            other => return Err((envelope.id, RpcError::unknown_method(other))),
        };
        Ok(Self { id: envelope.id, method, params })
    }

    /// Whether this request works without a token: those that bring a peer its token, and the one before them.
    pub fn is_pairing(&self) -> bool {
        matches!(self.method, Method::Pair | Method::Begin | Method::Confirm | Method::Probe)
    }

    /// Whether this asks us to prove who we are. Works without a token.
    pub fn is_hello(&self) -> bool {
        self.method == Method::Hello
    }

    /// Whether this answers a challenge.
    pub fn is_proof(&self) -> bool {
        self.method == Method::Prove
    }

    /// The token shown; empty if none is.
    pub fn token(&self) -> &str {
        self.params.token()
    }

    /// Decodes the parameters. Call it once the token is known to be good, as Go does: strangers learn nothing here.
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
                let after = u64::try_from(after).map_err(|_| RpcError::said("after_sequence must be >= 0"))?;
                let max_batch = usize::try_from(max_batch).ok().filter(|n| (1..=MAX_BATCH_EVENTS).contains(n)).unwrap_or(MAX_BATCH_EVENTS);
                Ok(Query::Pull(Pull { after, max_batch, log }))
            }
            Method::Notify => {
                if matches!(self.params, Params::Missing) {
                    return Err(RpcError::said("missing params"));
                }
                let fields = self.params.fields("SyncNotifyRequest")?;
                let daemon_id = fields.text("daemon_id")?;
                let (latest, count) = (fields.integer("latest_seq", "int64")?, fields.integer("event_count", "int")?);
                if daemon_id.is_empty() {
                    return Err(RpcError::said("daemon_id is required"));
                }
                Ok(Query::Notify { daemon_id, latest, count })
            }
            Method::PeerInfo if matches!(&self.params, Params::Object(_)) => {
                let fields = self.params.fields("SyncPeerInfoRequest")?;
                // What is no port is nothing to follow, and no reason not to answer.
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
                let text = |name: &str| fields.text(name).map(|text| text[..text.floor_char_boundary(MAX_FOREIGN_ID_BYTES)].to_owned());
                Ok(Query::Refused(Node { id: text("node_id")?, name: text("node_name")?, user: text("node_user")? }))
            }
            Method::Probe => Ok(Query::Probe),
            Method::Hello => {
                let fields = self.params.fields("SyncHelloRequest")?;
                let (challenge, daemon_id) = (fields.text("challenge")?, fields.text("daemon_id")?);
                if !super::is_challenge(&challenge) || !(1..=MAX_FOREIGN_ID_BYTES).contains(&daemon_id.len()) {
                    return Err(RpcError::said("challenge must be 64 hex digits, and daemon_id an id"));
                }
                Ok(Query::Hello { challenge, daemon_id })
            }
            Method::About(method) => Ok(Query::About(About::read(method, self.params.object()?)?)),
            Method::Differs => Ok(Query::Differs),
            Method::Lend => Ok(Query::Lend),
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
                    return Err(RpcError::said("daemon_id is required"));
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
                    return Err(RpcError::said("code is required"));
                }
                if pair.daemon_id.is_empty() {
                    return Err(RpcError::said("daemon_id is required"));
                }
                Ok(Query::Pair(pair))
            }
        }
    }
}

/// What we ask a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Who are you, and what do you hold?
    PeerInfo {
        /// With the digest of the projection, which costs the peer a pass over it.
        digest: bool,
    },
    /// Events above `after`.
    Pull(Pull),
    /// There is something above what you have read.
    Notify {
        /// Our highest sequence that did not come from this peer.
        latest: u64,
        /// Commits announced at once; for the peer's log.
        count: u64,
    },
    /// What do you hold of one log?
    About(About),
    /// Something of ours is missing there.
    Differs,
}

impl Call {
    /// The request line, without its end. `own_id` goes into a notify, by which a Go peer finds out whom to ask.
    pub fn line(&self, id: u64, own_id: &str, token: &Token) -> String {
        let token = token.reveal();
        let (method, params) = match self {
            Self::About(about) => {
                let (method, mut params) = about.request();
                params["token"] = token.into();
                (method, params)
            }
            Self::Differs => ("sync.differs", serde_json::json!({"token": token})),
            Self::PeerInfo { digest: false } => ("sync.peer_info", serde_json::json!({"token": token})),
            Self::PeerInfo { digest: true } => ("sync.peer_info", serde_json::json!({"token": token, "digest": true})),
            Self::Pull(Pull { after, max_batch, log: None }) => {
                ("sync.pull", serde_json::json!({"after_sequence": after, "max_batch": max_batch, "token": token}))
            }
            Self::Pull(Pull { after, max_batch, log: Some(log) }) => {
                ("sync.pull", serde_json::json!({"after_sequence": after, "log_id": log, "max_batch": max_batch, "token": token}))
            }
            Self::Notify { latest, count } => {
                ("sync.notify", serde_json::json!({"daemon_id": own_id, "event_count": count, "latest_seq": latest, "token": token}))
            }
        };
        line(method, &params, id)
    }
}

impl Pair {
    /// The request line of `pair.request`, without its end.
    pub fn line(&self, id: u64) -> String {
        let params = serde_json::json!({"address": self.address, "code": self.code, "daemon_id": self.daemon_id, "name": self.name});
        line("pair.request", &params, id)
    }
}

impl Begin {
    /// The request line of `pair.begin`, without its end.
    pub fn line(&self, id: u64) -> String {
        let Self { version, daemon_id, name, address, message } = self;
        let params = serde_json::json!({"address": address, "daemon_id": daemon_id, "msg": message, "name": name, "version": version});
        line("pair.begin", &params, id)
    }
}

/// The request line of `pair.confirm`, without its end.
pub fn confirm_request(id: u64, confirmation: &str) -> String {
    line("pair.confirm", &serde_json::json!({"mac": confirmation}), id)
}

/// The request line of `pair.probe`, without its end.
pub fn probe_request(id: u64) -> String {
    line("pair.probe", &serde_json::json!({}), id)
}

/// The request line of `sync.hello`, without its end. There is no secret in it.
pub fn hello_request(id: u64, challenge: &str, own_id: &str) -> String {
    line("sync.hello", &serde_json::json!({"challenge": challenge, "daemon_id": own_id}), id)
}

/// The request line of `sync.prove`, without its end.
pub fn prove_request(id: u64, own_id: &str, token: &Token, signature: &str) -> String {
    line("sync.prove", &serde_json::json!({"daemon_id": own_id, "signature": signature, "token": token.reveal()}), id)
}

/// The request line of `sync.peer_info` to a daemon of ours, which follows where we listen; without its end.
pub fn peer_info_request(id: u64, token: &Token, digest: bool, port: u16) -> String {
    let mut params = serde_json::json!({"port": port, "token": token.reveal()});
    if digest {
        params["digest"] = true.into();
    }
    line("sync.peer_info", &params, id)
}

/// The request line of `sync.lend`, without its end.
pub fn lend_request(id: u64, token: &Token) -> String {
    line("sync.lend", &serde_json::json!({"token": token.reveal()}), id)
}

/// The request line of `sync.refused`, without its end.
pub fn refused_request(id: u64, token: &Token, node: &Node) -> String {
    let params = serde_json::json!({"node_id": node.id, "node_name": node.name, "node_user": node.user, "token": token.reveal()});
    line("sync.refused", &params, id)
}

fn line(method: &str, params: &serde_json::Value, id: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":{id}}}"#)
}
