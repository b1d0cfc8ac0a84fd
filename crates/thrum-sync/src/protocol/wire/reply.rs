//! Replies: encodes those sent to peers, decodes those received from peers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};
use thrum_core::{
    Heads, SetDigest, Timestamp, bounds,
    compare::{Listing, Numbers},
    exchange::Page,
    limits,
};

use super::{
    Asked, BadReply, Call, Id, compare,
    frame::{decode, end, result, result_line, shown},
    go::escape_html,
};
use crate::{Token, transport::Node};

/// Result of `sync.peer_info`. Go's result has only the first two fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The daemon's id.
    pub daemon_id: String,
    /// The daemon's name.
    pub name: String,
    /// Version of the daemon's program; `None` from legacy peers.
    pub version: Option<String>,
    /// Names of the protocols that the daemon speaks.
    pub protocols: Vec<String>,
    /// The id of the daemon's log. `None` identifies a legacy peer.
    pub log: Option<String>,
    /// The daemon's version vector; `None` from legacy peers, and with more than [`limits::MAX_HEADS`] heads.
    pub heads: Option<Heads>,
    /// The daemon's highest sequence; `None` from legacy peers.
    pub latest: Option<u64>,
    /// The time of the daemon's clock; `None` from legacy peers.
    pub time: Option<Timestamp>,
    /// The digest of the daemon's projection, if requested.
    pub projection: Option<SetDigest>,
    /// Whether a purge at the daemon is due soon or not done yet. Reported with the digest.
    pub purge_waits: bool,
}

/// Result of `sync.pull` and `sync.fetch`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    /// The events, in the order served.
    pub events: Vec<Served>,
    /// Sequence from which to continue, as the peer reports it; unchecked. Our daemons send 0 with no events.
    pub next: i64,
    /// Whether the peer has more events.
    pub more: bool,
    /// The id of the log that was served; `None` from legacy peers.
    pub log: Option<String>,
}

/// One event as served: the string fields of its envelope, and the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The event's sequence in the serving daemon's log.
    pub sequence: i64,
    /// `event_id`, `type`, `timestamp`, `origin_daemon`: `None` if the field is empty or not a string.
    pub envelope: [Option<String>; 4],
    /// The event as JSON of any shape; empty if the event was too long to be read, and in a reference.
    pub event_json: String,
    /// If this is a reference to an event that we are assumed to hold: its [short
    /// digest](thrum_core::exchange::short_digest), unchecked. A reference has only sequence and id beside it.
    pub reference: Option<String>,
}

impl Served {
    /// Keys of [`envelope`](Self::envelope), in the same order.
    pub const ENVELOPE: [&str; 4] = ["event_id", "type", "timestamp", "origin_daemon"];

    /// Returns `true` if the event was too long to be read.
    pub fn is_unread(&self) -> bool {
        self.event_json.is_empty() && self.reference.is_none()
    }
}

/// The decoded reply to a [`Call`].
#[derive(Debug)]
pub enum Reply {
    /// `sync.peer_info`
    Info(Box<Info>),
    /// `sync.pull`, `sync.fetch`
    Pulled(Pulled),
    /// `sync.notify`, `sync.differs`, `sync.goodbye`
    Notified,
    /// `sync.ranges`
    Numbers(Numbers),
    /// `sync.ids`
    Listing(Listing),
}

impl Call {
    /// Reads the reply to this call.
    ///
    /// # Errors
    /// [`BadReply`] unless the line is a result of this method for the request `asked`.
    pub fn read(&self, line: &[u8], asked: u64) -> Result<Reply, BadReply> {
        match self {
            Self::PeerInfo { .. } => read_info(line, asked).map(|info| Reply::Info(Box::new(info))),
            Self::Pull(_) => read_pulled(line, asked).map(Reply::Pulled),
            Self::Notify { .. } | Self::Differs | Self::Goodbye => read_notified(line, asked).map(|()| Reply::Notified),
            Self::About(about) => match &about.asked {
                Asked::Numbers(after) => compare::read_numbers(line, asked, *after).map(Reply::Numbers),
                Asked::Listing(after, upto) => compare::read_listing(line, asked, after, upto).map(Reply::Listing),
                Asked::Events(_) => read_pulled(line, asked).map(Reply::Pulled),
            },
        }
    }
}

/// Result of `pair.request`, or of `pair.confirm` with the token unsealed.
#[derive(Debug)]
pub struct Paired {
    /// The token of this pairing.
    pub token: Token,
    /// The listener's id.
    pub daemon_id: String,
    /// The listener's name, unchecked.
    pub name: String,
}

/// Result of `pair.confirm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The listener's confirmation, in hex; unchecked.
    pub confirmation: String,
    /// The token of this pairing, sealed, in hex.
    pub sealed: String,
    /// The listener's id.
    pub daemon_id: String,
    /// The listener's name, unchecked.
    pub name: String,
}

/// Encodes the reply to `sync.notify`, `sync.differs`, `sync.lend` and `sync.goodbye`.
pub fn notified_line(id: &Id) -> String {
    result_line(id, &json!({"status": "ok"}))
}

/// Additional facts that any result may carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The replying daemon cannot dial the caller. The caller should lend it a connection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreached: bool,
    /// Another process runs with the caller's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_key: Option<SameKey>,
}

/// Another process that runs with a daemon's key, as seen by the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SameKey {
    /// The process's listening address, or else its host; empty if unknown.
    #[serde(default)]
    pub address: String,
    /// The process's node; `None` if unknown or on loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// Time since the process's last sign of life, in milliseconds.
    #[serde(default)]
    pub ago_ms: u64,
}

/// Adds marks to a result. Error replies stay unchanged.
pub fn add_marks(line: String, marks: &Marks) -> String {
    const RESULT: &str = r#"{"jsonrpc":"2.0","result":{"#;
    if *marks == Marks::default() {
        return line;
    }
    match (line.strip_prefix(RESULT), serde_json::to_string(marks)) {
        (Some(rest), Ok(added)) => {
            let added = escape_html(&added[1..added.len() - 1]);
            let comma = if rest.starts_with('}') { "" } else { "," };
            format!("{RESULT}{added}{comma}{rest}")
        }
        _ => line,
    }
}

/// Reads the marks of a result and shortens each text to [`limits::MAX_FOREIGN_ID_BYTES`]. Returns `None` if the line
/// is not a result, or its marks are malformed.
pub fn marks_of(line: &[u8]) -> Option<Marks> {
    #[derive(Deserialize)]
    struct Wire {
        result: Marks,
    }
    let Wire { mut result } = serde_json::from_slice(line).ok()?;
    if let Some(SameKey { address, node, .. }) = &mut result.same_key {
        let node = node.iter_mut().flat_map(|node| [&mut node.id, &mut node.name, &mut node.user]);
        for text in std::iter::once(address).chain(node) {
            bounds::truncate(text, limits::MAX_FOREIGN_ID_BYTES);
        }
    }
    Some(result)
}

/// Encodes the reply to `sync.prove` and `sync.refused`.
pub fn proved_line(id: &Id) -> String {
    result_line(id, &json!({"status": "ok"}))
}

/// Result of `sync.hello`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The id of the replying daemon.
    pub daemon_id: String,
    /// The replying daemon's signature over the caller's challenge.
    pub signature: String,
    /// The challenge for the caller to sign.
    pub challenge: String,
    /// The id that the replying process drew at its start; `None` if absent or invalid, as from an earlier version.
    pub instance: Option<String>,
}

/// Encodes the reply to `sync.encrypt`.
pub fn encrypted_line(id: &Id, message: &str) -> String {
    result_line(id, &json!({"message": message}))
}

/// Encodes the reply to `sync.hello`.
pub fn hello_line(id: &Id, hello: &Hello) -> String {
    let Hello { daemon_id, signature, challenge, instance } = hello;
    let mut result = json!({"challenge": challenge, "daemon_id": daemon_id, "signature": signature});
    if let Some(instance) = instance {
        result["instance"] = instance.as_str().into();
    }
    result_line(id, &result)
}

/// Result of `pair.probe`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// The daemon's id, unchecked.
    pub daemon_id: String,
    /// The daemon's name; from a peer, shortened and escaped.
    pub name: String,
    /// Whether the daemon waits to be joined on the caller's kind of transport.
    pub waiting: bool,
    /// Version of the daemon's program; from a peer, shortened and escaped.
    pub version: String,
    /// Names of the pairing protocols in which the code is not sent; empty if the daemon supports none.
    pub pairing: Vec<String>,
}

/// Encodes the reply to `pair.probe`.
pub fn probed_line(id: &Id, probed: &Probed, protocols: &[&str]) -> String {
    let Probed { daemon_id, name, waiting, version, pairing } = probed;
    let result = json!({
        "daemon_id": daemon_id, "name": name, "pairing": pairing, "protocols": protocols, "version": version, "waiting": waiting,
    });
    result_line(id, &result)
}

/// Encodes the reply to `pair.request`.
pub fn paired_line(id: &Id, token: &Token, daemon_id: &str, name: &str) -> String {
    result_line(id, &json!({"daemon_id": daemon_id, "name": name, "status": "paired", "token": token.reveal()}))
}

/// Encodes the reply to `pair.begin`.
pub fn begun_line(id: &Id, message: &str) -> String {
    result_line(id, &json!({"msg": message}))
}

/// Encodes the reply to `pair.confirm`.
pub fn confirmed_line(id: &Id, confirmation: &str, sealed: &str, daemon_id: &str, name: &str) -> String {
    let result =
        json!({"daemon_id": daemon_id, "mac": confirmation, "name": name, "sealed_token": sealed, "status": "paired"});
    result_line(id, &result)
}

/// Encodes the reply to `sync.peer_info`: Go's two fields first, then our additions.
pub fn info_line(id: &Id, info: &Info) -> String {
    let mut result =
        format!(r#"{{"daemon_id":{},"name":{}"#, Value::from(info.daemon_id.as_str()), Value::from(info.name.as_str()));
    let added = [
        ("heads", info.heads.as_ref().map(|heads| json!(heads))),
        ("latest", info.latest.map(Value::from)),
        ("log_id", info.log.as_deref().map(Value::from)),
        ("projection", info.projection.map(|sum| json!(sum))),
        ("purge_waits", info.purge_waits.then_some(Value::Bool(true))),
        ("protocols", Some(json!(info.protocols)).filter(|_| !info.protocols.is_empty())),
        ("time", info.time.map(|time| json!(time))),
        ("version", info.version.as_deref().map(Value::from)),
    ];
    for (name, value) in added {
        if let Some(value) = value {
            result.push_str(&format!(",\"{name}\":{value}"));
        }
    }
    result.push('}');
    escape_html(&format!(r#"{{"jsonrpc":"2.0","result":{result}{}"#, end(id)))
}

/// Encodes the reply to `sync.pull` and `sync.fetch`. Events are served as stored, with our sequence spliced in and the
/// envelope beside them. Of a reference there are id, sequence and digest.
pub fn pull_line(id: &Id, page: &Page, log: &str) -> String {
    let bodies: usize = page.rows.iter().map(|row| row.body.len() + 512).sum();
    let mut line = String::with_capacity(bodies + 256);
    line.push_str(r#"{"jsonrpc":"2.0","result":{"events":["#);
    for (n, row) in page.rows.iter().enumerate() {
        if n > 0 {
            line.push(',');
        }
        let text = |text: &str| Value::from(text).to_string();
        if let Some(digest) = &row.reference {
            let (id, sequence) = (text(&row.id), row.sequence);
            line.push_str(&format!(r#"{{"event_id":{id},"sequence":{sequence},"reference":"{digest}"}}"#));
            continue;
        }
        line.push_str(&format!(
            r#"{{"event_id":{},"sequence":{},"type":{},"timestamp":{},"origin_daemon":{},"event_json":"#,
            text(&row.id),
            row.sequence,
            text(&row.kind),
            text(&timestamp_of(&row.body)),
            text(&row.origin),
        ));
        line.push_str(&row.event_json());
        line.push('}');
    }
    let next = page.rows.last().map_or(0, |row| row.sequence);
    line.push_str(&format!(
        r#"],"next_sequence":{next},"more_available":{},"log_id":{}}}"#,
        page.more,
        Value::from(log)
    ));
    line.push_str(&end(id));
    line
}

/// Returns the event's own timestamp text. The envelope must repeat it, because Go applies the envelope over the event.
fn timestamp_of(body: &str) -> String {
    #[derive(Deserialize)]
    struct Time {
        #[serde(default)]
        timestamp: Value,
    }
    match serde_json::from_str(body) {
        Ok(Time { timestamp: Value::String(text) }) => text,
        _ => String::new(),
    }
}

/// Reads the reply to `sync.notify`, `sync.differs`, `sync.lend` or `sync.goodbye`.
///
/// # Errors
/// [`BadReply`] unless the line is a result.
pub fn read_notified(line: &[u8], asked: u64) -> Result<(), BadReply> {
    result(line, asked).map(drop)
}

/// Reads the reply to `sync.prove`.
///
/// # Errors
/// [`BadReply`] unless the line is a result.
pub fn read_proved(line: &[u8], asked: u64) -> Result<(), BadReply> {
    result(line, asked).map(drop)
}

/// Reads the reply to `sync.encrypt`: the message.
///
/// # Errors
/// [`BadReply`] unless the result contains a message. An older daemon and a legacy peer return an unknown-method error.
pub fn read_encrypted(line: &[u8], asked: u64) -> Result<String, BadReply> {
    #[derive(Deserialize)]
    struct Wire {
        message: String,
    }
    decode(line, asked).map(|Wire { message }| message)
}

/// Reads the reply to `sync.hello`.
///
/// # Errors
/// [`BadReply`] unless the result has the three strings and the challenge is valid. A daemon without a key returns an
/// error.
pub fn read_hello(line: &[u8], asked: u64) -> Result<Hello, BadReply> {
    #[derive(Deserialize)]
    struct Wire {
        daemon_id: String,
        signature: String,
        challenge: String,
        #[serde(default)]
        instance: Value,
    }
    let Wire { daemon_id, signature, challenge, instance } = decode(line, asked)?;
    if !super::is_challenge(&challenge) {
        return Err(BadReply::Result("a challenge that is none".into()));
    }
    // Ignore an invalid instance; it is no reason to refuse the peer.
    let instance = instance.as_str().filter(|instance| super::is_instance(instance)).map(str::to_owned);
    Ok(Hello { daemon_id, signature, challenge, instance })
}

/// Reads the reply to `pair.probe`.
///
/// # Errors
/// [`BadReply`] unless the fields of the result have the right types and the id has at most
/// [`limits::MAX_FOREIGN_ID_BYTES`]. Go returns `method not found`.
pub fn read_probed(line: &[u8], asked: u64) -> Result<Probed, BadReply> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(default)]
        daemon_id: String,
        #[serde(default)]
        name: String,
        waiting: bool,
        #[serde(default)]
        version: String,
        #[serde(default)]
        pairing: Vec<String>,
    }
    let Wire { daemon_id, name, waiting, version, pairing } = decode(line, asked)?;
    if daemon_id.len() > limits::MAX_FOREIGN_ID_BYTES {
        return Err(BadReply::Result("a daemon_id that is too long".into()));
    }
    Ok(Probed { daemon_id, name: shown(&name), waiting, version: shown(&version), pairing })
}

/// Reads the reply to `sync.peer_info`.
///
/// # Errors
/// [`BadReply`] unless the fields of the result have the right types, and each id and the version have at most
/// [`limits::MAX_FOREIGN_ID_BYTES`].
pub fn read_info(line: &[u8], asked: u64) -> Result<Info, BadReply> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(default)]
        daemon_id: String,
        #[serde(default)]
        name: String,
        version: Option<String>,
        #[serde(default)]
        protocols: Option<Vec<String>>,
        log_id: Option<String>,
        heads: Option<Heads>,
        latest: Option<u64>,
        time: Option<Timestamp>,
        projection: Option<SetDigest>,
        #[serde(default)]
        purge_waits: bool,
    }
    let wire: Wire = decode(line, asked)?;
    for id in [Some(&wire.daemon_id), wire.log_id.as_ref(), wire.version.as_ref()].into_iter().flatten() {
        if id.len() > limits::MAX_FOREIGN_ID_BYTES {
            return Err(BadReply::Result(format!("an id of more than {} bytes", limits::MAX_FOREIGN_ID_BYTES)));
        }
    }
    Ok(Info {
        daemon_id: wire.daemon_id,
        name: wire.name,
        version: wire.version.as_deref().map(shown),
        protocols: wire.protocols.unwrap_or_default(),
        log: wire.log_id.filter(|log| !log.is_empty()),
        heads: wire.heads,
        latest: wire.latest,
        time: wire.time,
        projection: wire.projection,
        purge_waits: wire.purge_waits,
    })
}

/// Reads the reply to `sync.pull` or `sync.fetch`. Events of any shape pass, because each is validated later; only
/// `sequence` must be an integer.
///
/// # Errors
/// [`BadReply`] unless the fields of the result have the right types, each event is an object with a `sequence`, and
/// the log id has at most [`limits::MAX_FOREIGN_ID_BYTES`].
pub fn read_pulled(line: &[u8], asked: u64) -> Result<Pulled, BadReply> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(default, borrow)]
        events: Option<Vec<WireServed<'a>>>,
        #[serde(default)]
        next_sequence: i64,
        #[serde(default)]
        more_available: bool,
        log_id: Option<String>,
    }
    #[derive(Deserialize)]
    struct WireServed<'a> {
        sequence: i64,
        #[serde(default)]
        event_id: Text,
        #[serde(default, rename = "type")]
        kind: Text,
        #[serde(default)]
        timestamp: Text,
        #[serde(default)]
        origin_daemon: Text,
        #[serde(default, borrow)]
        event_json: Option<&'a RawValue>,
        #[serde(default)]
        reference: Text,
    }
    let wire: Wire<'_> = decode(line, asked)?;
    if wire.log_id.as_ref().is_some_and(|log| log.len() > limits::MAX_FOREIGN_ID_BYTES) {
        return Err(BadReply::Result("a log_id that is too long".into()));
    }
    let served = |event: WireServed<'_>| Served {
        sequence: event.sequence,
        envelope: [event.event_id.0, event.kind.0, event.timestamp.0, event.origin_daemon.0],
        event_json: match event.event_json {
            _ if event.reference.0.is_some() => String::new(),
            Some(json) => json.get().to_owned(),
            None => "null".to_owned(),
        },
        reference: event.reference.0,
    };
    Ok(Pulled {
        events: wire.events.unwrap_or_default().into_iter().map(served).collect(),
        next: wire.next_sequence,
        more: wire.more_available,
        log: wire.log_id.filter(|log| !log.is_empty()),
    })
}

/// Identifies a single event that was too long to be read, from the beginning of the reply to `sync.pull`. Returns
/// `None` unless the envelope precedes the event in the reply, as in those of Go Thrum.
pub fn read_cut(beginning: &[u8]) -> Option<Pulled> {
    const EVENTS: &str = r#""events":[{"#;
    // Maximum length of the part before the event itself: ids, a type and a timestamp.
    const BEGINNING: usize = 64 << 10;
    // Cannot match within a string, where the quotes would be escaped.
    const BODY: &str = r#","event_json":"#;
    let text = String::from_utf8_lossy(&beginning[..beginning.len().min(BEGINNING)]);
    let from = text.find(EVENTS)? + EVENTS.len();
    let fields = &text[from..from + text[from..].find(BODY)?];
    let envelope: Map<String, Value> = serde_json::from_str(&format!("{{{fields}}}")).ok()?;
    let sequence = envelope.get("sequence")?.as_i64()?;
    let text =
        |name: &str| envelope.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let served = Served { sequence, envelope: Served::ENVELOPE.map(text), event_json: String::new(), reference: None };
    Some(Pulled { events: vec![served], next: sequence, more: true, log: None })
}

/// A non-empty JSON string; `None` for any other JSON.
#[derive(Default)]
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str::<String>(raw.get()).ok().filter(|text| !text.is_empty())))
    }
}

/// Reads the reply to `pair.request`.
///
/// # Errors
/// [`BadReply`] unless the status is `paired`, the token has 64 hex digits, and the id is not empty and has at most
/// [`limits::MAX_FOREIGN_ID_BYTES`].
pub fn read_paired(line: &[u8], asked: u64) -> Result<Paired, BadReply> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(default)]
        status: String,
        #[serde(default)]
        daemon_id: String,
        #[serde(default)]
        name: String,
        token: Token,
    }
    let wire: Wire = decode(line, asked)?;
    if wire.status != "paired" {
        return Err(BadReply::Result(format!("status is {:?}", shown(&wire.status))));
    }
    if wire.daemon_id.is_empty() || wire.daemon_id.len() > limits::MAX_FOREIGN_ID_BYTES {
        return Err(BadReply::Result("no usable daemon_id".into()));
    }
    Ok(Paired { token: wire.token, daemon_id: wire.daemon_id, name: wire.name })
}

/// Reads the reply to `pair.begin`: the listener's message, in hex; unchecked.
///
/// # Errors
/// [`BadReply`] unless the result contains a message.
pub fn read_begun(line: &[u8], asked: u64) -> Result<String, BadReply> {
    #[derive(Deserialize)]
    struct Wire {
        msg: String,
    }
    decode(line, asked).map(|Wire { msg }| msg)
}

/// Reads the reply to `pair.confirm`.
///
/// # Errors
/// [`BadReply`] unless the fields of the result have the right types.
pub fn read_confirmed(line: &[u8], asked: u64) -> Result<Confirmed, BadReply> {
    #[derive(Deserialize)]
    struct Wire {
        mac: String,
        sealed_token: String,
        #[serde(default)]
        daemon_id: String,
        #[serde(default)]
        name: String,
    }
    let Wire { mac, sealed_token, daemon_id, name } = decode(line, asked)?;
    Ok(Confirmed { confirmation: mac, sealed: sealed_token, daemon_id, name })
}
