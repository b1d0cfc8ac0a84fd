//! Statements that run for every message are parsed once. SQLite parses a cached statement again at each use if its
//! plan depends on a bound value, as that of many statements that sort does; this cost 8 % of the daemon's time under
//! load.

use serde_json::json;
use thrum_core::limits;
use thrum_store::query::Mailbox;

use crate::kit::{self, Node};

#[test]
fn no_statement_for_a_message_is_parsed_again() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.register("ben", "reviewer");
    node.store.write(|tx| tx.start_session("ann", thrum_store::ops::Heartbeat::default()).map(drop)).expect("starts");
    let effort = node.store.count_effort().expect("counts");
    let mut round = |n: usize| {
        let sent = node.send("ann", &["@ben"], "hello").message_id;
        node.store.write(|tx| tx.mark_read("ben", &[sent])).expect("marks");
        let about = json!({"message_id": format!("msg_{n}"), "agent_id": "cy", "recipients": ["ann"]});
        node.apply(&[kit::foreign(&format!("evt_{n}"), "d_go", 600 + n as i64, "message.create", about)]);
        let reader = node.store.reader();
        let home = node.home();
        let mailbox = Mailbox { agent_id: "ann".into(), home: home.clone() };
        reader.page(0, limits::MAX_BATCH_EVENTS, limits::MAX_BATCH_BYTES).expect("reads");
        reader.mail_count(&mailbox).expect("counts");
        reader.agent("ann", &home).expect("reads");
        reader.newest_session("ann", &home).expect("reads");
        reader.presence(&mailbox).expect("reads");
        reader.agent_served_by("ann", &home).expect("reads");
        reader.heads().expect("reads");
    };
    (0..3).for_each(&mut round);
    assert!(!effort.take_parsed().is_empty(), "the first time, they are parsed");
    (3..6).for_each(&mut round);
    assert_eq!(effort.take_parsed(), [].into(), "the tables of the statements that were parsed again");
}
