//! What a hostile peer makes the store do grows as what it sends, whatever it sends and in whichever order: ten times as much costs ten
//! times as much. Counted in rows changed and instructions run, not in time.

use serde_json::{Value, json};
use thrum_core::{Event, exchange::Batch};
use thrum_store::ops::Register;

use crate::kit::{self, Node, foreign};

const SIZES: [usize; 3] = [10, 100, 1000];

/// Ten times as much may cost a little more than ten times as much: trees get deeper, and statements are prepared once.
const DEEPER: f64 = 1.3;

fn event(n: usize, origin: &str, seconds: i64, kind: &'static str, payload: Value) -> Event {
    foreign(&format!("evt_{kind}_{origin}_{n:06}"), origin, seconds, kind, payload)
}

fn seconds(n: usize) -> i64 {
    i64::try_from(n).expect("small")
}

fn create(n: usize, origin: &str, when: i64, message: &str) -> Event {
    let body = json!({"message_id": message, "agent_id": "cy", "scopes": [{"type": "group", "value": "everyone"}]});
    event(n, origin, when, "message.create", body)
}

fn edit(n: usize) -> Event {
    event(n, "d_go", 2000 + seconds(n), "message.edit", json!({"message_id": "msg_1", "body": {"content": format!("edit {n}")}}))
}

fn receipt(n: usize) -> Event {
    let body = json!({"message_id": "msg_1", "agent_id": format!("reader{n}"), "receipt_type": "read"});
    event(n, "d_go", 2000, "message.receipt", body)
}

fn deletion(n: usize) -> Event {
    event(n, &format!("d_go{n}"), 2000 + seconds(n), "message.delete", json!({"message_id": "msg_1"}))
}

fn register(n: usize, when: i64, agent: &str, role: &str) -> Event {
    event(n, "d_go", when, "agent.register", json!({"agent_id": agent, "kind": "agent", "role": role, "module": "m"}))
}

fn start(n: usize, when: i64) -> Event {
    event(n, "d_go", when, "agent.session.start", json!({"session_id": "ses_1", "agent_id": "cy"}))
}

fn end(n: usize, when: i64) -> Event {
    event(n, "d_go", when, "agent.session.end", json!({"session_id": "ses_1", "reason": "r"}))
}

/// Rows changed and tens of instructions run by some batches, after others that are not counted.
fn cost(before: Vec<Vec<Event>>, attack: Vec<Vec<Event>>) -> [u64; 2] {
    let mut node = Node::new(1);
    node.world.set(kit::START + 90 * 24 * 3_600_000_000_000);
    for name in ["ann", "ben"] {
        let register = Register { name: name.into(), role: "coder".into(), module: name.into(), ..Register::default() };
        node.store.write(|tx| tx.register(register)).expect("registers");
    }
    let apply = |node: &mut Node, events| {
        let batch =
            Batch { peer: "d_peer".into(), log: String::new(), checkpoint: 1, checkpoint_event: String::new(), events, rejected: vec![] };
        node.store.apply(batch).expect("applies");
    };
    for events in before {
        apply(&mut node, events);
    }
    let (rows, effort) = (node.store.rows_changed(), node.store.count_effort().expect("counts"));
    for events in attack {
        apply(&mut node, events);
    }
    let spent = [node.store.rows_changed() - rows, effort.steps()];
    node.check();
    spent
}

/// The cost of a case in each size grows as the size does, or not at all where `grows` is false.
fn grows_as_it(name: &str, grows: bool, case: impl Fn(usize) -> (Vec<Vec<Event>>, Vec<Vec<Event>>)) {
    let costs = SIZES.map(|size| {
        let (before, attack) = case(size);
        cost(before, attack)
    });
    for (what, which) in [("rows", 0), ("steps", 1)] {
        for two in costs.windows(2) {
            let (less, more) = (two[0][which] as f64, two[1][which] as f64);
            let most = if grows { less * 10.0 * DEEPER } else { less * 2.0 + 100.0 };
            assert!(more <= most, "{name}: {what} of sizes {SIZES:?}: {:?}", costs.map(|cost| cost[which]));
        }
    }
}

fn each(events: impl Iterator<Item = Event>) -> Vec<Vec<Event>> {
    events.map(|event| vec![event]).collect()
}

/// P6
#[test]
fn what_waits_for_a_message_costs_the_same_each() {
    for (name, about) in [("receipts", receipt as fn(usize) -> Event), ("edits", edit), ("deletions", deletion)] {
        grows_as_it(name, true, |size| (vec![], vec![(0..size).map(about).collect(), vec![create(0, "d_go", 1000, "msg_1")]]));
        grows_as_it(name, true, |size| (vec![], vec![(0..size).map(about).chain([create(0, "d_go", 1000, "msg_1")]).collect()]));
    }
}

/// P6
#[test]
fn earlier_creations_cost_the_same_however_much_is_about_their_message() {
    for (name, about) in [("receipts", receipt as fn(usize) -> Event), ("edits", edit), ("deletions", deletion)] {
        let before = |size: usize| vec![vec![create(0, "d_go", 1000, "msg_1")], (0..size).map(about).collect::<Vec<_>>()];
        grows_as_it(name, false, |size| (before(size), each((1..20).map(|n| create(n, "d_go", 1000 - seconds(n), "msg_1")))));
        // As if each was another daemon's.
        let others = |n: usize| create(n, &format!("d_go{n}"), 1000 - seconds(n), "msg_1");
        grows_as_it(name, false, |size| (before(size.max(100)), each((1..20).map(others))));
    }
}

/// P6
#[test]
fn messages_to_everyone_cost_the_same_however_many_agents_a_peer_has() {
    let agents = |size: usize| (0..size).map(|n| register(n, 1, &format!("robot{n}"), "robot")).collect::<Vec<_>>();
    let mail = || (0..20).map(|n| create(n, "d_go", 1000 + seconds(n), &format!("msg_{n}"))).collect::<Vec<_>>();
    grows_as_it("agents, then mail", false, |size| (vec![agents(size)], vec![mail()]));
    grows_as_it("mail, then agents", true, |size| (vec![mail()], vec![agents(size)]));
}

/// P6
#[test]
fn registrations_of_one_agent_that_come_one_by_one_cost_the_same_each() {
    let roles = ["robot", "tester"];
    grows_as_it("later", true, |size| (vec![], each((0..size).map(|n| register(n, seconds(n), "cy", roles[n % 2])))));
    grows_as_it("earlier", true, |size| (vec![], each((0..size).map(|n| register(n, 2000 - seconds(n), "cy", roles[n % 2])))));
}

/// P6
#[test]
fn beginnings_and_ends_of_one_session_that_come_one_by_one_cost_the_same_each() {
    grows_as_it("later starts", true, |size| (vec![], each((0..size).map(|n| start(n, seconds(n))))));
    grows_as_it("earlier starts", true, |size| (vec![], each((0..size).map(|n| start(n, 2000 - seconds(n))))));
    let ends = |size: usize| (0..size).map(|n| end(n, 2000 - seconds(n)));
    grows_as_it("ends, then starts", true, |size| (vec![], each(ends(size).chain((0..size).map(|n| start(n, 900 - seconds(n)))))));
    grows_as_it("starts, then ends", true, |size| (vec![], each((0..size).map(|n| start(n, 900 - seconds(n))).chain(ends(size)))));
}
