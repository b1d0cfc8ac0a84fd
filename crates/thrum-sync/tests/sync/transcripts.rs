//! Replays recorded lines between Go Thrum v0.6.3 and a peer against our server and our client.

use serde::Deserialize;
use serde_json::Value;
use thrum_core::name;
use thrum_sync::{
    Now, Token, intake,
    protocol::wire::{self, Call, Info, Pair, Pull, Reply},
    replicator::{Action, Input, Replicator},
};

use crate::{kit::World, stand::Stand};

const GO: &str = "d_47fkcmt93fcz";

#[derive(Deserialize)]
struct Line {
    conn: String,
    from: String,
    line: String,
}

/// Returns requests and replies with their connection, in order.
fn exchanges(recorded: &str) -> Vec<(String, String, String)> {
    let lines: Vec<Line> = recorded.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reply_to = |n: usize, conn: &str| {
        lines[n + 1..].iter().find(|line| line.conn == conn && line.from == "server").map(|line| &line.line)
    };
    let asked = lines.iter().enumerate().filter(|(_, line)| line.from == "client");
    asked.map(|(n, line)| (line.conn.clone(), line.line.clone(), reply_to(n, &line.conn).unwrap().clone())).collect()
}

fn go_serves() -> Vec<(String, String, String)> {
    exchanges(include_str!("../data/wire-go-serves.jsonl"))
}

fn go_calls() -> Vec<(String, String, String)> {
    exchanges(include_str!("../data/wire-go-calls.jsonl"))
}

/// Returns a reply without our additions to Go's fields.
fn as_go_says(reply: &str) -> Value {
    let mut reply: Value = serde_json::from_str(reply).unwrap();
    if let Some(result) = reply.get_mut("result").and_then(Value::as_object_mut) {
        for ours in ["heads", "latest", "log_id", "projection", "protocols", "time", "version"] {
            result.remove(ours);
        }
    }
    reply
}

#[test]
fn we_answer_every_recorded_line_as_go_did() {
    let exchanges = go_serves();
    let (mut stand, code) = Stand::new(GO, "box1");
    // Stores the recorded events, as if they had been relayed to us.
    let full =
        exchanges.iter().find(|(_, asked, _)| asked.contains("\"after_sequence\":0,\"max_batch\":1000")).unwrap();
    let served = wire::read_pulled(full.2.as_bytes(), 3).unwrap();
    stand.hold(6, served.events);
    let mut token = String::new();
    let wrong = format!("{:04}", (code.parse::<u32>().unwrap() + 1) % 10_000);
    let (mut exact, mut pulls) = (0, 0);
    for (_, asked, recorded) in exchanges {
        let asked = asked
            .replace("\"2448\"", &format!("\"{code}\""))
            .replace("\"2449\"", &format!("\"{wrong}\""))
            .replace(&"1".repeat(64), &token);
        let reply = stand.answer(&asked);
        if reply.contains("\"paired\"") {
            token = serde_json::from_str::<Value>(&reply).unwrap()["result"]["token"].as_str().unwrap().to_owned();
        }
        let expected = recorded.replace(&"1".repeat(64), &token);
        if asked.contains("sync.pull") && reply.contains("\"result\"")
            || asked.contains("sync.peer_info") && reply.contains("\"result\"")
        {
            pulls += 1;
            assert_eq!(as_go_says(&reply), serde_json::from_str::<Value>(&expected).unwrap(), "{asked}");
        } else {
            exact += 1;
            assert_eq!(reply, expected, "{asked}");
        }
    }
    assert_eq!((exact, pulls), (19, 8));
}

#[test]
fn a_go_daemon_that_joins_notifies_and_pulls_gets_what_it_needs() {
    let (mut stand, code) = Stand::new("d_capturepeer2", "capture-box");
    let mut token = String::new();
    for (_, asked, recorded) in go_calls() {
        let after: i64 =
            serde_json::from_str::<Value>(&asked).unwrap()["params"]["after_sequence"].as_i64().unwrap_or(-1);
        if after >= 0 {
            // When Go asks for events, we hold those that the recorded peer served.
            let id = serde_json::from_str::<Value>(&asked).unwrap()["id"].as_u64().unwrap();
            let served = wire::read_pulled(recorded.as_bytes(), id).unwrap();
            let last = served.events.last().map_or(0, |event| event.sequence.unsigned_abs());
            stand.hold(last, served.events);
        }
        let asked = asked.replace("\"1234\"", &format!("\"{code}\"")).replace(&"2".repeat(64), &token);
        let reply = stand.answer(&asked);
        if reply.contains("\"paired\"") {
            token = serde_json::from_str::<Value>(&reply).unwrap()["result"]["token"].as_str().unwrap().to_owned();
            assert_eq!(stand.auth.registry.find("box1").unwrap().address, "100.64.0.3:9100");
        }
        let mut expected: Value = serde_json::from_str(&recorded.replace(&"2".repeat(64), &token)).unwrap();
        if recorded.contains("\"more_available\":true") {
            // The recorded peer split its batch; we had no more events when Go asked.
            expected["result"]["more_available"] = false.into();
        }
        assert_eq!(as_go_says(&reply), expected, "{asked}");
    }
}

#[test]
fn we_ask_as_go_asks() {
    let token = Token::parse(&"2".repeat(64)).unwrap();
    let pull = |after| Call::Pull(Pull { after, max_batch: 1000, log: None, stored: None, references: None });
    let recorded: Vec<String> = go_calls().into_iter().map(|(_, asked, _)| asked).collect();
    let pair =
        Pair { code: "1234".into(), daemon_id: GO.into(), name: "box1".into(), address: "100.64.0.3:9100".into() };
    let ours = [
        pair.line(1),
        Call::Notify { latest: 7, count: 1, after: None, references: None }.line(2, GO, &token),
        pull(0).line(6, GO, &token),
        pull(2).line(8, GO, &token),
        pull(3).line(11, GO, &token),
    ];
    for line in ours {
        assert!(recorded.contains(&line), "{line}");
    }
}

#[test]
fn we_understand_every_reply_of_gos() {
    let (mut pulls, mut infos, mut errors) = (0, 0, 0);
    for (_, asked, reply) in go_serves() {
        let Some(id) = serde_json::from_str::<Value>(&asked).ok().and_then(|asked| asked["id"].as_u64()) else {
            continue;
        };
        let line = reply.as_bytes();
        let error = if asked.contains("sync.pull") {
            wire::read_pulled(line, id).map(|_| pulls += 1).err()
        } else if asked.contains("sync.peer_info") {
            wire::read_info(line, id)
                .map(|info| assert_eq!((info.name.as_str(), info.log, infos += 1), ("box1", None, ())))
                .err()
        } else if asked.contains("pair.request") {
            wire::read_paired(line, id).map(|paired| assert_eq!(paired.daemon_id, GO)).err()
        } else {
            wire::read_notified(line, id).err()
        };
        match error {
            Some(wire::BadReply::Error(error)) => {
                errors += 1;
                assert_eq!(name::printable(&error.message), error.message);
            }
            Some(other) => panic!("{reply}: {other}"),
            None => assert!(reply.contains("\"result\"")),
        }
    }
    assert_eq!((pulls, infos, errors), (5, 1, 12));
}

#[test]
fn a_replicator_reads_a_go_peer_to_its_end_and_stops() {
    let replies: Vec<String> =
        go_calls().into_iter().filter(|(_, asked, _)| asked.contains("sync.pull")).map(|(_, _, reply)| reply).collect();
    let (mut world, (stand, _)) = (World::new(1), Stand::new("d_me", "me"));
    let mut machine = Replicator::new("d_capturepeer2", None, Now::default());
    let mut step = |machine: &mut Replicator, input| machine.step(input, Now::default(), &mut world);
    step(&mut machine, Input::Timer);
    step(&mut machine, Input::Connected);
    let info = Info { daemon_id: "d_capturepeer2".into(), name: "capture-box".into(), ..Info::default() };
    let mut actions = step(&mut machine, Input::Replied(Ok(Reply::Info(Box::new(info)))));
    let mut read = Vec::new();
    for reply in &replies[..2] {
        let Some(Action::Send { call, .. }) = actions.pop() else { panic!("no pull") };
        let id = serde_json::from_str::<Value>(reply).unwrap()["id"].as_u64().unwrap();
        let Some(Action::Apply { log, checkpoint, events, .. }) =
            step(&mut machine, Input::Replied(call.read(reply.as_bytes(), id))).pop()
        else {
            panic!("nothing to store")
        };
        let batch = intake::batch("d_capturepeer2", &log, checkpoint, &events, &*stand.log).unwrap();
        assert_eq!(batch.rejected, []);
        read.extend(batch.events.into_iter().map(|event| event.kind));
        actions = step(&mut machine, Input::Applied(thrum_core::exchange::Applied::default()));
    }
    assert_eq!(read, ["agent.register", "agent.session.start", "message.create"]);
    assert_eq!(actions, []);
    assert_eq!((machine.status().ends, machine.status().checkpoint.clone()), (1, Some((String::new(), 3))));
}
