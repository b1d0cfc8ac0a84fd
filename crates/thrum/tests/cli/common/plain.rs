//! A scripted peer that speaks Go Thrum's protocol: it pairs by sending the code (plain pairing) and serves the events
//! that a test gives it.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::TestRepo;

/// Most bytes of events in one reply to a pull.
const ANSWER: usize = 2 << 20;

/// Longest time to wait for an expected state, on a machine that other builds keep busy.
pub(crate) const WAIT: Duration = Duration::from_secs(240);

/// Polls `found` until it returns `true`. Fails after [`WAIT`]. The daemon reads its peers in the background, so
/// effects come with a delay.
pub(crate) fn until(mut found: impl FnMut() -> bool) {
    let end = Instant::now() + WAIT;
    while !found() {
        assert!(Instant::now() < end, "it did not come");
        thread::sleep(Duration::from_millis(100));
    }
}

/// A scripted peer. Its threads end with the test.
pub(crate) struct PlainPeer {
    /// The events that the peer serves, each with its size as JSON.
    log: Arc<Mutex<Vec<(Value, usize)>>>,
    address: String,
    token: Value,
    id: String,
}

impl PlainPeer {
    /// Pairs a peer called `name` with the daemon of `repo`, which then pulls from it.
    pub(crate) fn join(repo: &TestRepo, name: &str) -> Self {
        let mut adding = repo.begin(&["peer", "add", "--via", "local", "--json"]);
        let shown: Value = serde_json::from_str(&adding.line()).unwrap();
        let address = shown["address"].as_str().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let id = format!("d_{name}");
        let (served, me) = (Arc::clone(&log), json!({"daemon_id": id, "name": name}));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (served, me) = (Arc::clone(&served), me.clone());
                thread::spawn(move || serve(stream, &served, &me));
            }
        });
        let params = json!({"code": shown["code"], "daemon_id": id, "name": name, "address": own});
        let token = ask(&address, "pair.request", &params)["result"]["token"].clone();
        assert!(token.is_string(), "{token}");
        drop(adding);
        Self { log, address, token, id }
    }

    /// Adds events to those that the peer serves, and announces them. Each event is a type with its payload; missing
    /// fields get default values.
    pub(crate) fn serve(&self, events: impl IntoIterator<Item = (&'static str, Value)>) {
        let latest = self.prepare(events);
        let notify = json!({"token": self.token, "daemon_id": self.id, "latest_seq": latest, "event_count": 1});
        assert_eq!(ask(&self.address, "sync.notify", &notify)["result"]["status"], "ok");
    }

    /// Adds events to those that the peer serves without announcing them, for a daemon that pulls by itself. Returns
    /// the total number of events.
    pub(crate) fn prepare(&self, events: impl IntoIterator<Item = (&'static str, Value)>) -> usize {
        let mut log = self.log.lock().unwrap();
        for (kind, mut event) in events {
            let number = log.len() + 1;
            let fields = event.as_object_mut().unwrap();
            for (field, value) in [
                ("event_id", json!(format!("evt_{}_{number}", self.id))),
                ("type", json!(kind)),
                ("timestamp", json!("2026-03-28T17:05:13Z")),
                ("v", json!(1)),
            ] {
                fields.entry(field).or_insert(value);
            }
            fields.entry("origin_daemon").or_insert(json!(self.id));
            let bytes = event.to_string().len();
            log.push((event, bytes));
        }
        log.len()
    }
}

fn ask(address: &str, method: &str, params: &Value) -> Value {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut reader = BufReader::new(stream);
    let line = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
    reader.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut reply = String::new();
    reader.read_line(&mut reply).unwrap();
    serde_json::from_str(&reply).unwrap_or(Value::Null)
}

fn serve(stream: TcpStream, log: &Mutex<Vec<(Value, usize)>>, me: &Value) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
        let request: Value = serde_json::from_str(&line).unwrap_or_default();
        let result = match request["method"].as_str() {
            Some("sync.peer_info") => me.clone(),
            Some("sync.pull") => pull(&log.lock().unwrap(), &request["params"]),
            _ => json!({"status": "ok"}),
        };
        let answer = json!({"jsonrpc": "2.0", "result": result, "id": request["id"]});
        if reader.get_mut().write_all(format!("{answer}\n").as_bytes()).is_err() {
            return;
        }
        line.clear();
    }
}

fn pull(log: &[(Value, usize)], params: &Value) -> Value {
    let after =
        params["after_sequence"].as_u64().and_then(|after| usize::try_from(after).ok()).unwrap_or(0).min(log.len());
    let most = params["max_batch"]
        .as_u64()
        .and_then(|most| usize::try_from(most).ok())
        .filter(|most| *most > 0)
        .unwrap_or(1000);
    let mut bytes = 0;
    let mut events = Vec::new();
    for (index, (event, size)) in log.iter().enumerate().skip(after).take(most) {
        bytes += size;
        if bytes > ANSWER && !events.is_empty() {
            break;
        }
        let [id, kind, timestamp, origin] =
            ["event_id", "type", "timestamp", "origin_daemon"].map(|field| event[field].clone());
        events.push(
            json!({"sequence": index + 1, "event_id": id, "type": kind, "timestamp": timestamp, "origin_daemon": origin,
            "event_json": event}),
        );
    }
    let next = after + events.len();
    json!({"events": events, "next_sequence": next, "more_available": next < log.len()})
}
