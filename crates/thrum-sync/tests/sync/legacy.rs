//! Legacy peers among others: simulated, with all effects that Go Thrum v0.6.3 has on a log and its readers.
//! `THRUM_SEED=n` replays one seed.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Map, Value, json};
use thrum_core::{Timestamp, ids, ids::IdKind};
use thrum_store::ops::Heartbeat;
use thrum_sync::{Log, intake, protocol::wire::Served, transport::memory::Weather};

use crate::{
    go::{Go, Stop, go_time},
    life::REST,
    sim::Sim,
    simulation::seeds::{Replay, only_seed},
};

/// Creates two non-legacy daemons and a Go daemon that is paired with both.
fn three(seed: u64) -> Sim {
    let mut sim = Sim::new(seed, 2);
    sim.pair(0, 1);
    let go = sim.add_go();
    sim.pair_go(0, go);
    sim.pair_go(1, go);
    sim.run_for(Duration::from_secs(60));
    sim
}

pub fn say(sim: &mut Sim, text: &str) -> String {
    let at = sim.wall();
    let message_id = sim.gos[0].new_id(IdKind::Message, at);
    sim.go_writes(
        0,
        "message.create",
        json!({"message_id": message_id, "agent_id": "goagent", "body": {"format": "plain", "content": text}}),
    );
    message_id
}

/// Serves an event of a foreign daemon to one of ours.
fn smuggle(sim: &mut Sim, at: usize, n: usize, kind: &str, mut payload: Value) {
    let when = sim.wall();
    let event = payload.as_object_mut().unwrap();
    let id = format!("evt_stranger{n:04}");
    event.insert("v".into(), json!(1));
    let envelope = [Some(id), Some(kind.to_owned()), Some(go_time(when)), Some("d_stranger".to_owned())];
    let served = vec![Served { sequence: 1, envelope, event_json: payload.to_string(), reference: None }];
    sim.write(at, |log| log.apply(intake::batch("d_stranger", "", 0, &served, log).unwrap()).unwrap());
}

/// Returns the events that our daemons hold.
fn held(sim: &Sim) -> Vec<Map<String, Value>> {
    let page = sim.daemons[0].log.page(0, 1_000_000, 1 << 40).unwrap();
    page.rows.iter().map(|row| serde_json::from_str(&row.event_json()).unwrap()).collect()
}

fn text<'a>(event: &'a Map<String, Value>, key: &str) -> &'a str {
    event.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Asserts that Go has all events that it can have, and that we have its whole log except what was purged.
pub fn assert_exchanged(sim: &Sim, purged_before: Timestamp) {
    let ours = held(sim);
    for go in &sim.gos {
        let missing: Vec<_> = ours
            .iter()
            .filter(|event| !go.had.contains(text(event, "event_id")) && !rightly_withheld(go, event, &ours))
            .collect();
        assert!(missing.is_empty(), "{} lacks {missing:#?}", go.id);
        let held: BTreeSet<&str> = ours.iter().map(|event| text(event, "event_id")).collect();
        let purged = |id: &str| go.event(id).is_some_and(|event| is_older(event, purged_before));
        let lacking: Vec<String> =
            go.log().into_iter().filter(|id| !held.contains(id.as_str()) && !purged(id)).collect();
        assert!(lacking.is_empty(), "we lack {lacking:?} of {}", go.id);
    }
}

fn is_older(event: &Map<String, Value>, cutoff: Timestamp) -> bool {
    let made = |key| ids::ulid_time(text(event, key)).is_some_and(|made| made.millis() < cutoff.millis());
    made("message_id") || made("session_id") || Timestamp::parse(text(event, "timestamp")).unwrap() < cutoff
}

/// Returns `true` if Go could not apply the event, or has discarded it or its subject.
fn rightly_withheld(go: &Go, event: &Map<String, Value>, ours: &[Map<String, Value>]) -> bool {
    let is = |other: &Map<String, Value>, kind: &str, key: &str, value: &str| {
        text(other, "type") == kind && text(other, key) == value
    };
    let cleaned_up = |agent: &str| ours.iter().any(|other| is(other, "agent.cleanup", "agent_id", agent));
    let creations = ours.iter().filter(|other| is(other, "message.create", "message_id", text(event, "message_id")));
    let mut agents: Vec<&str> = creations.map(|creation| text(creation, "agent_id")).collect();
    if text(event, "type") != "message.receipt" {
        agents.push(text(event, "agent_id"));
    }
    agents.iter().any(|agent| agent.contains('/') || cleaned_up(agent))
        || go.is_purged(event)
        || go.check(event) == Err(Stop::ForEver)
        || text(event, "type") == "agent.update" && go.check(event).is_err()
}

#[test]
fn mail_travels_between_old_and_new_both_ways_and_then_there_is_quiet() {
    let mut sim = three(1);
    let (here, there) = (sim.say(0, "from us"), say(&mut sim, "from Go"));
    sim.run_for(Duration::from_secs(20));
    assert!(sim.gos[0].has_message(&here));
    assert!(sim.daemons.iter().all(|daemon| daemon.log.has_message(&there)));
    sim.run_for(REST);
    sim.assert_agreement();
    assert_exchanged(&sim, Timestamp::ZERO);
    sim.assert_quiet(20);
    assert!(sim.gos[0].stops.is_empty(), "{:?}", sim.gos[0].stops);
}

#[test]
fn what_an_old_peer_cannot_apply_does_not_reach_it_and_stops_nothing() {
    let mut sim = three(2);
    let receipt = |message: &str| json!({"message_id": message, "agent_id": "agent0", "receipt_type": "read"});
    smuggle(&mut sim, 0, 1, "message.pinned", json!({"message_id": "msg_x"}));
    smuggle(&mut sim, 0, 2, "message.create", json!({"message_id": "msg_1", "body": {"content": "by nobody"}}));
    smuggle(&mut sim, 1, 3, "message.create", json!({"message_id": "msg_2", "agent_id": "../../evil"}));
    smuggle(&mut sim, 1, 4, "message.receipt", receipt("msg_1"));
    smuggle(&mut sim, 0, 5, "message.edit", json!({"message_id": "msg_3", "body": {"content": "later"}}));
    let message = sim.say(0, "after all that");
    sim.run_for(Duration::from_secs(20));
    assert!(sim.gos[0].has_message(&message));
    assert!(!sim.gos[0].had.contains("evt_stranger0005"));
    smuggle(&mut sim, 1, 6, "message.create", json!({"message_id": "msg_3", "agent_id": "ann"}));
    sim.run_for(Duration::from_secs(20));
    assert!(sim.gos[0].had.contains("evt_stranger0005"), "it moved behind its message");
    sim.run_for(REST);
    sim.assert_agreement();
    assert_exchanged(&sim, Timestamp::ZERO);
    assert!(sim.gos[0].stops.is_empty() && sim.skipped().is_empty(), "{:?}", sim.gos[0].stops);
    sim.assert_quiet(20);
}

/// Go deletes an agent with its messages, and announces that only later.
#[test]
fn an_event_that_an_old_peer_refuses_all_the_same_is_skipped_for_it() {
    let mut sim = three(3);
    let message = sim.say(0, "read me");
    sim.run_for(Duration::from_secs(20));
    sim.gos[0].lose_message(&message);
    sim.write(1, |log| log.write(|tx| tx.mark_read("agent1", std::slice::from_ref(&message))).map(drop).unwrap());
    let after = sim.say(1, "after the refused one");
    sim.run_for(Duration::from_secs(400));
    assert!(sim.gos[0].has_message(&after));
    let skipped = sim.skipped();
    assert!(!skipped.is_empty() && skipped.iter().all(|skipped| skipped.r#type == "message.receipt"), "{skipped:?}");
}

#[test]
fn a_rebuilt_log_is_read_from_its_start_whether_it_is_shorter_or_longer_by_then() {
    for longer in [false, true] {
        let mut sim = three(4);
        (0..5).for_each(|n| drop(say(&mut sim, &format!("before {n}"))));
        sim.run_for(Duration::from_secs(300));
        sim.gos[0].lose_database();
        if longer {
            sim.gos[0].start(sim.tick);
            sim.network.cut(0, 2, true);
            sim.network.cut(1, 2, true);
            (0..40).for_each(|n| drop(say(&mut sim, &format!("meanwhile {n}"))));
            sim.network.heal();
        }
        sim.heal();
        let first = say(&mut sim, "the first of the new log");
        sim.run_for(REST);
        assert!(sim.daemons.iter().all(|daemon| daemon.log.has_message(&first)));
        sim.assert_agreement();
        assert_exchanged(&sim, Timestamp::ZERO);
        sim.assert_quiet(10);
    }
}

#[test]
fn a_restart_reads_an_old_peer_from_where_we_stood_and_not_from_its_start() {
    let mut sim = three(5);
    (0..50).for_each(|n| drop(say(&mut sim, &format!("{n}"))));
    sim.run_for(REST);
    say(&mut sim, "the last one");
    sim.run_for(Duration::from_secs(30));
    sim.crash(0);
    sim.traffic.clear();
    sim.start(0);
    sim.run_for(Duration::from_secs(5));
    let events = sim.traffic[&(2, 0)].events;
    assert!((1..10).contains(&events), "{events} events read again");
    sim.run_for(REST);
    sim.assert_agreement();
}

/// Simulates one history with a legacy peer: messages and faults, all from the seed.
fn live(seed: u64) {
    let mut sim = Sim::new(seed, 1);
    let count = 1 + sim.random(3);
    sim = Sim::new(seed.wrapping_mul(131).wrapping_add(17), count);
    for at in 1..count {
        let to = sim.random(at);
        sim.pair(to, at);
    }
    sim.add_go();
    let first = sim.random(count);
    for at in 0..count {
        if at == first || sim.random(2) == 0 {
            sim.pair_go(at, 0);
        }
    }
    let mut ours: Vec<(usize, String)> = Vec::new();
    let mut theirs: Vec<String> = Vec::new();
    let (mut purged_before, mut strangers) = (Timestamp::ZERO, 0);
    for _ in 0..40 {
        let at = sim.random(count);
        match sim.random(20) {
            0 => sim.crash(at),
            1 | 2 => sim.start(at),
            3 => {
                let (other, cut) = (sim.random(count + 1), sim.random(2) == 0);
                if other != at {
                    sim.network.cut(at, other, cut);
                }
            }
            4 => {
                let (loss, duplication) = (sim.random(20), sim.random(10));
                let latency = (Duration::from_millis(1), Duration::from_millis(1 + sim.random(300) as u64));
                sim.network.weather = Weather {
                    latency,
                    loss: u8::try_from(loss).unwrap(),
                    duplication: u8::try_from(duplication).unwrap(),
                };
            }
            5 => sim.gos[0].crash(),
            6 | 7 => sim.gos[0].start(sim.tick),
            8 if sim.random(3) == 0 => sim.gos[0].lose_database(),
            9 | 10 if sim.daemons[at].up && !ours.is_empty() => {
                let (author, message) = ours[sim.random(ours.len())].clone();
                let agent = format!("agent{at}");
                if sim.daemons[at].log.has_message(&message) {
                    sim.write(at, |log| {
                        log.write(|tx| match author == at {
                            true => tx.edit(&agent, &message, Some("something else".into()), None).map(drop),
                            false => tx.mark_read(&agent, &[message]).map(drop),
                        })
                        .unwrap();
                    });
                }
            }
            11 if sim.daemons[at].up => {
                let (agent, goes_on) = (format!("agent{at}"), sim.random(2) == 0);
                sim.write(at, |log| {
                    let open = log.write(|tx| tx.reader().open_session(&agent)).unwrap().filter(|_| goes_on);
                    log.write(|tx| {
                        let session = match open {
                            Some(session) => session,
                            None => tx.start_session(&agent, Heartbeat::default())?.0,
                        };
                        tx.set_intent(&session, if goes_on { "go on" } else { "begin" })
                    })
                    .map(drop)
                    .unwrap();
                });
            }
            12 if sim.daemons[at].up && sim.random(4) == 0 => {
                let before = sim.some_time_ago();
                sim.write(at, |log| log.write(|tx| tx.purge(before)).map(drop).unwrap());
                purged_before = purged_before.max(before);
            }
            13 if sim.daemons[at].up => {
                strangers += 1;
                let target = format!("msg_s{}", sim.random(6));
                let (kind, payload) = match sim.random(6) {
                    0 => ("message.pinned", json!({"message_id": target})),
                    1 => ("message.create", json!({"message_id": target, "body": {}})),
                    2 => ("message.create", json!({"message_id": target, "agent_id": "../x"})),
                    3 => ("message.create", json!({"message_id": target, "agent_id": "stranger"})),
                    4 => (
                        "message.receipt",
                        json!({"message_id": target, "agent_id": "goagent", "receipt_type": "read"}),
                    ),
                    _ => ("message.edit", json!({"message_id": target, "body": {"content": "edited"}})),
                };
                smuggle(&mut sim, at, strangers, kind, payload);
            }
            14 | 15 if sim.gos[0].up => {
                if let Some((message, own)) = sim.gos[0].any_message() {
                    let (kind, payload) = match own {
                        true => ("message.edit", json!({"message_id": message, "body": {"content": "edited there"}})),
                        false => (
                            "message.receipt",
                            json!({"message_id": message, "agent_id": "goagent", "receipt_type": "read"}),
                        ),
                    };
                    sim.go_writes(0, kind, payload);
                }
            }
            16 if sim.gos[0].up && sim.random(3) == 0 => {
                sim.go_writes(0, "agent.cleanup", json!({"agent_id": "goagent"}))
            }
            17 | 18 if sim.gos[0].up => theirs.push(say(&mut sim, "from there")),
            _ if sim.daemons[at].up => ours.push((at, sim.say(at, "something"))),
            _ => {}
        }
        let pause = Duration::from_millis(sim.random(4_000) as u64);
        sim.run_for(pause);
    }
    sim.heal();
    sim.run_for(REST);
    sim.assert_agreement();
    assert_exchanged(&sim, purged_before);
    assert_eq!(sim.skipped(), [], "nothing had to be found out by being refused");
    for (_, message) in &ours {
        let is_old = ids::ulid_time(message).unwrap().millis() < purged_before.millis();
        assert!(
            sim.daemons.iter().all(|daemon| daemon.log.has_message(message) != is_old),
            "{message} was acknowledged; purged: {is_old}"
        );
    }
    sim.assert_quiet(10);
}

#[test]
fn after_any_trouble_with_an_old_peer_all_have_what_they_can_have_seeds_1_to_80() {
    for seed in only_seed().map_or(1..81, |seed| seed..seed + 1) {
        let _replay = Replay(seed, "legacy");
        live(seed);
    }
}
