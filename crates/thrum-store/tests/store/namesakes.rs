//! Agents of one name at several daemons: the recipients of a message, and the owners of old mail.

use serde_json::json;
use thrum_core::{ErrorKind, Machines, Timestamp};
use thrum_store::ops::{Adopted, Send, Takeover};

use crate::{
    acts::{refusal, send},
    kit::{self, Node, foreign},
};

/// Two daemons that know each other; `ben` is at the first, `ann` at both.
fn two() -> (Node, Node) {
    let (mut here, mut there) = (Node::new(1), Node::new(2));
    here.register("ben", "coder");
    here.register("ann", "coder");
    there.register("ann", "coder");
    here.pull(&there, 0);
    there.pull(&here, 0);
    (here, there)
}

/// The local names of the daemons.
fn machines(here: &Node, others: &[(&Node, &str)]) -> Machines {
    let homes: Vec<(String, &str)> = others.iter().map(|(node, name)| (node.home(), *name)).collect();
    Machines::new((&here.home(), "here"), homes.iter().map(|(id, name)| (id.as_str(), *name)))
}

fn texts(node: &Node, agent: &str) -> Vec<String> {
    node.inbox(agent).into_iter().map(|(text, _)| text).collect()
}

#[test]
fn a_message_goes_to_the_agent_at_the_addressed_machine() {
    let (mut here, mut there) = two();
    let to = |address: &str, text: &str| Send {
        machines: machines(&here, &[(&there, "desk")]),
        ..send("ben", &[address], text)
    };
    let (bare, near, far) = (to("@ann", "bare"), to("@ann@here", "near"), to("ann@desk", "far"));
    let bare = here.store.write(|tx| tx.send(bare)).expect("sends");
    assert!(
        bare.warnings
            .iter()
            .any(|warning| warning.contains("@ann is the agent of this machine") && warning.contains("@ann@desk")),
        "{bare:?}"
    );
    let sent = [near, far].map(|send| here.store.write(|tx| tx.send(send)).expect("sends"));
    let homes: Vec<_> =
        sent.iter().map(|sent| sent.mailboxes.iter().map(|mailbox| mailbox.home.clone()).collect::<Vec<_>>()).collect();
    assert_eq!(homes, [[here.home()], [there.home()]]);
    there.pull(&here, 0);
    assert_eq!((texts(&here, "ann"), texts(&there, "ann")), (vec!["bare".into(), "near".into()], vec!["far".into()]));
    for node in [&mut here, &mut there] {
        node.check();
    }
}

#[test]
fn a_bare_name_of_two_remote_agents_is_an_error_that_lists_both() {
    let (here, there) = two();
    let mut third = Node::new(3);
    third.register("cy", "coder");
    third.pull(&here, 0);
    third.pull(&there, 0);
    let names = machines(&third, &[(&here, "left"), (&there, "right")]);
    let bare = Send { machines: names.clone(), ..send("cy", &["ann"], "which?") };
    let error = refusal(third.store.write(|tx| tx.send(bare)));
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("@ann@left") && error.message.contains("@ann@right"), "{error}");
    for (address, kind) in [
        ("@ann@nowhere", ErrorKind::NotFound),
        ("@ben@right", ErrorKind::NotFound),
        ("@coder@left", ErrorKind::NotFound),
    ] {
        let send = Send { machines: names.clone(), ..send("cy", &[address], "x") };
        assert_eq!(refusal(third.store.write(|tx| tx.send(send))).kind, kind, "{address}");
    }
    // A daemon behind a peer is named by its announced name and a part of its id; the whole id works, too.
    let by_id = Send { machines: names, ..send("cy", &[&format!("ann@{}", there.home())], "by id") };
    assert_eq!(third.store.write(|tx| tx.send(by_id)).expect("sends").mailboxes[0].home, there.home());
}

#[test]
fn an_answer_goes_to_the_home_of_the_author() {
    let (mut here, mut there) = two();
    let ask = Send { machines: machines(&there, &[(&here, "left")]), ..send("ann", &["ben"], "question") };
    let parent = there.store.write(|tx| tx.send(ask)).expect("sends").message_id;
    here.pull(&there, 0);
    let answer = Send { reply_to: Some(parent), to_parent_audience: true, ..send("ben", &[], "answer") };
    let sent = here.store.write(|tx| tx.send(answer)).expect("sends");
    assert_eq!(sent.mailboxes.iter().map(|mailbox| mailbox.home.clone()).collect::<Vec<_>>(), [there.home()]);
    there.pull(&here, 0);
    assert_eq!((texts(&here, "ann"), texts(&there, "ann")), (vec![], vec!["answer".into()]));
}

#[test]
fn a_new_agent_of_an_existing_name_starts_with_an_empty_inbox() {
    let (mut here, there) = two();
    let old = Send { machines: machines(&here, &[(&there, "desk")]), ..send("ben", &["ann@desk"], "to the other ann") };
    here.store.write(|tx| tx.send(old)).expect("sends");
    here.apply(&[foreign(
        "evt_go",
        "d_go",
        50,
        "message.create",
        json!({"message_id": "msg_go", "agent_id": "x", "recipients": ["ann"], "body": {"content": "by name"}}),
    )]);
    let mut third = Node::new(3);
    third.pull(&here, 0);
    third.world.pass(std::time::Duration::from_secs(3600));
    third.register("ann", "coder");
    assert_eq!(texts(&third, "ann"), Vec::<String>::new());
    third.check();
}

/// A registration of `ann` at a daemon that signs nothing.
fn registered(id: &str, origin: &str, seconds: i64) -> thrum_core::Event {
    foreign(id, origin, seconds, "agent.register", json!({"agent_id": "ann", "role": "coder"}))
}

fn by_name(id: &str, seconds: i64) -> thrum_core::Event {
    let body =
        json!({"message_id": format!("msg_{id}"), "agent_id": "x", "recipients": ["ann"], "body": {"content": id}});
    foreign(&format!("evt_{id}"), "d_go", seconds, "message.create", body)
}

/// The homes that a message reached.
fn homes(node: &Node, id: &str) -> Vec<String> {
    let message = node.store.reader().message(&format!("msg_{id}"), None).expect("reads").expect("is here");
    message.recipients.into_iter().filter_map(|recipient| recipient.home).collect()
}

#[test]
fn mail_by_name_goes_to_the_agents_registered_then_or_to_the_first_one_afterwards() {
    let mut node = Node::new(1);
    node.apply(&[
        by_name("early", 5),
        registered("evt_a", "d_a", 10),
        by_name("between", 15),
        registered("evt_b", "d_b", 20),
        by_name("both", 25),
        foreign("evt_c", "d_a", 30, "agent.cleanup", json!({"agent_id": "ann"})),
        by_name("after", 35),
    ]);
    // The agent of d_a is gone now, and with it the mail that only it had.
    assert_eq!(
        ["early", "between", "both", "after"].map(|id| homes(&node, id)),
        [vec![], vec![], vec!["d_b".to_owned()], vec!["d_b".to_owned()]]
    );
    node.apply(&[registered("evt_d", "d_a", 40)]);
    assert_eq!(
        ["early", "between", "both", "after"].map(|id| homes(&node, id).len()),
        [1, 1, 2, 1],
        "registered again at its home, it has its mail again"
    );
    // An earlier registration that arrives late gets the mail from a time at which the name was unregistered.
    node.apply(&[registered("evt_e", "d_c", 4)]);
    assert_eq!(homes(&node, "early"), ["d_c"]);
    node.check();
}

#[test]
fn mail_that_names_a_former_home_reaches_the_agent_at_its_current_home() {
    let mut node = Node::new(1);
    node.apply(&[registered("evt_a", "d_old", 10)]);
    node.world.pass(std::time::Duration::from_secs(60));
    node.register("ann", "coder");
    let takeover = Takeover {
        former_homes: vec!["d_old".into()],
        agents: vec!["ann".into()],
        latest: Timestamp::from_nanos(kit::START + 10_000_000_000),
    };
    assert_eq!(node.store.write(|tx| tx.adopt("ann", &takeover)).expect("adopts"), Adopted::Taken(0));
    let late = json!({"message_id": "msg_late", "agent_id": "x", "recipients": ["ann"], "recipient_homes": {"d_old": ["ann"]}, "body": {"content": "late"}});
    node.apply(&[foreign("evt_late", "d_third", 4_000_000, "message.create", late)]);
    assert_eq!(texts(&node, "ann"), ["late"], "its author did not know of the move");
    node.check();
}
