//! A model of Go Thrum v0.6.3 according to its wire facts, including its faults: sequences that become visible out of
//! order, batches that stop at an event that cannot be applied, parallel pulls, an echo of every event, a log that may
//! be lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Map, Value, json};
use thrum_core::{Ambient, Timestamp, ids::IdKind, ids::IdSource};
use thrum_sync::Token;
use thrum_sync::protocol::wire::{self, Call, Pull, Served};

use crate::{kit::World, sim::Message};

/// Messages to send, with their destinations.
type Out = Vec<(usize, Message)>;

/// Go's own limits.
const PULL: Duration = Duration::from_secs(30);
const ROUND: Duration = Duration::from_secs(15);
const RECENT: Duration = Duration::from_secs(10);
const PULLS_FOR_NOTIFIES: usize = 10;

/// A row of Go's log.
struct Row {
    event: Map<String, Value>,
    /// The row is visible from then on; its sequence was assigned before.
    visible: Duration,
    announced: bool,
}

struct Peer {
    place: usize,
    token: Token,
    checkpoint: u64,
    checkpoint_at: Option<Duration>,
}

/// A connection that the Go daemon opened.
struct Conn {
    peer: String,
    call: Call,
    id: u64,
    for_notify: bool,
    deadline: Duration,
}

/// Why a batch stops.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing was written: it stops there every time.
    ForEver,
    /// The event is in the log nevertheless, and skipped the next time.
    Once,
}

pub struct Go {
    pub id: String,
    pub place: usize,
    pub up: bool,
    rows: BTreeMap<u64, Row>,
    counter: u64,
    /// All events that were ever applied since the log began.
    pub had: BTreeSet<String>,
    messages: BTreeMap<String, Map<String, Value>>,
    /// By session: its agent and its start.
    sessions: BTreeMap<String, (String, String)>,
    cutoff: String,
    peers: BTreeMap<String, Peer>,
    conns: BTreeMap<u64, Conn>,
    visitors: BTreeSet<u64>,
    round: Duration,
    calls: u64,
    world: World,
    ids: IdSource,
    /// Number of batches that stopped at an event, by event, for statistics.
    pub stops: BTreeMap<String, usize>,
}

fn text<'a>(event: &'a Map<String, Value>, key: &str) -> &'a str {
    event.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// RFC 3339 in Go's format: without trailing zeros.
pub fn go_time(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{}Z", text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.'))
}

impl Go {
    pub fn new(place: usize, mut world: World) -> Self {
        let round = Duration::from_millis(world.random_u64() % 15_000);
        Self {
            id: format!("d_go{place:010}"),
            place,
            up: true,
            rows: BTreeMap::new(),
            counter: 0,
            had: BTreeSet::new(),
            messages: BTreeMap::new(),
            sessions: BTreeMap::new(),
            cutoff: String::new(),
            peers: BTreeMap::new(),
            conns: BTreeMap::new(),
            visitors: BTreeSet::new(),
            round,
            calls: 0,
            world,
            ids: IdSource::default(),
            stops: BTreeMap::new(),
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.world.random_u64() % n
    }

    pub fn pair(&mut self, peer: &str, place: usize, token: Token) {
        self.peers.insert(peer.to_owned(), Peer { place, token, checkpoint: 0, checkpoint_at: None });
    }

    pub fn crash(&mut self) {
        self.up = false;
        self.conns.clear();
        self.visitors.clear();
    }

    pub fn start(&mut self, now: Duration) {
        (self.up, self.round) = (true, now);
    }

    /// Deletes the database with the checkpoints. `peers.json` is a separate file and stays.
    pub fn lose_database(&mut self) {
        self.crash();
        self.rows.clear();
        self.counter = 0;
        self.had.clear();
        self.messages.clear();
        self.sessions.clear();
        self.cutoff.clear();
        for peer in self.peers.values_mut() {
            (peer.checkpoint, peer.checkpoint_at) = (0, None);
        }
    }

    /// Writes an event of a local agent. Returns the event's id.
    pub fn write(&mut self, kind: &str, mut payload: Value, tick: Duration, at: Timestamp) -> String {
        let mut clock = World::new(self.world.random_u64());
        clock.nanos.store(at.nanos(), std::sync::atomic::Ordering::Relaxed);
        let id = self.ids.next(IdKind::Event, &mut clock);
        let event = payload.as_object_mut().unwrap();
        event.extend([
            ("event_id".to_owned(), json!(id)),
            ("type".to_owned(), json!(kind)),
            ("timestamp".to_owned(), json!(go_time(at))),
            ("origin_daemon".to_owned(), json!(self.id)),
            ("v".to_owned(), json!(1)),
        ]);
        let event = event.clone();
        assert_eq!(self.check(&event), Ok(()), "its own agents do what can be done");
        self.take(event, tick);
        id
    }

    pub fn new_id(&mut self, kind: IdKind, at: Timestamp) -> String {
        let mut clock = World::new(self.world.random_u64());
        clock.nanos.store(at.nanos(), std::sync::atomic::Ordering::Relaxed);
        self.ids.next(kind, &mut clock)
    }

    /// Returns an existing message, and whether a local agent wrote it.
    pub fn any_message(&mut self) -> Option<(String, bool)> {
        let n = usize::try_from(self.below(self.messages.len().max(1) as u64)).unwrap();
        self.messages.iter().nth(n).map(|(id, event)| (id.clone(), text(event, "origin_daemon") == self.id))
    }

    /// Returns the event ids in the log, visible or not.
    pub fn log(&self) -> BTreeSet<String> {
        self.rows.values().map(|row| text(&row.event, "event_id").to_owned()).collect()
    }

    pub fn has_message(&self, id: &str) -> bool {
        self.messages.contains_key(id)
    }

    /// Simulates a fault of the Go daemon itself.
    pub fn lose_message(&mut self, id: &str) {
        self.messages.remove(id);
    }

    pub fn event(&self, id: &str) -> Option<&Map<String, Value>> {
        self.rows.values().map(|row| &row.event).find(|event| text(event, "event_id") == id)
    }

    /// Returns the result of applying this event. Go writes the author's file before it checks anything else.
    pub fn check(&self, event: &Map<String, Value>) -> Result<(), Stop> {
        let kind = text(event, "type");
        if !kind.starts_with("message.") {
            let unknown_session = kind == "agent.update"
                && event["work_contexts"].as_array().is_some_and(|all| {
                    all.iter().any(|one| !self.sessions.contains_key(one["session_id"].as_str().unwrap_or_default()))
                });
            let again = kind == "agent.session.start" && self.sessions.contains_key(text(event, "session_id"));
            return if unknown_session || again { Err(Stop::Once) } else { Ok(()) };
        }
        let known = self.messages.contains_key(text(event, "message_id"));
        match kind {
            "message.create" => {
                let author = text(event, "agent_id");
                if author.is_empty() {
                    return Err(Stop::ForEver);
                }
                assert!(!author.contains(['/', '\\']), "it would write to a file elsewhere: {author}");
                if known { Err(Stop::Once) } else { Ok(()) }
            }
            "message.edit" | "message.delete" | "message.receipt" if known => Ok(()),
            _ => Err(Stop::ForEver),
        }
    }

    /// Returns `true` if a purge makes Go refuse or ignore the event.
    pub fn is_purged(&self, event: &Map<String, Value>) -> bool {
        !self.cutoff.is_empty() && text(event, "timestamp") < self.cutoff.as_str()
    }

    /// Writes the row first, as Go does, and then its effects.
    fn take(&mut self, mut event: Map<String, Value>, tick: Duration) {
        self.counter += 1;
        event.insert("sequence".to_owned(), json!(self.counter));
        self.had.insert(text(&event, "event_id").to_owned());
        // Usually visible at once; sometimes later rows are visible earlier.
        let delay = if self.below(3) == 0 { self.below(3_000) } else { 0 };
        let checked = self.check(&event);
        self.rows.insert(
            self.counter,
            Row { event: event.clone(), visible: tick + Duration::from_millis(delay), announced: false },
        );
        if checked.is_ok() {
            self.project(event);
        }
    }

    fn project(&mut self, event: Map<String, Value>) {
        match text(&event, "type") {
            "message.create" => drop(self.messages.insert(text(&event, "message_id").to_owned(), event)),
            "agent.session.start" => {
                let of = (text(&event, "agent_id").to_owned(), text(&event, "timestamp").to_owned());
                self.sessions.insert(text(&event, "session_id").to_owned(), of);
            }
            "agent.cleanup" => {
                let agent = text(&event, "agent_id").to_owned();
                self.messages.retain(|_, message| text(message, "agent_id") != agent);
                self.sessions.retain(|_, (of, _)| *of != agent);
                self.rows.retain(|_, row| {
                    text(&row.event, "agent_id") != agent || text(&row.event, "type") == "agent.cleanup"
                });
            }
            "purge.executed" => {
                self.cutoff = self.cutoff.clone().max(text(&event, "cutoff").to_owned());
                let cutoff = self.cutoff.clone();
                self.messages.retain(|_, message| text(message, "timestamp") >= cutoff.as_str());
                self.sessions.retain(|_, (_, began)| *began >= cutoff);
                self.rows.retain(|_, row| {
                    text(&row.event, "timestamp") >= cutoff.as_str() || text(&row.event, "type") == "purge.executed"
                });
            }
            _ => {}
        }
    }

    /// Applies one event of a batch.
    fn apply(&mut self, served: &Served, tick: Duration) -> Result<(), Stop> {
        let mut event: Map<String, Value> = serde_json::from_str(&served.event_json).unwrap();
        for (key, text) in Served::ENVELOPE.into_iter().zip(&served.envelope) {
            event.insert(key.to_owned(), json!(text.as_deref().unwrap_or_default()));
        }
        if self.is_purged(&event) {
            return Ok(());
        }
        let id = text(&event, "event_id").to_owned();
        if let Some(row) = self.rows.values().find(|row| text(&row.event, "event_id") == id) {
            if row.visible <= tick {
                return Ok(());
            }
            // Another pull is writing the event at this moment: a sequence is used up, and the projection fails.
            self.counter += 1;
            return Err(Stop::Once);
        }
        let checked = self.check(&event);
        if checked != Err(Stop::ForEver) {
            self.take(event, tick);
        }
        if checked.is_err() {
            *self.stops.entry(format!("{id} {checked:?}")).or_default() += 1;
        }
        checked
    }

    /// Returns when the next action is due.
    pub fn next_at(&self) -> Duration {
        if !self.up {
            return Duration::MAX;
        }
        let shown = self.rows.values().filter(|row| !row.announced).map(|row| row.visible);
        shown.chain(self.conns.values().map(|conn| conn.deadline)).chain([self.round]).min().unwrap_or(Duration::MAX)
    }

    /// Does everything that is due.
    pub fn wake(&mut self, tick: Duration, conns: &mut u64) -> Out {
        let mut out = Out::new();
        if !self.up {
            return out;
        }
        let late: Vec<u64> =
            self.conns.iter().filter(|(_, conn)| conn.deadline <= tick).map(|(conn, _)| *conn).collect();
        for conn in late {
            self.drop_conn(conn, &mut out);
        }
        let shown: Vec<u64> = self
            .rows
            .iter_mut()
            .filter(|(_, row)| !row.announced && row.visible <= tick)
            .map(|(sequence, row)| (row.announced = true, *sequence).1)
            .collect();
        for sequence in shown {
            for peer in self.peers.keys().cloned().collect::<Vec<_>>() {
                self.open(
                    &peer,
                    Call::Notify { latest: sequence, count: 1, after: None, references: None },
                    false,
                    tick,
                    conns,
                    &mut out,
                );
            }
        }
        if self.round <= tick {
            self.round = tick + ROUND;
            let due: Vec<String> = self
                .peers
                .iter()
                .filter(|(_, peer)| peer.checkpoint_at.is_none_or(|at| at + RECENT <= tick))
                .map(|(id, _)| id.clone())
                .collect();
            for peer in due {
                self.pull(&peer, false, tick, conns, &mut out);
            }
        }
        out
    }

    fn pull(&mut self, peer: &str, for_notify: bool, tick: Duration, conns: &mut u64, out: &mut Out) {
        let after = self.peers[peer].checkpoint;
        self.open(
            peer,
            Call::Pull(Pull { after, max_batch: 1000, log: None, stored: None, references: None }),
            for_notify,
            tick,
            conns,
            out,
        );
    }

    fn open(&mut self, peer: &str, call: Call, for_notify: bool, tick: Duration, conns: &mut u64, out: &mut Out) {
        *conns += 1;
        let conn = Conn { peer: peer.to_owned(), call, id: 0, for_notify, deadline: tick + PULL };
        out.push((self.peers[peer].place, Message::Connect(*conns)));
        self.conns.insert(*conns, conn);
    }

    fn drop_conn(&mut self, conn: u64, out: &mut Out) {
        if let Some(dropped) = self.conns.remove(&conn) {
            out.push((self.peers[&dropped.peer].place, Message::Closed(conn)));
        }
    }

    /// Sends the request for which a connection was opened.
    fn ask(&mut self, conn: u64, tick: Duration, out: &mut Out) {
        self.calls += 1;
        let Some(asking) = self.conns.get_mut(&conn) else { return };
        let peer = &self.peers[&asking.peer];
        (asking.id, asking.deadline) = (self.calls, tick + PULL);
        out.push((peer.place, Message::Line { conn, text: asking.call.line(asking.id, &self.id, &peer.token) }));
    }

    pub fn deliver(&mut self, from: usize, message: Message, tick: Duration, conns: &mut u64) -> Out {
        let mut out = Out::new();
        match message {
            Message::Connect(conn) if !self.up => out.push((from, Message::Refused(conn))),
            _ if !self.up => {}
            Message::Connect(conn) => {
                self.visitors.insert(conn);
                out.push((from, Message::Accepted(conn)));
            }
            Message::Accepted(conn) if self.conns.get(&conn).is_some_and(|conn| conn.id == 0) => {
                self.ask(conn, tick, &mut out)
            }
            Message::Accepted(_) => {}
            Message::Refused(conn) => drop(self.conns.remove(&conn)),
            Message::Closed(conn) => {
                self.conns.remove(&conn);
                self.visitors.remove(&conn);
            }
            Message::Line { conn, text } if self.conns.contains_key(&conn) => {
                self.answered(conn, &text, tick, &mut out)
            }
            Message::Line { conn, text } if self.visitors.contains(&conn) => {
                let reply = self.answer(&text, tick, conns, &mut out);
                out.push((from, Message::Line { conn, text: reply }));
            }
            Message::Line { conn, .. } => out.push((from, Message::Closed(conn))),
        }
        out
    }

    /// Handles a reply to one of Go's calls. TCP duplicates no replies, so an unexpected one is ignored.
    fn answered(&mut self, conn: u64, line: &str, tick: Duration, out: &mut Out) {
        let asked = &self.conns[&conn];
        let (peer, id) = (asked.peer.clone(), asked.id);
        if serde_json::from_str::<Value>(line).unwrap()["id"] != json!(id) {
            return;
        }
        let Call::Pull(_) = asked.call else { return self.drop_conn(conn, out) };
        let pulled = wire::read_pulled(line.as_bytes(), id).unwrap();
        let applied = self.apply_batch(&peer, &pulled.events, pulled.next, tick);
        if applied.is_err() || pulled.events.is_empty() || !pulled.more {
            return self.drop_conn(conn, out);
        }
        if let Some(Conn { call: Call::Pull(pull), .. }) = self.conns.get_mut(&conn) {
            pull.after = pulled.next.unsigned_abs();
        }
        self.ask(conn, tick, out);
    }

    fn apply_batch(&mut self, peer: &str, events: &[Served], next: i64, tick: Duration) -> Result<(), Stop> {
        let Some(last) = events.last() else { return Ok(()) };
        let next = next.min(last.sequence).unsigned_abs();
        if next < self.peers[peer].checkpoint {
            // A checkpoint regression, as between Go's own parallel pulls.
            return Err(Stop::Once);
        }
        for event in events {
            self.apply(event, tick)?;
        }
        if let Some(peer) = self.peers.get_mut(peer) {
            (peer.checkpoint, peer.checkpoint_at) = (next, Some(tick));
        }
        Ok(())
    }

    /// Returns the reply to a line.
    fn answer(&mut self, line: &str, tick: Duration, conns: &mut u64, out: &mut Out) -> String {
        let request: Value = serde_json::from_str(line).unwrap();
        let (id, params) = (&request["id"], &request["params"]);
        let peer = self
            .peers
            .iter()
            .find(|(_, peer)| peer.token.matches(params["token"].as_str().unwrap()))
            .map(|(id, _)| id.clone());
        assert!(peer.is_some(), "every token is good");
        let result = match request["method"].as_str().unwrap() {
            "sync.peer_info" => json!({"daemon_id": self.id, "name": "go"}),
            "sync.notify" => {
                let caller = params["daemon_id"].as_str().unwrap().to_owned();
                let busy = self.conns.values().filter(|conn| conn.for_notify).count() >= PULLS_FOR_NOTIFIES;
                if self.peers.contains_key(&caller) && !busy {
                    self.pull(&caller, true, tick, conns, out);
                }
                json!({"status": "ok"})
            }
            "sync.pull" => {
                assert!(params.get("log_id").is_none(), "it does not know what that is");
                let after = params["after_sequence"].as_u64().unwrap();
                let most = usize::try_from(params["max_batch"].as_u64().unwrap()).unwrap();
                let mut above = self.rows.range(after + 1..).filter(|(_, row)| row.visible <= tick);
                let events: Vec<Value> =
                    above.by_ref().take(most).map(|(sequence, row)| served(*sequence, &row.event)).collect();
                let next = events.last().map_or(0, |event| event["sequence"].as_u64().unwrap());
                json!({"events": events, "next_sequence": next, "more_available": above.next().is_some()})
            }
            other => panic!("nobody asks for {other}"),
        };
        json!({"jsonrpc": "2.0", "result": result, "id": id}).to_string()
    }
}

fn served(sequence: u64, event: &Map<String, Value>) -> Value {
    let mut fields = Map::from_iter(Served::ENVELOPE.map(|key| (key.to_owned(), event[key].clone())));
    fields.insert("sequence".to_owned(), json!(sequence));
    fields.insert("event_json".to_owned(), Value::Object(event.clone()));
    Value::Object(fields)
}
