//! A `.thrum` directory as Go Thrum v0.6.3 leaves it, filled with events that Go Thrum wrote.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rusqlite::Connection;
use serde_json::{Value, json};

/// Ids of the daemon that wrote the recorded events, and of its peer that served some of them.
pub(crate) const GO: &str = "d_47fkcmt93fcz";
pub(crate) const GOS_PEER: &str = "d_capturepeer2";

pub(crate) const RECORDED: &str = include_str!("../../../../thrum-store/tests/store/data/events-go-wrote.jsonl");

/// A `.thrum` directory of Go Thrum, with an open connection to its database.
pub(crate) struct GoThrum {
    pub(crate) dir: PathBuf,
    pub(crate) conn: Connection,
}

impl GoThrum {
    /// Creates a directory with the recorded events: the agent `a1` is registered there and received a message from
    /// `remote1`.
    pub(crate) fn recorded(dir: &Path) -> Self {
        let go = Self::empty(dir);
        for line in RECORDED.lines() {
            // A date that lies in the past for any clock.
            let served: Value = serde_json::from_str(&line.replace("2026-11-23", "2024-11-23")).unwrap();
            let column = |name: &str| served[name].as_str().unwrap().to_owned();
            go.insert(
                [column("event_id"), column("type"), column("timestamp"), column("origin_daemon")],
                &served["event_json"].to_string(),
            );
        }
        go.identity("a1", "implementer");
        go
    }

    pub(crate) fn empty(dir: &Path) -> Self {
        fs::create_dir_all(dir.join("var")).unwrap();
        fs::create_dir_all(dir.join("identities")).unwrap();
        let peers = json!({"local": {"daemon_id": GO, "port": 9123}, "peers": []});
        fs::write(dir.join("var/peers.json"), peers.to_string()).unwrap();
        let conn = Connection::open(dir.join("var/messages.db")).unwrap();
        conn.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE schema_version (version INTEGER, applied_at TEXT);
             INSERT INTO schema_version VALUES (15, '2026-11-23T05:28:18Z');
             CREATE TABLE events (event_id TEXT PRIMARY KEY, sequence INTEGER UNIQUE NOT NULL, type TEXT NOT NULL,
                                  timestamp TEXT NOT NULL, origin_daemon TEXT NOT NULL, event_json TEXT NOT NULL);
             CREATE TABLE messages (message_id TEXT PRIMARY KEY, agent_id TEXT);
             CREATE TABLE message_deliveries (message_id TEXT, recipient_agent_id TEXT, delivered_at TEXT, seen_at TEXT, read_at TEXT);
             CREATE TABLE message_reads (message_id TEXT, session_id TEXT, agent_id TEXT, read_at TEXT);",
        )
        .unwrap();
        Self { dir: dir.to_owned(), conn }
    }

    /// Appends a row to the event log unchanged.
    pub(crate) fn insert(&self, [event_id, kind, timestamp, origin]: [String; 4], event_json: &str) {
        let sql = "INSERT INTO events SELECT ?1, coalesce(max(sequence), 0) + 1, ?2, ?3, ?4, ?5 FROM events";
        self.conn.execute(sql, (event_id, kind, timestamp, origin, event_json)).unwrap();
    }

    /// Appends an event of `origin`, dated `n` minutes past 06:00 on the day of the recorded events.
    pub(crate) fn event(&self, n: u32, origin: &str, kind: &str, payload: &Value) {
        let (id, at) = (format!("evt_01M84TESTEVENT00000000{n:04}"), format!("2024-11-23T06:{n:02}:00.5Z"));
        let mut event =
            json!({"event_id": id, "type": kind, "timestamp": at, "origin_daemon": origin, "v": 1, "sequence": n});
        event.as_object_mut().unwrap().extend(payload.as_object().unwrap().clone());
        self.insert([id, kind.to_owned(), at, origin.to_owned()], &event.to_string());
    }

    /// Appends a message from `remote1`, an agent of the peer.
    pub(crate) fn message(&self, n: u32, id: &str, to: &Value) {
        let mut payload = json!({"message_id": id, "agent_id": "remote1", "session_id": "", "body": {"format": "markdown", "content": id}});
        payload.as_object_mut().unwrap().extend(to.as_object().unwrap().clone());
        self.event(n, GOS_PEER, "message.create", &payload);
    }

    /// Writes an identity file as Go Thrum does.
    pub(crate) fn identity(&self, name: &str, role: &str) {
        let file = json!({
            "version": 3, "repo_id": "r_1", "worktree": "old", "session_id": "ses_01M83E3518FQXV3SXZY6HY5KJC", "listener": {"kept": true},
            "agent": {"Kind": "agent", "Name": name, "Role": role, "Module": "m1", "Display": ""}, "updated_at": "2026-11-23T05:28:20Z",
        });
        fs::write(self.dir.join(format!("identities/{name}.json")), file.to_string()).unwrap();
    }

    /// Every file of the directory, with its bytes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        files(&self.dir)
    }
}

/// Every file below `dir`, with its bytes.
pub(crate) fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push((path.clone(), fs::read(&path).unwrap())) }
    }
    found.sort();
    found
}
