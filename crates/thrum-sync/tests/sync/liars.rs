//! A peer that lies about the events that it holds: it causes bounded work, harms nobody, and is reported.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use thrum_core::{SetDigest, Timestamp, limits};
use thrum_sync::{
    Log,
    peers::{Verdict, Verified},
    transport::Kind,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::kit::{Daemon, PATIENCE};

/// The peer `d_liar`, which gives arbitrary answers on any number of connections.
pub struct Liar {
    pub daemon: Daemon,
    /// The answered requests: method and parameters.
    pub asked: Arc<Mutex<Vec<(String, Value)>>>,
    /// The liar's connection to the daemon, and its token.
    to_daemon: BufReader<TcpStream>,
    token: String,
}

impl Liar {
    /// Pairs a liar. `answer` returns the result of each method except `sync.pull`, `sync.notify` and
    /// `sync.differs`.
    pub async fn pair(answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Self {
        let daemon = Daemon::start("alpha").await;
        daemon.log.register("ann");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pairing = daemon.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
        let mut stream = BufReader::new(TcpStream::connect(&pairing.address).await.unwrap());
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, heard) = (Arc::new(answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, Arc::clone(&answer), Arc::clone(&heard)));
            }
        });
        let params = json!({"code": pairing.code.reveal(), "daemon_id": "d_liar", "name": "liar", "address": address});
        let request = json!({"method": "pair.request", "params": params, "id": 1});
        stream.get_mut().write_all(format!("{request}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let token = serde_json::from_str::<Value>(&line).unwrap()["result"]["token"].as_str().unwrap().to_owned();
        Self { daemon, asked, to_daemon: stream, token }
    }

    /// Sends a request to the daemon.
    async fn asks(&mut self, method: &str) -> Value {
        let request = json!({"method": method, "params": {"token": self.token}, "id": 2});
        self.to_daemon.get_mut().write_all(format!("{request}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, self.to_daemon.read_line(&mut line)).await.expect("an answer").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Runs `sync verify`. It ends before [`PATIENCE`] because the liar answers every request, so its result is final; do
    /// not use with [`SILENCE`].
    pub async fn verify(&self) -> Verified {
        self.daemon.peers.verify(PATIENCE).await.unwrap()
    }

    pub fn times(&self, method: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(asked, _)| asked == method).count()
    }
}

async fn talk(stream: TcpStream, answer: Arc<impl Fn(&str, &Value) -> Value>, heard: Arc<Mutex<Vec<(String, Value)>>>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        let request: Value = serde_json::from_str(&line).unwrap();
        line.clear();
        let method = request["method"].as_str().unwrap().to_owned();
        let result = match method.as_str() {
            "sync.pull" => json!({"events": [], "next_sequence": 0, "more_available": false, "log_id": "log"}),
            "sync.notify" | "sync.differs" => json!({"status": "ok"}),
            _ => answer(&method, &request["params"]),
        };
        if result == SILENCE {
            std::future::pending::<()>().await;
        }
        heard.lock().unwrap().push((method, request["params"].clone()));
        let reply = json!({"jsonrpc": "2.0", "result": result, "id": request["id"]});
        if stream.get_mut().write_all(format!("{reply}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// As a result of `answer`: the liar never replies to this request, nor to later ones on the connection.
pub const SILENCE: &str = "silence";

/// Claims to hold `count` events of `d_far` that no one else has.
pub fn info(count: u64, protocols: &[&str]) -> Value {
    let head = json!({"origin": "d_far", "log": "7", "count": count, "highest": count, "sum": SetDigest::of(b"x")});
    json!({"daemon_id": "d_liar", "name": "liar", "version": "0.1.0", "protocols": protocols, "log_id": "log", "latest": 0,
        "heads": [head], "projection": SetDigest::of(b"y")})
}

pub fn event(origin: &str, number: u64) -> Value {
    let id = format!("evt_{number}");
    let event = json!({"event_id": id, "type": "future.thing", "timestamp": "2026-01-01T00:00:00Z", "origin_daemon": origin,
        "origin_log": "7", "origin_seq": number});
    json!({"event_id": id, "sequence": number, "type": "future.thing", "timestamp": "2026-01-01T00:00:00Z", "origin_daemon": origin,
        "event_json": event})
}

pub fn events(events: &[Value]) -> Value {
    json!({"events": events, "next_sequence": 1, "more_available": true, "log_id": "log"})
}

pub const RANGES: [&str; 2] = ["lines-1", "ranges-1"];

/// Returns what `verify` reported about the log of `d_far`: the number of events missing here, the number of events
/// fetched, and the note.
pub fn said(verified: &Verified) -> (u64, u64, String) {
    let peer = &verified.peers[0];
    let missing = peer.missing.iter().find(|missing| missing.origin == "d_far");
    let note = missing.and_then(|missing| missing.note.clone()).or_else(|| peer.error.clone());
    (
        missing.map_or(0, |missing| missing.here.events),
        missing.map_or(0, |missing| missing.fetched),
        note.unwrap_or_default(),
    )
}

/// P7, C20
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_serve_claimed_events_is_asked_three_times_and_reported() {
    let liar = Liar::pair(|method, _| match method {
        "sync.peer_info" => info(9, &RANGES),
        "sync.ranges" => json!({"held": [[1, 9]], "next": 0}),
        _ => events(&[]),
    })
    .await;
    let verified = liar.verify().await;
    let of_far = |method: &str| {
        liar.asked.lock().unwrap().iter().filter(|asked| asked.0 == method && asked.1["origin"] == "d_far").count()
    };
    assert_eq!((of_far("sync.ranges"), of_far("sync.fetch")), (1, limits::MAX_FRUITLESS as usize));
    assert_eq!(verified.status, Verdict::Differs);
    assert_eq!(said(&verified), (9, 0, "it does not serve all that it says to hold".into()));
}

/// P6: without a call of `verify`, the daemon finds the difference, reports it, and asks less and less often.
#[tokio::test(flavor = "multi_thread")]
async fn claimed_events_that_are_not_served_appear_in_the_status() {
    let mut liar = Liar::pair(|method, _| match method {
        "sync.peer_info" => info(9, &RANGES),
        "sync.ranges" => json!({"held": [[1, 9]], "next": 0}),
        _ => events(&[]),
    })
    .await;
    liar.daemon.restart_with_sync_interval(Duration::from_millis(50)).await;
    let shown = async {
        loop {
            let status = &liar.daemon.peers.status().await.unwrap()[0];
            if let Some(repaired) = status.details.repaired.as_ref().filter(|repaired| repaired.missing_here >= 9) {
                return repaired.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let shown = tokio::time::timeout(PATIENCE, shown).await.expect("shown");
    assert_eq!((shown.fetched, shown.note.as_deref()), (0, Some("it does not serve all that it says to hold")));
    let (fetches, pulls) = (liar.times("sync.fetch"), liar.times("sync.pull"));
    let later = async {
        while liar.times("sync.pull") < pulls + 10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, later).await.expect("rounds go on");
    // At most one more reconciliation falls into these ten intervals. Each fetches in vain for two logs, because the
    // liar claims 1–9 of `d_far`'s log and of the daemon's own.
    assert!(
        liar.times("sync.fetch") <= fetches + 2 * limits::MAX_FRUITLESS as usize,
        "{} after {fetches}",
        liar.times("sync.fetch")
    );
}

/// P6: a daemon that is told about missing events compares, and does not tell back. A flood of hints causes one
/// comparison.
#[tokio::test(flavor = "multi_thread")]
async fn a_hint_about_missing_events_triggers_one_check_and_no_hint_back() {
    let mut liar = Liar::pair(|method, _| match method {
        "sync.peer_info" => info(9, &RANGES),
        _ => json!({"held": [], "next": 0, "ids": []}),
    })
    .await;
    for _ in 0..50 {
        assert_eq!(liar.asks("sync.differs").await["result"]["status"], "ok");
    }
    let looked = async {
        while liar.daemon.peers.status().await.unwrap()[0].details.repaired.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.expect("it looks");
    let repaired = liar.daemon.peers.status().await.unwrap()[0].details.repaired.clone().unwrap();
    assert!(repaired.missing_there > 0, "{repaired:?}");
    assert_eq!(liar.times("sync.differs"), 0);
    let of_far = liar
        .asked
        .lock()
        .unwrap()
        .iter()
        .filter(|asked| asked.0 == "sync.ranges" && asked.1["origin"] == "d_far")
        .count();
    assert_eq!(of_far, 1);
}

/// C30: events purged here are not requested, even if a peer still holds them.
#[tokio::test(flavor = "multi_thread")]
async fn events_purged_here_are_not_requested() {
    let liar = Liar::pair(|method, _| match method {
        "sync.peer_info" => info(9, &RANGES),
        "sync.ranges" => json!({"held": [[1, 9]], "next": 0}),
        _ => events(&[]),
    })
    .await;
    let old = (1..6).map(|n| {
        json!({"event_id": format!("evt_{n}"), "type": "agent.update", "timestamp": "2026-01-01T00:00:00Z", "origin_daemon": "d_far",
            "origin_log": "7", "origin_seq": n})
        .to_string()
    });
    liar.daemon.log.apply(crate::heads::batch(old)).unwrap();
    liar.daemon.log.write(|tx| tx.purge(Timestamp::parse("2026-06-01T00:00:00Z").unwrap())).unwrap();
    liar.verify().await;
    let asked = liar.asked.lock().unwrap().clone();
    let first = asked.iter().find(|asked| asked.0 == "sync.fetch" && asked.1["origin"] == "d_far").unwrap();
    assert_eq!(first.1["ranges"], json!([[6, 9]]));
}

/// C21: of the events in a reply, only the requested ones are stored.
#[tokio::test(flavor = "multi_thread")]
async fn unrequested_events_are_not_stored() {
    let liar = Liar::pair(|method, _| match method {
        "sync.peer_info" => info(3, &RANGES),
        "sync.ranges" => json!({"held": [[1, 3]], "next": 0}),
        _ => events(&[event("d_far", 4), event("d_near", 1), event("d_far", 2)]),
    })
    .await;
    let before = liar.daemon.log.event_ids();
    let verified = liar.verify().await;
    let mut after = liar.daemon.log.event_ids();
    after.retain(|id| !before.contains(id));
    assert_eq!(after, ["evt_2"]);
    assert_eq!(said(&verified), (3, 1, "it serves other events than those asked for; they were not taken".into()));
}

/// C18, C20: origin sequences that are endless, too scattered, above `i64::MAX`, descending, or far more than are
/// served: each ends the reconciliation and is reported.
#[tokio::test(flavor = "multi_thread")]
async fn claims_that_make_no_sense_end_the_comparison() {
    let endless = |_: &str, params: &Value| {
        let after = params["after"].as_u64().unwrap_or(0);
        json!({"held": [[after + 1, after + 1]], "next": after + 2})
    };
    let many = |_: &str, _: &Value| json!({"held": (1..=50_000).map(|n| [2 * n, 2 * n]).collect::<Vec<_>>()});
    let huge = |_: &str, _: &Value| json!({"held": [[1, u64::MAX]]});
    let backwards = |_: &str, _: &Value| json!({"held": [[1, 3]], "next": 2});
    let whole = |_: &str, _: &Value| json!({"held": [[1, i64::MAX]]});
    type Answer = fn(&str, &Value) -> Value;
    let lies: [(Answer, &str); 5] = [
        (endless, "does not serve all"),
        (many, "makes no sense"),
        (huge, "makes no sense"),
        (backwards, "makes no sense"),
        (whole, "does not serve all"),
    ];
    for (lie, words) in lies {
        let liar = Liar::pair(move |method, params| match method {
            "sync.peer_info" => info(1, &RANGES),
            "sync.ranges" => lie(method, params),
            _ => events(&[]),
        })
        .await;
        let verified = liar.verify().await;
        let (_, fetched, note) = said(&verified);
        assert!(note.contains(words) && fetched == 0, "{words}: {verified:?}");
        assert!(liar.asked.lock().unwrap().len() < 200, "{words}: {}", liar.asked.lock().unwrap().len());
        assert_eq!(verified.status, Verdict::Differs, "{words}");
    }
}

/// C25: a peer without range support is compared by its version vector, and not asked anything else.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_range_support_is_compared_by_its_heads() {
    let liar = Liar::pair(|_, _| info(9, &["lines-1"])).await;
    let verified = liar.daemon.peers.verify(PATIENCE / 4).await.unwrap();
    assert_eq!((verified.status, verified.peers[0].missing.len()), (Verdict::Differs, 0));
    let differs: Vec<_> =
        verified.peers[0].differences.iter().map(|difference| (difference.origin.as_str(), difference.there)).collect();
    assert!(differs.contains(&("d_far", 9)), "{differs:?}");
    assert_eq!(liar.times("sync.ranges") + liar.times("sync.ids") + liar.times("sync.fetch"), 0);
}

/// C20: parts nested without end.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_is_cut_without_end_is_given_up() {
    let liar = Liar::pair(|method, params| match method {
        "sync.peer_info" => {
            let mut info = info(9, &RANGES);
            info["heads"][0]["log"] = "".into();
            info
        }
        _ => {
            let (after, upto) = (params["after"].as_str().unwrap(), params["upto"].as_str().unwrap());
            let part = |upto: &str| json!({"upto": upto, "count": 600, "sum": SetDigest::of(upto.as_bytes())});
            json!({"parts": [part(&format!("{after}a")), part(upto)]})
        }
    })
    .await;
    let verified = liar.verify().await;
    assert!(said(&verified).2.contains("ever smaller parts"), "{verified:?}");
    assert!(liar.times("sync.ids") < 50);
}

/// C20: each part lists an event that is not served.
#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_set_is_not_asked_for_after_three_events_that_are_not_served() {
    let liar = Liar::pair(|method, params| match method {
        "sync.peer_info" => {
            let mut info = info(8, &RANGES);
            info["heads"][0]["log"] = "".into();
            info
        }
        "sync.ids" if params["upto"] == "" && params["after"] == "" => {
            let part = |upto| json!({"upto": upto, "count": 1, "sum": SetDigest::of(b"x")});
            let parts = ["b", "c", "d", "e", "f", "g", "h", ""].map(part);
            json!({"parts": parts})
        }
        "sync.ids" => json!({"ids": [[format!("{}x", params["after"].as_str().unwrap()), SetDigest::of(b"x")]]}),
        _ => events(&[]),
    })
    .await;
    let verified = liar.verify().await;
    let of_far = |method: &str| {
        liar.asked.lock().unwrap().iter().filter(|asked| asked.0 == method && asked.1["origin"] == "d_far").count()
    };
    let fruitless = limits::MAX_FRUITLESS as usize;
    assert_eq!((of_far("sync.ids"), of_far("sync.fetch")), (1 + fruitless, fruitless));
    assert_eq!(said(&verified).2, "it does not serve all that it says to hold");
}
