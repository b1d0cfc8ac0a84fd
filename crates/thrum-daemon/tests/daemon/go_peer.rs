//! A hand-written replay of the peer in the recording.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use thrum_core::Timestamp;

/// A Go daemon as a peer: it has an agent, the agent's session and a message to `a1`, and then disappears.
pub struct GoPeer {
    listener: TcpListener,
}

/// The peer while it answers.
pub struct Serving {
    address: String,
    gone: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    serving: JoinHandle<()>,
}

impl GoPeer {
    pub fn listen() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Starts answering; the events that it serves are dated now.
    pub fn serve(self) -> Serving {
        let address = self.address();
        let (gone, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (is_gone, streams) = (Arc::clone(&gone), Arc::clone(&open));
        let serving = thread::spawn(move || {
            let events = Arc::new(remote_events());
            for stream in self.listener.incoming() {
                let stream = stream.unwrap();
                if is_gone.load(Ordering::SeqCst) {
                    return;
                }
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                let events = Arc::clone(&events);
                thread::spawn(move || answer(&stream, &events));
            }
        });
        Serving { address, gone, open, serving }
    }
}

impl Serving {
    /// Closes the peer's port and all connections.
    pub fn leave(self) {
        self.gone.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        self.serving.join().unwrap();
        for stream in self.open.lock().unwrap().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn answer(stream: &TcpStream, events: &[Value]) {
    let mut writer = stream.try_clone().unwrap();
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let request: Value = serde_json::from_str(&line).unwrap();
        let result = match request["method"].as_str() {
            Some("sync.peer_info") => json!({"daemon_id": "d_capturepeer2", "name": "capture-box"}),
            Some("sync.pull") if request["params"]["after_sequence"] == 0 => {
                json!({"events": events, "next_sequence": 3, "more_available": false})
            }
            Some("sync.pull") => json!({"events": [], "next_sequence": 0, "more_available": false}),
            _ => json!({"status": "ok"}),
        };
        if writeln!(writer, "{}", json!({"jsonrpc": "2.0", "result": result, "id": request["id"]})).is_err() {
            return;
        }
    }
}

/// Returns the events of the recorded peer, dated now.
fn remote_events() -> Vec<Value> {
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let fields = [
        json!({"type": "agent.register", "agent_id": "remote1", "kind": "agent", "name": "remote1", "role": "reviewer", "module": "web",
               "display": "", "hostname": "capture-box"}),
        json!({"type": "agent.session.start", "agent_id": "remote1", "session_id": "ses_01M83CAPTURE00000000000001"}),
        json!({"type": "message.create", "message_id": "msg_01M83CAPTURE00000000000001", "agent_id": "remote1",
               "session_id": "ses_01M83CAPTURE00000000000001", "recipients": ["a1"], "refs": [{"type": "mention", "value": "a1"}],
               "body": {"format": "markdown", "content": "hello from the other side"}}),
    ];
    let event = |(n, mut event): (u64, Value)| {
        let (id, at) =
            (format!("evt_01M83CAPTURE0000000000000{n}"), Timestamp::from_millis(now + n).unwrap().to_string());
        let kind = event["type"].clone();
        for (key, value) in [
            ("event_id", json!(id)),
            ("timestamp", json!(at)),
            ("origin_daemon", json!("d_capturepeer2")),
            ("v", json!(1)),
            ("sequence", json!(n)),
        ] {
            event[key] = value;
        }
        json!({"event_id": id, "sequence": n, "type": kind, "timestamp": at, "origin_daemon": "d_capturepeer2", "event_json": event})
    };
    (1..).zip(fields).map(event).collect()
}
