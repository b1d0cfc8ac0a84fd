//! Reads the peers of a Go Thrum that this daemon replaces, from its `peers.json`.
//!
//! Both of its formats are supported: the object of v0.6, and the bare array of v0.5.9. Each entry is checked
//! separately, so that an unusable one does not affect the others. An existing peer stays unchanged.
//!
//! The peers know the replaced daemon by its id: they store its token under that id, and look it up when they receive a
//! notify. Therefore each entry keeps the id (`as_daemon_id`), and this daemon uses it towards them.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use thrum_core::{Timestamp, json, limits, name};

use crate::{
    Token,
    registry::Peer,
    transport::{Kind, is_address},
};

/// Go Thrum's port if its file contains none.
pub const DEFAULT_PORT: u16 = *limits::PORTS.start();

/// Version of the database schema of Go Thrum v0.6.3, the last version that speaks this wire protocol.
pub const LAST_SCHEMA: i64 = 15;

/// Content of a `peers.json` of Go Thrum.
#[derive(Debug)]
pub struct GoPeers {
    /// The Go daemon's id; `None` in a file of v0.5.9.
    pub own_id: Option<String>,
    /// The Go daemon's listening port; [`DEFAULT_PORT`] if the file contains none.
    pub port: u16,
    entries: Vec<Result<Entry, Refused>>,
}

/// An entry that may become a peer.
#[derive(Debug)]
struct Entry {
    name: String,
    address: String,
    daemon_id: String,
    token: Token,
    paired_at: Option<Timestamp>,
}

/// An entry that is not taken over, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The entry's name, if it has one.
    pub name: String,
    /// The entry's id, if it has one.
    pub daemon_id: String,
    /// The entry's address, if it has one.
    pub address: String,
    /// The reason, for display.
    pub reason: String,
}

/// Decision about an entry.
#[derive(Debug)]
pub enum ImportDecision {
    /// A new peer. Its name may still get a suffix.
    New(Box<Peer>),
    /// Already a peer here, with this name; it stays unchanged.
    Known(Refused),
    /// Not usable as a peer.
    Refused(Refused),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    local: Option<Local>,
    #[serde(default, deserialize_with = "nullable")]
    peers: Vec<Value>,
}

#[derive(Default, Deserialize)]
struct Local {
    #[serde(default)]
    daemon_id: String,
    #[serde(default)]
    port: u16,
}

fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Value>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl GoPeers {
    /// Parses the file.
    ///
    /// # Errors
    /// A description of what is wrong with the file as a whole, without any of its content.
    pub fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let object = zeroize::Zeroizing::new(if text.starts_with('[') {
            format!("{{\"peers\":{text}}}")
        } else {
            text.to_owned()
        });
        let fields = json::parse_object(&object).map_err(|error| error.to_string())?;
        let raw: Raw = serde_json::from_value(Value::Object(fields))
            .map_err(|_| "it has not the shape of a peers.json".to_owned())?;
        if raw.peers.len() > limits::MAX_PEERS {
            return Err(format!("it names {} peers, more than {}", raw.peers.len(), limits::MAX_PEERS));
        }
        let local = raw.local.unwrap_or_default();
        let mut entries: Vec<Result<Entry, Refused>> = raw.peers.iter().map(entry).collect();
        refuse_doubles(&mut entries);
        let port = if local.port == 0 { DEFAULT_PORT } else { local.port };
        Ok(Self { own_id: Some(local.daemon_id).filter(|id| !id.is_empty()), port, entries })
    }

    /// Returns `true` if the file contains no peers.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns `true` if any of the peers may use the tailnet.
    pub fn want_tailnet(&self) -> bool {
        self.entries.iter().flatten().any(|entry| Kind::of_address(&entry.address) == Kind::Tailnet)
    }

    /// Decides about each entry. `own` are all ids of this daemon, `known_as` is the id by which the peers know it, and
    /// `present` are its existing peers.
    pub fn classify(self, own: &[String], known_as: &str, present: &[Peer]) -> Vec<ImportDecision> {
        self.entries
            .into_iter()
            .map(|entry| entry.map_or_else(ImportDecision::Refused, |entry| entry.classify(own, known_as, present)))
            .collect()
    }
}

impl Entry {
    fn classify(self, own: &[String], known_as: &str, present: &[Peer]) -> ImportDecision {
        if let Some(known) = present.iter().find(|peer| peer.daemon_id == self.daemon_id) {
            return ImportDecision::Known(Refused {
                name: known.name.clone(),
                ..self.because("it is a peer here already")
            });
        }
        if own.contains(&self.daemon_id) || self.daemon_id == known_as {
            return ImportDecision::Refused(self.because(
                "it has the same id as the daemon it was paired with: two machines of one name; pair it anew",
            ));
        }
        let has_token = |peer: &&Peer| peer.token.as_ref().is_some_and(|token| token.matches(self.token.reveal()));
        if let Some(other) = present.iter().find(has_token) {
            let reason = format!("its token is that of {}; pair it anew", other.name);
            return ImportDecision::Refused(self.because(&reason));
        }
        let Self { name, address, daemon_id, token, paired_at } = self;
        ImportDecision::New(Box::new(Peer::taken_over(name, address, daemon_id, token, paired_at, known_as.to_owned())))
    }

    fn because(&self, reason: &str) -> Refused {
        let [name, daemon_id, address] = [&self.name, &self.daemon_id, &self.address].map(Clone::clone);
        Refused { name, daemon_id, address, reason: reason.to_owned() }
    }
}

fn entry(value: &Value) -> Result<Entry, Refused> {
    let nothing = Map::new();
    let fields = value.as_object().unwrap_or(&nothing);
    let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
    // Untrusted texts, for display.
    let shown = |key: &str| name::printable(&text(key)[..text(key).floor_char_boundary(limits::MAX_FOREIGN_ID_BYTES)]);
    let refuse = |reason: &str| {
        Err(Refused {
            name: shown("name"),
            daemon_id: shown("daemon_id"),
            address: shown("address"),
            reason: reason.to_owned(),
        })
    };
    let daemon_id = text("daemon_id");
    if daemon_id.is_empty() || daemon_id.len() > limits::MAX_FOREIGN_ID_BYTES {
        return refuse("it has no usable daemon_id");
    }
    if !is_address(text("address")) {
        return refuse("its address is not HOST:PORT; pair it anew");
    }
    let Some(token) = Token::parse(text("token")) else {
        let reason = if text("token").is_empty() {
            "it has no token; pair it anew"
        } else {
            "its token is not 64 hex digits; pair it anew"
        };
        return refuse(reason);
    };
    let name = if text("name").is_empty() { shown("daemon_id") } else { shown("name") };
    let name = name.chars().take(limits::MAX_PEER_NAME_CHARS - 8).collect();
    let (address, daemon_id) = (text("address").to_owned(), daemon_id.to_owned());
    Ok(Entry { name, address, daemon_id, token, paired_at: Timestamp::parse(text("paired_at")) })
}

/// Refuses all but the last of several entries with the same id, as Go does, or with the same token: two peers with one
/// token would be taken for each other.
fn refuse_doubles(entries: &mut [Result<Entry, Refused>]) {
    let double = |n: usize| {
        let entry = entries[n].as_ref().ok()?;
        let mut later = entries[n + 1..].iter().flatten();
        if later.clone().any(|other| other.daemon_id == entry.daemon_id) {
            Some(entry.because("the same daemon is in the file again, further down"))
        } else if later.any(|other| other.token.matches(entry.token.reveal())) {
            Some(entry.because("another peer in the file has the same token; pair it anew"))
        } else {
            None
        }
    };
    let doubles: Vec<(usize, Refused)> = (0..entries.len()).filter_map(|n| Some((n, double(n)?))).collect();
    for (n, refused) in doubles {
        entries[n] = Err(refused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    fn peer(id: &str, digit: char) -> Value {
        json!({"name": format!("name of {id}"), "address": "100.64.2.10:9100", "daemon_id": id, "token": token(digit),
               "paired_at": "2026-03-28T10:05:13.899-07:00", "last_sync": "2026-03-28T10:09:44.962-07:00"})
    }

    /// Returns the new peers, and the reasons for the other entries.
    fn import(text: &str, present: &[Peer]) -> (Vec<Peer>, Vec<String>) {
        let (mut new, mut others) = (Vec::new(), Vec::new());
        let own = ["d_me".to_owned(), "d_go".to_owned()];
        for decision in GoPeers::read(text).unwrap().classify(&own, "d_go", present) {
            match decision {
                ImportDecision::New(peer) => new.push(*peer),
                ImportDecision::Known(other) | ImportDecision::Refused(other) => {
                    others.push(format!("{}: {}", other.daemon_id, other.reason))
                }
            }
        }
        (new, others)
    }

    #[test]
    fn both_of_gos_shapes_are_read() {
        let object = json!({"local": {"daemon_id": "d_go", "port": 9147}, "peers": [peer("d_1", '1')]}).to_string();
        let array = json!([peer("d_1", '1')]).to_string();
        for (text, own_id, port) in [(&object, Some("d_go"), 9147), (&array, None, 9100)] {
            let read = GoPeers::read(text).unwrap();
            assert_eq!((read.own_id.as_deref(), read.port, read.want_tailnet()), (own_id, port, true));
            let (new, others) = import(text, &[]);
            assert_eq!(others, Vec::<String>::new());
            assert_eq!(
                (new[0].daemon_id.as_str(), new[0].name.as_str(), new[0].address.as_str()),
                ("d_1", "name of d_1", "100.64.2.10:9100")
            );
            assert!(new[0].token.as_ref().is_some_and(|known| known.matches(&token('1'))));
            assert_eq!((new[0].as_daemon_id.as_deref(), new[0].token_used), (Some("d_go"), true));
            assert_eq!(new[0].paired_at, Timestamp::parse("2026-03-28T17:05:13.899Z"));
        }
        for empty in ["[]", "{}", r#"{"local":{"daemon_id":"d_go"},"peers":null}"#] {
            assert_eq!(import(empty, &[]).0.len(), 0, "{empty}");
        }
    }

    #[test]
    fn a_bad_entry_is_named_with_its_reason_and_the_others_are_taken() {
        let without = |key: &str, id: &str| {
            let mut peer = peer(id, 'a');
            peer.as_object_mut().unwrap().remove(key);
            peer
        };
        let with = |key: &str, value: Value, id: &str| {
            let mut peer = peer(id, 'b');
            peer[key] = value;
            peer
        };
        let file = json!([
            7,
            peer("d_1", '1'),
            without("token", "d_2"),
            with("token", json!("secret"), "d_3"),
            with("token", json!(7), "d_4"),
            with("address", json!("nowhere"), "d_5"),
            peer("d_me", '6'),
            peer("d_go", '7'),
            peer("d_8", '8'),
            peer("d_8", '9'),
            peer("d_9", '9'),
            without("daemon_id", ""),
        ]);
        let (new, others) = import(&file.to_string(), &[]);
        assert_eq!(new.iter().map(|peer| peer.daemon_id.as_str()).collect::<Vec<_>>(), ["d_1", "d_9"]);
        assert_eq!(
            others,
            [
                ": it has no usable daemon_id",
                "d_2: it has no token; pair it anew",
                "d_3: its token is not 64 hex digits; pair it anew",
                "d_4: it has no token; pair it anew",
                "d_5: its address is not HOST:PORT; pair it anew",
                "d_me: it has the same id as the daemon it was paired with: two machines of one name; pair it anew",
                "d_go: it has the same id as the daemon it was paired with: two machines of one name; pair it anew",
                "d_8: the same daemon is in the file again, further down",
                "d_8: another peer in the file has the same token; pair it anew",
                ": it has no usable daemon_id",
            ]
        );
        assert!(!others.concat().contains("secret"));
    }

    #[test]
    fn an_existing_peer_is_not_changed_by_an_import() {
        let (present, _) = import(&json!([peer("d_1", '1')]).to_string(), &[]);
        let (new, others) = import(&json!([peer("d_1", '2'), peer("d_2", '1')]).to_string(), &present);
        assert_eq!(new.len(), 0);
        assert_eq!(others, ["d_1: it is a peer here already", "d_2: its token is that of name of d_1; pair it anew"]);
    }

    #[test]
    fn an_invalid_peers_json_is_reported_without_its_content() {
        for text in ["", "null", "7", "{\"peers\":7}", "[", r#"{"local":"x"}"#] {
            assert!(GoPeers::read(text).is_err(), "{text}");
        }
        let many: Vec<Value> = (0..=limits::MAX_PEERS).map(|n| peer(&format!("d_{n}"), '1')).collect();
        assert!(GoPeers::read(&json!(many).to_string()).unwrap_err().contains("more than"));
    }
}
