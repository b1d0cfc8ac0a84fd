//! Origins that no Thrum ever had: SQL and Rust must determine the same signer for them.

use thrum_core::{Event, Timestamp};

use crate::kit::{self, Node};

/// An event as if it had been admitted, with any origin.
fn of(origin: &str) -> Event {
    let body = serde_json::json!({"event_id": "evt_1", "type": "odd", "origin_daemon": origin}).to_string();
    Event {
        id: "evt_1".into(),
        kind: "odd".into(),
        at: Timestamp::from_nanos(kit::START),
        origin: origin.into(),
        log: String::new(),
        seq: 0,
        body,
    }
}

/// C29: the database determines by its own rule the signer under which an event is stored. If that rule differed from
/// Rust's, a stored event would be treated as new, refused by the database, and requested again for ever.
#[test]
fn c29_sql_and_rust_derive_the_same_signer_from_every_origin() {
    let shape = format!("d_k{}", "a".repeat(52));
    let real = kit::key(1).id().to_string();
    let origins = [
        String::new(),
        "d_go".into(),
        shape.clone(),
        real.clone(),
        // Spare bits set, as in no key.
        format!("{}b", &shape[..54]),
        format!("{shape}\0x"),
        format!("{shape}\0"),
        format!("{}\0", &shape[..54]),
        format!("{}\0{}", &shape[..20], &shape[21..]),
        format!("\0{shape}"),
        format!("d_k\0{}", &shape[4..]),
        // The same number of characters, and the same number of bytes.
        format!("{}é", &shape[..54]),
        format!("{}é", &shape[..53]),
        format!("{}\u{1f980}", &shape[..51]),
        format!("D_k{}", &shape[3..]),
        shape.to_uppercase(),
        format!("{}1", &shape[..54]),
        format!("{}`", &shape[..54]),
        format!("{}{{", &shape[..54]),
        format!("{} ", &shape[..54]),
        format!("{}\n", &shape[..54]),
        format!("{shape}a"),
        shape[..54].to_owned(),
    ];
    for origin in &origins {
        let mut node = Node::new(1);
        let event = of(origin);
        assert_eq!(node.apply(std::slice::from_ref(&event)).applied, 1);
        let sql: String = rusqlite::Connection::open(node.path())
            .and_then(|conn| conn.query_row("SELECT signer FROM events", [], |row| row.get(0)))
            .expect("reads");
        assert_eq!(sql, event.signer(), "{origin:?}");
        assert_eq!(node.apply(&[event]).skipped, 1, "{origin:?} again");
        node.check();
    }
}
