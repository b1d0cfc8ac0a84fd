//! A hostile paired peer against a whole daemon: memory stays bounded, the other peer is served, and the hostile peer
//! is named.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::common::paired;

/// Highest peak memory allowed for the daemon, in kilobytes; an idle daemon needs some thirty thousand. The data that
/// the peer below sends and requests would exceed two million.
const MOST_KB: u64 = 300_000;

struct Wire(BufReader<TcpStream>);

impl Wire {
    fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(BufReader::new(stream))
    }

    fn say(&mut self, method: &str, params: &Value) {
        let line = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        let _ = self.0.get_mut().write_all(format!("{line}\n").as_bytes());
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.say(method, params);
        let mut reply = String::new();
        self.0.read_line(&mut reply).unwrap();
        serde_json::from_str(&reply).unwrap_or(Value::Null)
    }
}

/// The listener of the hostile peer: replies with a different kind of nonsense each time, sometimes without an end.
fn serves_nonsense(listener: TcpListener) {
    for (n, stream) in listener.incoming().flatten().enumerate() {
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                let id = serde_json::from_str::<Value>(&line).map_or(Value::Null, |request| request["id"].clone());
                let writer = reader.get_mut();
                let answer = if line.contains("sync.peer_info") {
                    json!({"jsonrpc": "2.0", "result": {"daemon_id": "d_bad", "name": "bad", "log_id": "log", "latest": 9}, "id": id})
                        .to_string()
                } else if n % 2 == 0 {
                    let event = json!({"event_id": "../../etc/passwd\u{1b}[2J", "sequence": 1, "type": "future.thing", "timestamp": "x",
                        "origin_daemon": "../..", "event_json": {"x": "y".repeat(10_000)}});
                    let events: Vec<Value> = (1..=1_500)
                        .map(|n| {
                            let mut event = event.clone();
                            event["sequence"] = json!(n);
                            event
                        })
                        .collect();
                    json!({"jsonrpc": "2.0", "result": {"events": events, "next_sequence": 1500, "more_available": true, "log_id": "log"}, "id": id}).to_string()
                } else {
                    // Sixty-four megabytes without a line end.
                    let part = vec![b'x'; 1 << 20];
                    for _ in 0..64 {
                        if writer.write_all(&part).is_err() {
                            return;
                        }
                    }
                    return;
                };
                if writer.write_all(format!("{answer}\n").as_bytes()).is_err() {
                    return;
                }
                line.clear();
            }
        });
    }
}

/// C17, C18, C20, C23: endless connections, endless lines, endless announcements, and replies that the peer does not
/// read.
#[test]
fn a_hostile_peer_costs_bounded_memory_and_delays_no_other_peer() {
    let (left, right) = paired();
    let mut adding = left.begin(&["peer", "add", "--via", "local", "--json"]);
    let shown: Value = serde_json::from_str(&adding.line()).unwrap();
    let address = shown["address"].as_str().unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().to_string();
    thread::spawn(move || serves_nonsense(listener));
    let params =
        json!({"code": shown["code"], "daemon_id": "d_bad", "name": "bad\u{1b}[2J\nroot: all is well", "address": own});
    let token = Wire::to(&address).ask("pair.request", &params)["result"]["token"].clone();
    assert!(token.is_string());
    drop(adding);
    // Makes each reply to a pull about a megabyte long.
    for _ in 0..4 {
        left.thrum_with_input("z".repeat(900_000).as_bytes(), &["send", "-", "--to", "ann"]).ok();
    }

    let asked = json!({"token": token, "after_sequence": 0});
    let unread: Vec<Wire> = (0..200)
        .map(|_| {
            let mut wire = Wire::to(&address);
            (0..20).for_each(|_| wire.say("sync.pull", &asked));
            wire
        })
        .collect();
    let mut half = Vec::new();
    for _ in 0..2_000 {
        let Ok(mut stream) = TcpStream::connect(&address) else { continue };
        let _ = stream.write_all(&[b'{'; 60_000]);
        half.push(stream);
        if half.len() > 100 {
            half.remove(0);
        }
    }
    let mut wire = Wire::to(&address);
    let notify = json!({"token": token, "daemon_id": "d_bad", "latest_seq": i64::MAX, "event_count": 1});
    for _ in 0..2_000 {
        assert_eq!(wire.ask("sync.notify", &notify)["result"]["status"], "ok");
    }
    for other in ["d_never_heard_of", "../../x", "\u{1b}]52;c;eHg=\u{7}"] {
        let notify = json!({"token": token, "daemon_id": other, "latest_seq": 1, "event_count": 1});
        assert_eq!(wire.ask("sync.notify", &notify)["result"]["status"], "ok");
    }

    // The other peer and the daemon's own agents are not affected.
    left.thrum(&["send", "are you served?", "--to", "bob"]).ok();
    let heard = right.thrum(&["wait", "--timeout", "30s"]).ok();
    assert!(heard.stdout.contains("are you served?"), "{heard:?}");
    let status = left.thrum(&["peer", "status"]).ok();
    let bad = status.stdout.lines().find(|line| line.contains("bad")).unwrap().to_owned();
    assert!(
        !status.stdout.contains('\u{1b}') && !status.stdout.lines().any(|line| line.starts_with("root:")),
        "{status:?}"
    );
    assert!(bad.contains("paired by plain"), "{bad}");
    assert!(
        status.stdout.contains("it sent 1500 events, and was asked for")
            || status.stdout.contains("more than 16777216 bytes"),
        "{status:?}"
    );
    if let Some(peak) = left.daemon_peak_kb() {
        assert!(peak < MOST_KB, "{peak} kB");
    }
    drop((unread, half));
    let mut end = Vec::new();
    let _ = wire.0.get_mut().shutdown(std::net::Shutdown::Write);
    let _ = wire.0.read_to_end(&mut end);
}
