//! A scripted peer for `bench --abuse` that speaks as Go Thrum does and serves a prepared log.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, limits};

use super::work::Daemon;
use crate::answers::Pairing;

const ID: &str = "d_hostile";

/// One event as it is served.
struct Served {
    /// The members of the JSON object around the event that repeat fields of the event, with the closing brace.
    envelope: String,
    /// The event as JSON.
    text: String,
}

/// The events that the peer serves, in order.
#[derive(Default)]
pub(super) struct Log(Vec<Served>);

impl Log {
    /// Adds an event with a type and a payload; `second` sets its timestamp.
    pub(super) fn add(&mut self, kind: &str, second: usize, mut payload: Value) {
        let id = format!("evt_{}", self.0.len());
        let timestamp = format!(
            "2026-01-{:02}T{:02}:{:02}:{:02}Z",
            1 + second / 86_400 % 28,
            second / 3600 % 24,
            second / 60 % 60,
            second % 60
        );
        let envelope = json!({"event_id": id, "type": kind, "timestamp": timestamp, "origin_daemon": ID});
        if let (Some(fields), Some(repeated)) = (payload.as_object_mut(), envelope.as_object()) {
            fields.extend(repeated.clone());
        }
        let envelope = envelope.to_string();
        self.0.push(Served { envelope: envelope.trim_start_matches('{').to_owned(), text: payload.to_string() });
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the result of a pull.
    fn pull(&self, params: &Value) -> String {
        let number = |name: &str| params[name].as_u64().and_then(|number| usize::try_from(number).ok());
        let after = number("after_sequence").unwrap_or(0).min(self.0.len());
        let most = number("max_batch").filter(|most| *most > 0).unwrap_or(limits::MAX_BATCH_EVENTS);
        let mut events = String::new();
        let mut next = after;
        for (index, Served { envelope, text }) in self.0.iter().enumerate().skip(after).take(most) {
            if next > after && events.len() + text.len() > limits::MAX_BATCH_BYTES {
                break;
            }
            next = index + 1;
            let comma = if events.is_empty() { "" } else { "," };
            events.push_str(&format!("{comma}{{\"sequence\":{next},\"event_json\":{text},{envelope}"));
        }
        format!("{{\"events\":[{events}],\"next_sequence\":{next},\"more_available\":{}}}", next < self.0.len())
    }
}

/// Starts a peer that serves `log`, pairs it with a daemon, and announces the log's events to the daemon. The peer's
/// threads end with the process.
pub(super) fn join(daemon: &impl Daemon, log: Log) -> Result<(), Error> {
    let cannot =
        |error: std::io::Error| Error::new(ErrorKind::Failed, format!("the hostile peer cannot be played: {error}"));
    let mut inviting = daemon.connect()?;
    let pairing: Pairing = inviting.call("peer.start_pairing", json!({"transport": "local"}))?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(cannot)?;
    let own = listener.local_addr().map_err(cannot)?.to_string();
    let latest = log.len();
    let log = Arc::new(log);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = Arc::clone(&log);
            thread::spawn(move || serve(stream, &log));
        }
    });
    let joined = ask(
        &pairing.address,
        "pair.request",
        &json!({"code": pairing.code, "daemon_id": ID, "name": "hostile", "address": own}),
    );
    let joined = joined.map_err(cannot)?;
    let token = &joined["result"]["token"];
    if !token.is_string() {
        return Err(Error::new(ErrorKind::Failed, format!("the hostile peer was not taken: {joined}")));
    }
    let notify = json!({"token": token, "daemon_id": ID, "latest_seq": latest, "event_count": latest});
    ask(&pairing.address, "sync.notify", &notify).map_err(cannot)?;
    Ok(())
}

fn ask(address: &str, method: &str, params: &Value) -> std::io::Result<Value> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(limits::PAIR))?;
    let mut reader = BufReader::new(stream);
    let line = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
    reader.get_mut().write_all(format!("{line}\n").as_bytes())?;
    let mut reply = String::new();
    reader.read_line(&mut reply)?;
    Ok(serde_json::from_str(&reply).unwrap_or_default())
}

fn serve(stream: TcpStream, log: &Log) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
        let request: Value = serde_json::from_str(&line).unwrap_or_default();
        let result = match request["method"].as_str() {
            Some("sync.peer_info") => json!({"daemon_id": ID, "name": "hostile"}).to_string(),
            Some("sync.pull") => log.pull(&request["params"]),
            _ => json!({"status": "ok"}).to_string(),
        };
        let answer = format!("{{\"jsonrpc\":\"2.0\",\"result\":{result},\"id\":{}}}\n", request["id"]);
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
        line.clear();
    }
}
