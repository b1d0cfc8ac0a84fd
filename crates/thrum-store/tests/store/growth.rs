//! The work that a hostile peer causes grows linearly with its input, whatever it sends and in any order: ten times as
//! much input costs ten times as much. Measured in rows changed and instructions run, not in time.

use serde_json::{Value, json};
use thrum_core::{Event, Timestamp, exchange::Batch};

use crate::kit::{self, Node, foreign};

const SIZES: [usize; 3] = [10, 100, 1000];

/// Ten times as much may cost slightly more than ten times as much: trees get deeper, and statements are prepared once.
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
    event(
        n,
        "d_go",
        2000 + seconds(n),
        "message.edit",
        json!({"message_id": "msg_1", "body": {"content": format!("edit {n}")}}),
    )
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

/// Maximum number of rows that one transaction may change, including changes by triggers: a piece of a hundred events
/// or rows, and about ten rows for each.
const OF_ONE_TRANSACTION: u64 = 1500;

/// The measured cost: rows changed, tens of instructions run, and rows changed by the largest transaction.
type Cost = [u64; 3];

fn serve(node: &mut Node, batches: Vec<Vec<Event>>) {
    for events in batches {
        let batch = Batch {
            peer: "d_peer".into(),
            log: String::new(),
            checkpoint: 1,
            checkpoint_event: String::new(),
            events,
            rejected: vec![],
        };
        node.store.apply(batch).expect("applies");
    }
}

/// The cost for a daemon with two agents, three months after the start.
fn cost(before: impl FnOnce(&mut Node), attack: impl FnOnce(&mut Node)) -> Cost {
    let mut node = Node::new(1);
    node.world.set(kit::START + 90 * 24 * 3_600_000_000_000);
    node.register("ann", "coder");
    node.register("ben", "coder");
    before(&mut node);
    let (rows, effort) = (node.store.rows_changed(), node.store.count_effort().expect("counts"));
    attack(&mut node);
    let spent = [node.store.rows_changed() - rows, effort.steps(), effort.largest()];
    node.check();
    spent
}

/// Checks that the cost of some batches after others grows linearly with the size of the case, or not at all if `grows`
/// is false.
fn grows_as_it(name: &str, grows: bool, case: impl Fn(usize) -> (Vec<Vec<Event>>, Vec<Vec<Event>>)) {
    costs_grow(name, grows, |size| {
        let (before, attack) = case(size);
        cost(|node| serve(node, before), |node| serve(node, attack))
    });
}

/// The same check for any cost. No transaction grows with the case.
fn costs_grow(name: &str, grows: bool, case: impl Fn(usize) -> Cost) {
    let costs = SIZES.map(case);
    let largest = costs.map(|cost| cost[2]);
    assert!(
        largest.iter().all(|rows| *rows <= OF_ONE_TRANSACTION),
        "{name}: rows of one transaction in sizes {SIZES:?}: {largest:?}"
    );
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
fn each_event_that_waits_for_a_message_costs_the_same() {
    for (name, about) in [("receipts", receipt as fn(usize) -> Event), ("edits", edit), ("deletions", deletion)] {
        grows_as_it(name, true, |size| {
            (vec![], vec![(0..size).map(about).collect(), vec![create(0, "d_go", 1000, "msg_1")]])
        });
        grows_as_it(name, true, |size| {
            (vec![], vec![(0..size).map(about).chain([create(0, "d_go", 1000, "msg_1")]).collect()])
        });
    }
}

/// P6
#[test]
fn earlier_creations_cost_the_same_for_any_number_of_events_about_their_message() {
    for (name, about) in [("receipts", receipt as fn(usize) -> Event), ("edits", edit), ("deletions", deletion)] {
        let before =
            |size: usize| vec![vec![create(0, "d_go", 1000, "msg_1")], (0..size).map(about).collect::<Vec<_>>()];
        grows_as_it(name, false, |size| {
            (before(size), each((1..20).map(|n| create(n, "d_go", 1000 - seconds(n), "msg_1"))))
        });
        // Each as if by another daemon.
        let others = |n: usize| create(n, &format!("d_go{n}"), 1000 - seconds(n), "msg_1");
        grows_as_it(name, false, |size| (before(size.max(100)), each((1..20).map(others))));
    }
}

/// P6
#[test]
fn messages_to_everyone_cost_the_same_for_any_number_of_remote_agents() {
    let agents = |size: usize| (0..size).map(|n| register(n, 1, &format!("robot{n}"), "robot")).collect::<Vec<_>>();
    let mail = || (0..20).map(|n| create(n, "d_go", 1000 + seconds(n), &format!("msg_{n}"))).collect::<Vec<_>>();
    grows_as_it("agents, then mail", false, |size| (vec![agents(size)], vec![mail()]));
    grows_as_it("mail, then agents", true, |size| (vec![mail()], vec![agents(size)]));
}

/// P6
#[test]
fn each_repeated_registration_of_an_agent_costs_the_same() {
    let roles = ["robot", "tester"];
    grows_as_it("later", true, |size| (vec![], each((0..size).map(|n| register(n, seconds(n), "cy", roles[n % 2])))));
    grows_as_it("earlier", true, |size| {
        (vec![], each((0..size).map(|n| register(n, 2000 - seconds(n), "cy", roles[n % 2]))))
    });
}

/// P6
#[test]
fn each_repeated_start_and_end_of_a_session_costs_the_same() {
    grows_as_it("later starts", true, |size| (vec![], each((0..size).map(|n| start(n, seconds(n))))));
    grows_as_it("earlier starts", true, |size| (vec![], each((0..size).map(|n| start(n, 2000 - seconds(n))))));
    let ends = |size: usize| (0..size).map(|n| end(n, 2000 - seconds(n)));
    grows_as_it("ends, then starts", true, |size| {
        (vec![], each(ends(size).chain((0..size).map(|n| start(n, 900 - seconds(n))))))
    });
    grows_as_it("starts, then ends", true, |size| {
        (vec![], each((0..size).map(|n| start(n, 900 - seconds(n))).chain(ends(size))))
    });
}

fn update(n: usize, when: i64, session: &str) -> Event {
    let body = json!({"agent_id": "cy", "work_contexts": [{"session_id": session, "intent": format!("intent {n}")}]});
    event(n, "d_go", when, "agent.update", body)
}

/// P6
#[test]
fn each_work_context_costs_the_same_for_any_number_of_them() {
    let sessions = |size: usize| (0..size).map(|n| update(n, 100, &format!("ses_{n}")));
    grows_as_it("of many sessions", true, |size| (vec![], each(sessions(size))));
    grows_as_it("later, of one session", true, |size| {
        (vec![], each((0..size).map(|n| update(n, seconds(n), "ses_1"))))
    });
    grows_as_it("earlier, of one session", true, |size| {
        (vec![], each((0..size).map(|n| update(n, 2000 - seconds(n), "ses_1"))))
    });
    let late = |size: usize| (0..20).map(move |n| update(size + n, 200 + seconds(n), "ses_1"));
    grows_as_it("one of many", false, |size| (vec![sessions(size).collect()], each(late(size))));
    // One update is one event, which bounds its size.
    let many = |size: usize| {
        let contexts: Vec<Value> =
            (0..size).map(|n| json!({"session_id": format!("ses_{n}"), "intent": "x"})).collect();
        event(0, "d_go", 100, "agent.update", json!({"agent_id": "cy", "work_contexts": contexts}))
    };
    grows_as_it("in one update", true, |size| (vec![], vec![vec![many(size)]]));
}

/// P6
#[test]
fn the_number_of_changed_rows_does_not_depend_on_the_size_of_a_message() {
    let big = |n: usize, size: usize| {
        let body =
            json!({"message_id": format!("msg_{n}"), "agent_id": "cy", "body": {"content": "x".repeat(size * 1000)}});
        event(n, "d_go", 1000 + seconds(n), "message.create", body)
    };
    grows_as_it("contents", false, |size| (vec![], each((0..5).map(|n| big(n, size)))));
    let said = |n: usize, size: usize| {
        let body = json!({"message_id": "msg_1", "body": {"content": "x".repeat(size * 1000)}});
        event(n, "d_go", 2000 + seconds(n), "message.edit", body)
    };
    let message = || vec![vec![create(0, "d_go", 1000, "msg_1")]];
    grows_as_it("edits", false, |size| (message(), each((0..5).map(|n| said(n, size)))));
    grows_as_it("edits that wait", false, |size| (each((0..5).map(|n| said(n, size))), message()));
}

fn to(agent: &str, n: usize, when: i64) -> Event {
    let body = json!({"message_id": format!("msg_{agent}_{n}"), "agent_id": "cy", "recipients": [agent]});
    event(n, &format!("d_go_{agent}"), when, "message.create", body)
}

/// P6
#[test]
fn each_message_to_an_agent_costs_the_same_for_any_size_of_its_mailbox() {
    grows_as_it("one by one", true, |size| (vec![], each((0..size).map(|n| to("ann", n, 1000 + seconds(n))))));
    let new = |size: usize| (0..20).map(move |n| to("ann", size + n, 5000 + seconds(n)));
    grows_as_it("after many", false, |size| {
        (vec![(0..size).map(|n| to("ann", n, 1000 + seconds(n))).collect()], each(new(size)))
    });
}

/// P6
#[test]
fn filling_and_emptying_a_mailbox_cost_the_same_per_message_in_bounded_transactions() {
    let mail = |size: usize| {
        vec![(0..size).flat_map(|n| [to("dan", n, 1000), create(n, "d_go", 1001, &format!("msg_{n}"))]).collect()]
    };
    let early = |node: &mut Node| node.world.set(kit::START);
    let register = |node: &mut Node, role: &str| node.register("dan", role);
    costs_grow("the first registration", true, |size| {
        cost(|node| serve(node, mail(size)), |node| register(node, "coder"))
    });
    let registered = |node: &mut Node, size: usize| {
        early(node);
        register(node, "coder");
        node.world.set(kit::START + 3_600_000_000_000);
        serve(node, mail(size));
    };
    costs_grow("another role", true, |size| cost(|node| registered(node, size), |node| register(node, "tester")));
    let delete = |node: &mut Node| {
        node.store.write(|tx| tx.delete_agent("dan", None)).expect("deletes");
    };
    costs_grow("a clean-up", true, |size| cost(|node| registered(node, size), delete));
}

/// P6
#[test]
fn a_purge_costs_the_same_per_event_in_bounded_transactions() {
    let purge = |node: &mut Node| {
        let cutoff = Timestamp::from_nanos(kit::START + 80 * 24 * 3_600_000_000_000);
        node.store.write(|tx| tx.purge(cutoff)).expect("purges");
    };
    let case = |name: &str, grows: bool, made: &dyn Fn(usize) -> Vec<Event>| {
        costs_grow(name, grows, |size| cost(|node| serve(node, vec![made(size)]), purge));
    };
    case("messages", true, &|size| {
        (0..size).flat_map(|n| [to("ann", n, 1000), create(n, "d_go", 1000, &format!("msg_{n}"))]).collect()
    });
    let timed = |n: usize| format!("msg_01KMTPH8JR{n:016}");
    case("messages that say their time", true, &|size| (0..size).map(|n| create(n, "d_go", 1000, &timed(n))).collect());
    let read = |n: usize, message: &str| {
        let body = json!({"message_id": message, "agent_id": format!("reader{n}"), "receipt_type": "read"});
        event(n, "d_go", 2000, "message.receipt", body)
    };
    case("receipts", true, &|size| {
        (0..size).map(|n| read(n, &timed(0))).chain([create(0, "d_go", 1000, &timed(0))]).collect()
    });
    case("sessions", true, &|size| {
        let of =
            |n: usize| [("agent.session.start", 10), ("agent.session.end", 20)].map(|(kind, when)| (n, kind, when));
        let made =
            |(n, kind, when)| event(n, "d_go", when, kind, json!({"session_id": format!("ses_{n}"), "agent_id": "cy"}));
        (0..size).flat_map(of).map(made).collect()
    });
    case("work contexts", true, &|size| (0..size).map(|n| update(n, 100, &format!("ses_{n}"))).collect());
    let years = 20 * 365 * 24 * 3600;
    case("what stays", true, &|size| (0..size).map(|n| create(n, "d_go", years, &format!("msg_{n}"))).collect());
}

/// P6
#[test]
fn each_of_many_purges_due_at_one_time_costs_the_same_in_bounded_transactions() {
    let day = 24 * 3600;
    let cutoff =
        |n: usize| Timestamp::from_nanos(kit::START + (90 * day + 3600) * 1_000_000_000 + seconds(n)).to_string();
    let purge = |n: usize| event(n, &format!("d_go{n}"), 91 * day, "purge.executed", json!({"cutoff": cutoff(n)}));
    let stays = || (0..1000).map(|n| create(n, "d_other", 5000 * day, &format!("msg_{n}"))).collect::<Vec<_>>();
    let due = |node: &mut Node| {
        node.world.set(kit::START + 92 * day * 1_000_000_000);
        assert!(node.store.fold_due().expect("folds") > 0);
    };
    costs_grow("purges", true, |size| cost(|node| serve(node, vec![stays(), (0..size).map(purge).collect()]), due));
}
