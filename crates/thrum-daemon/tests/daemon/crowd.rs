//! As many agents as any repository has.

use serde_json::json;

use crate::harness::{Client, Daemon, World};

const AGENTS: usize = 200;

/// C39: two hundred agents wait, each on its own connection, and work on another one. Mail wakes only its recipient;
/// mail for everyone wakes all agents.
#[test]
fn two_hundred_agents_wait_and_each_is_woken_by_its_own_mail() {
    let world = World::new();
    let daemon = Daemon::start(&world.repo("r"));
    let name = |n: usize| format!("agent{n}");
    (0..AGENTS).for_each(|n| daemon.agent(&name(n), "builder"));
    daemon.agent("boss", "planner");
    let wait = |client: &mut Client, n: usize| {
        client.request("message.wait", json!({"caller_agent_id": name(n), "timeout_ms": 600_000}))
    };
    let mut waiting: Vec<Client> = (0..AGENTS).map(|_| daemon.client()).collect();
    let mut working: Vec<Client> = (0..AGENTS).map(|_| daemon.client()).collect();
    (0..AGENTS).for_each(|n| wait(&mut waiting[n], n));
    for (n, client) in working.iter_mut().enumerate() {
        let to = (n + 1) % AGENTS;
        let send =
            json!({"content": format!("from {n}"), "mentions": [format!("@{}", name(to))], "caller_agent_id": name(n)});
        let sent = client.ok("message.send", send);
        let woken = waiting[to].answer().unwrap();
        assert_eq!((&woken["unread"], &woken["messages"][0]["message_id"]), (&json!(1), &sent["message_id"]));
        let read = json!({"message_ids": [sent["message_id"]], "caller_agent_id": name(to)});
        waiting[to].ok("message.markRead", read);
        wait(&mut waiting[to], to);
    }
    let sent =
        daemon.call("message.send", json!({"content": "to all", "mentions": ["@everyone"], "caller_agent_id": "boss"}));
    for client in &mut waiting {
        let woken = client.answer().unwrap();
        assert_eq!((&woken["unread"], &woken["messages"][0]["message_id"]), (&json!(1), &sent["message_id"]));
    }
}
