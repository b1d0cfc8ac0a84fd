//! Replies: written to peers, read from peers.

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use thrum_core::{
    Heads, Stamp, Sum,
    compare::{Listing, Numbers},
    exchange::Page,
    limits,
};

use super::{Asked, BadReply, Call, Id, RpcError, compare, go::escape_html};
use crate::Token;

/// What `sync.peer_info` says of a daemon. Go's says only the first two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Its id.
    pub daemon_id: String,
    /// Its name.
    pub name: String,
    /// Its program's version.
    pub version: Option<String>,
    /// The protocols it speaks, by name.
    pub protocols: Vec<String>,
    /// Its log's id. Who has none is an old peer.
    pub log: Option<String>,
    /// What it holds.
    pub heads: Option<Heads>,
    /// Its highest sequence.
    pub latest: Option<u64>,
    /// Its clock.
    pub time: Option<Stamp>,
    /// The digest of its projection, if asked for.
    pub projection: Option<Sum>,
    /// Whether a purge lies in the future there; said with the digest.
    pub purge_waits: bool,
}

/// What `sync.pull` brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    /// In the order served.
    pub events: Vec<Served>,
    /// Where to go on, as the peer says; 0 when `events` is empty.
    pub next: i64,
    /// Whether the peer has more.
    pub more: bool,
    /// The log that was served; `None` from old peers.
    pub log: Option<String>,
}

/// One event as served: the envelope's texts, where they are texts, and the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The server's number for it.
    pub sequence: i64,
    /// `event_id`, `type`, `timestamp`, `origin_daemon`: `None` where it is no text or empty.
    pub envelope: [Option<String>; 4],
    /// The event as JSON of whatever shape; empty if it was too long to be read.
    pub event_json: String,
}

impl Served {
    /// The keys of [`envelope`](Self::envelope), in its order.
    pub const ENVELOPE: [&str; 4] = ["event_id", "type", "timestamp", "origin_daemon"];

    /// Whether it was too long to be read.
    pub fn is_unread(&self) -> bool {
        self.event_json.is_empty()
    }
}

/// What one of our calls brought.
#[derive(Debug)]
pub enum Reply {
    /// `sync.peer_info`
    Info(Box<Info>),
    /// `sync.pull`, `sync.fetch`
    Pulled(Pulled),
    /// `sync.notify`, `sync.differs`
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
    /// Anything that is not this method's result, for the request `asked`.
    pub fn read(&self, line: &[u8], asked: u64) -> Result<Reply, BadReply> {
        match self {
            Self::PeerInfo { .. } => read_info(line, asked).map(|info| Reply::Info(Box::new(info))),
            Self::Pull(_) => read_pulled(line, asked).map(Reply::Pulled),
            Self::Notify { .. } | Self::Differs => read_notified(line, asked).map(|()| Reply::Notified),
            Self::About(about) => match &about.asked {
                Asked::Numbers(after) => compare::read_numbers(line, asked, *after).map(Reply::Numbers),
                Asked::Listing(after, upto) => compare::read_listing(line, asked, after, upto).map(Reply::Listing),
                Asked::Events(_) => read_pulled(line, asked).map(Reply::Pulled),
            },
        }
    }
}

/// What `pair.request` brought.
#[derive(Debug)]
pub struct Paired {
    /// The secret of this pairing.
    pub token: Token,
    /// Who we are paired with.
    pub daemon_id: String,
    /// Its name, unchecked.
    pub name: String,
}

/// What `pair.confirm` brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The listener's confirmation, in hex; unchecked.
    pub confirmation: String,
    /// The secret of this pairing, sealed, in hex.
    pub sealed: String,
    /// Who says so.
    pub daemon_id: String,
    /// Its name, unchecked.
    pub name: String,
}

fn end(id: &Id) -> String {
    id.as_ref().map_or_else(|| "}".to_owned(), |id| format!(",\"id\":{}}}", id.get()))
}

pub(super) fn result_line(id: &Id, result: &Value) -> String {
    escape_html(&format!(r#"{{"jsonrpc":"2.0","result":{result}{}"#, end(id)))
}

/// The reply that carries an error.
pub fn error_line(id: &Id, error: &RpcError) -> String {
    let message = Value::from(error.message.as_str());
    let data = error.data.as_ref().map_or_else(String::new, |data| format!(",\"data\":{data}"));
    escape_html(&format!(r#"{{"jsonrpc":"2.0","error":{{"code":{},"message":{message}{data}}}{}"#, error.code, end(id)))
}

/// The reply to `sync.notify`.
pub fn notified_line(id: &Id) -> String {
    result_line(id, &json!({"status": "ok"}))
}

/// Adds to a result that we cannot dial the peer that asks, so that it lends us a connection. Errors stay as they are.
pub fn add_unreached(line: &str) -> String {
    const RESULT: &str = r#"{"jsonrpc":"2.0","result":{"#;
    match line.strip_prefix(RESULT) {
        Some(rest) => format!("{RESULT}\"unreached\":true{}{rest}", if rest.starts_with('}') { "" } else { "," }),
        None => line.to_owned(),
    }
}

/// Returns `true` if a reply says that its sender cannot dial us.
pub fn is_unreached(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Wire {
        result: Flag,
    }
    #[derive(Deserialize)]
    struct Flag {
        #[serde(default)]
        unreached: bool,
    }
    serde_json::from_slice(line).is_ok_and(|Wire { result }| result.unreached)
}

/// The reply to `sync.prove`.
pub fn proved_line(id: &Id) -> String {
    result_line(id, &json!({"status": "ok"}))
}

/// What `sync.hello` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who says it.
    pub daemon_id: String,
    /// Its signature over our challenge.
    pub signature: String,
    /// What we are to sign in turn.
    pub challenge: String,
}

/// The reply to `sync.hello`.
pub fn hello_line(id: &Id, hello: &Hello) -> String {
    let Hello { daemon_id, signature, challenge } = hello;
    result_line(id, &json!({"challenge": challenge, "daemon_id": daemon_id, "signature": signature}))
}

/// What `pair.probe` says of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// Its id, unchecked.
    pub daemon_id: String,
    /// Its name, unchecked.
    pub name: String,
    /// Whether whoever asks could join it now.
    pub waiting: bool,
    /// Its program's version.
    pub version: String,
    /// How it pairs without being sent the code, by name. Nothing, where it cannot.
    pub pairing: Vec<String>,
}

/// The reply to `pair.probe`.
pub fn probed_line(id: &Id, probed: &Probed, protocols: &[&str]) -> String {
    let Probed { daemon_id, name, waiting, version, pairing } = probed;
    let result = json!({
        "daemon_id": daemon_id, "name": name, "pairing": pairing, "protocols": protocols, "version": version, "waiting": waiting,
    });
    result_line(id, &result)
}

/// The reply to `pair.request`.
pub fn paired_line(id: &Id, token: &Token, daemon_id: &str, name: &str) -> String {
    result_line(id, &json!({"daemon_id": daemon_id, "name": name, "status": "paired", "token": token.reveal()}))
}

/// The reply to `pair.begin`.
pub fn begun_line(id: &Id, message: &str) -> String {
    result_line(id, &json!({"msg": message}))
}

/// The reply to `pair.confirm`.
pub fn confirmed_line(id: &Id, confirmation: &str, sealed: &str, daemon_id: &str, name: &str) -> String {
    let result = json!({"daemon_id": daemon_id, "mac": confirmation, "name": name, "sealed_token": sealed, "status": "paired"});
    result_line(id, &result)
}

/// The reply to `sync.peer_info`. Go's two fields come first, ours after them.
pub fn info_line(id: &Id, info: &Info) -> String {
    let mut result = format!(r#"{{"daemon_id":{},"name":{}"#, Value::from(info.daemon_id.as_str()), Value::from(info.name.as_str()));
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

/// The reply to `sync.pull`: rows are served as stored, with our number spliced in and the envelope beside.
pub fn pull_line(id: &Id, page: &Page, log: &str) -> String {
    let bodies: usize = page.rows.iter().map(|row| row.body.len() + 512).sum();
    let mut line = String::with_capacity(bodies + 256);
    line.push_str(r#"{"jsonrpc":"2.0","result":{"events":["#);
    for (n, row) in page.rows.iter().enumerate() {
        if n > 0 {
            line.push(',');
        }
        let text = |text: &str| Value::from(text).to_string();
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
    line.push_str(&format!(r#"],"next_sequence":{next},"more_available":{},"log_id":{}}}"#, page.more, Value::from(log)));
    line.push_str(&end(id));
    line
}

/// The event's own text for its time: the envelope must say the same, for Go lays the envelope over the event.
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

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default, borrow)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<WireError>,
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Option<Value>,
}

fn result<'a>(line: &'a [u8], asked: u64) -> Result<&'a RawValue, BadReply> {
    let not_reply = |why: String| BadReply::NotReply(why);
    if line.starts_with(b"HTTP/") {
        return Err(BadReply::Http);
    }
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err(not_reply("not a JSON object".into()));
    }
    let envelope: Envelope<'a> = serde_json::from_slice(line).map_err(|error| not_reply(error.to_string()))?;
    // A server that could not read the request answers without an id.
    let id_is_right = match envelope.id {
        Some(id) => id.get() == asked.to_string(),
        None => envelope.error.is_some(),
    };
    if !id_is_right {
        let got = envelope.id.map_or_else(|| "without id".to_owned(), |id| shown(id.get()));
        return Err(BadReply::WrongId { got, asked });
    }
    match (envelope.error, envelope.result) {
        (Some(error), _) => Err(BadReply::Error(RpcError { code: error.code, message: shown(&error.message), data: challenge_of(error) })),
        (None, Some(result)) => Ok(result),
        (None, None) => Err(not_reply("neither result nor error".into())),
    }
}

/// Of an error's `data`, what is acted on; the rest may be anything, and as long as a line.
fn challenge_of(error: WireError) -> Option<Value> {
    let error = RpcError { code: error.code, message: String::new(), data: error.data };
    error.challenge().map(|challenge| RpcError::prove(challenge).data.unwrap_or_default())
}

/// Others' words, short and harmless enough for a log line.
fn shown(text: &str) -> String {
    let cut = text.floor_char_boundary(limits::MAX_FOREIGN_ID_BYTES);
    thrum_core::name::printable(&text[..cut])
}

pub(super) fn decode<'a, T: Deserialize<'a>>(line: &'a [u8], asked: u64) -> Result<T, BadReply> {
    serde_json::from_str(result(line, asked)?.get()).map_err(|error| BadReply::Result(error.to_string()))
}

/// Reads the reply to `sync.notify`.
///
/// # Errors
/// Anything but a result.
pub fn read_notified(line: &[u8], asked: u64) -> Result<(), BadReply> {
    result(line, asked).map(drop)
}

/// Reads the reply to `sync.prove`.
///
/// # Errors
/// Anything but a result.
pub fn read_proved(line: &[u8], asked: u64) -> Result<(), BadReply> {
    result(line, asked).map(drop)
}

/// Reads the reply to `sync.hello`.
///
/// # Errors
/// Anything but a result with three texts, one of them a challenge. Whoever has no key answers with an error.
pub fn read_hello(line: &[u8], asked: u64) -> Result<Hello, BadReply> {
    #[derive(Deserialize)]
    struct Wire {
        daemon_id: String,
        signature: String,
        challenge: String,
    }
    let Wire { daemon_id, signature, challenge } = decode(line, asked)?;
    if !super::is_challenge(&challenge) {
        return Err(BadReply::Result("a challenge that is none".into()));
    }
    Ok(Hello { daemon_id, signature, challenge })
}

/// Reads the reply to `pair.probe`.
///
/// # Errors
/// Anything but a result with fields of the right types. Go answers `method not found`.
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
/// Anything but a result with fields of the right types and ids of at most [`limits::MAX_FOREIGN_ID_BYTES`].
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
        time: Option<Stamp>,
        projection: Option<Sum>,
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

/// Reads the reply to `sync.pull`. Events of any shape pass, they are judged one by one later; only their number must be one.
///
/// # Errors
/// Anything but a result whose events are objects with a `sequence`.
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
    }
    let wire: Wire<'_> = decode(line, asked)?;
    if wire.log_id.as_ref().is_some_and(|log| log.len() > limits::MAX_FOREIGN_ID_BYTES) {
        return Err(BadReply::Result("a log_id that is too long".into()));
    }
    let served = |event: WireServed<'_>| Served {
        sequence: event.sequence,
        envelope: [event.event_id.0, event.kind.0, event.timestamp.0, event.origin_daemon.0],
        event_json: event.event_json.map_or_else(|| "null".to_owned(), |json| json.get().to_owned()),
    };
    Ok(Pulled {
        events: wire.events.unwrap_or_default().into_iter().map(served).collect(),
        next: wire.next_sequence,
        more: wire.more_available,
        log: wire.log_id.filter(|log| !log.is_empty()),
    })
}

/// Reads the beginning of a reply to `sync.pull` for one event that was too long to be read: which event it is. `None` if that is
/// not in the beginning, where Go Thrum has it.
pub fn read_cut(beginning: &[u8]) -> Option<Pulled> {
    const EVENTS: &str = r#""events":[{"#;
    // Ids, a type and a time stand before the event itself.
    const BEGINNING: usize = 64 << 10;
    // Within a text the quotes would be escaped.
    const BODY: &str = r#","event_json":"#;
    let text = String::from_utf8_lossy(&beginning[..beginning.len().min(BEGINNING)]);
    let from = text.find(EVENTS)? + EVENTS.len();
    let fields = &text[from..from + text[from..].find(BODY)?];
    let envelope: Map<String, Value> = serde_json::from_str(&format!("{{{fields}}}")).ok()?;
    let sequence = envelope.get("sequence")?.as_i64()?;
    let text = |name: &str| envelope.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let served = Served { sequence, envelope: Served::ENVELOPE.map(text), event_json: String::new() };
    Some(Pulled { events: vec![served], next: sequence, more: true, log: None })
}

/// A text, or `None` for any other JSON.
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
/// Anything but `paired` with a token of 64 hex digits and an id of at most [`limits::MAX_FOREIGN_ID_BYTES`].
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
/// Anything but a result with a message.
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
/// Anything but a result with fields of the right types.
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
