//! Records of purged origin sequences, and rebuilds after rows were lost: the cost of both is bounded by the size of
//! the data.

use thrum_core::{Event, Timestamp, compare::LogOf, limits};

use crate::kit::{self, Node};

/// An old event of an origin without a key, as a peer serves it: already purged.
fn old(origin: &str, number: u64) -> Event {
    let body =
        serde_json::json!({"event_id": format!("evt_{origin}_{number}"), "type": "agent.update", "origin_daemon": origin}).to_string();
    Event {
        id: format!("evt_{origin}_{number}"),
        kind: "agent.update".into(),
        at: Timestamp::from_nanos(kit::START - 1_000_000_000),
        origin: origin.into(),
        log: "7".into(),
        seq: number,
        body,
    }
}

fn kept_out(node: &Node, origin: &str) -> usize {
    let of = LogOf { origin: origin.into(), log: "7".into() };
    node.store.reader().numbers(&of, 0, usize::MAX).expect("reads").purged.len()
}

fn purged_node() -> Node {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    for origin in ["d_far", "d_near"] {
        let kept = Event { at: Timestamp::from_nanos(kit::START + 1), ..old(origin, 1) };
        assert_eq!(node.apply(&[kept]).applied, 1);
    }
    node.store.write(|tx| tx.purge(Timestamp::from_nanos(kit::START))).expect("purges");
    node
}

/// C20: a peer that serves purged events with arbitrary origin sequences causes a bounded number of rows, and none for
/// logs of which no event is held.
#[test]
fn invented_origin_sequences_are_recorded_up_to_a_bound() {
    let mut node = purged_node();
    let sparse =
        |origin: &str, from: u64| -> Vec<Event> { (from..from + 500).map(|n| old(origin, 10 + 2 * n)).collect() };
    for batch in 0..2 * limits::MAX_KEPT_OUT_RUNS as u64 / 500 {
        assert_eq!(node.apply(&sparse("d_far", batch * 500)).skipped, 500);
        assert!(kept_out(&node, "d_far") <= limits::MAX_KEPT_OUT_RUNS);
    }
    assert_eq!(kept_out(&node, "d_far"), limits::MAX_KEPT_OUT_RUNS);
    node.apply(&sparse("d_near", 0));
    assert_eq!(kept_out(&node, "d_near"), 500, "another log has room of its own");
    node.apply(&sparse("d_stranger", 0));
    assert_eq!(kept_out(&node, "d_stranger"), 0, "nothing is held of it");
}

/// Runs grow and merge as if all had been added at once.
#[test]
fn adjacent_purged_origin_sequences_become_one_range() {
    let mut node = purged_node();
    for number in [10, 14, 12, 11, 20, 13, 19] {
        node.apply(&[old("d_far", number)]);
    }
    let of = LogOf { origin: "d_far".into(), log: "7".into() };
    assert_eq!(node.store.reader().numbers(&of, 0, usize::MAX).expect("reads").purged.to_string(), "10–14, 19–20");
    let rows: u64 = rusqlite::Connection::open(node.path())
        .and_then(|conn| conn.query_row("SELECT count(*) FROM purged WHERE origin = 'd_far'", [], |row| row.get(0)))
        .expect("reads");
    assert_eq!(rows, 2);
}

/// P1: the caller found different heads a moment ago; they are compared again before anything is removed.
#[test]
fn the_projection_is_rebuilt_only_if_rows_were_lost() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.send("ann", &[], "one");
    // Only a rebuild changes this value.
    let conn = rusqlite::Connection::open(node.path()).expect("opens");
    let is_folded_again = |conn: &rusqlite::Connection| -> bool {
        conn.query_row("SELECT fold_version > 0 FROM state", [], |row| row.get(0)).expect("reads")
    };
    conn.execute("UPDATE state SET fold_version = 0", []).expect("writes");
    let repaired = node.store.write(|tx| {
        // In the same transaction, whose heads are not written yet.
        tx.register(thrum_store::ops::Register {
            name: "ben".into(),
            role: "coder".into(),
            module: "ben".into(),
            ..Default::default()
        })?;
        tx.repair_losses()
    });
    assert!(!repaired.expect("looks"));
    assert!(!is_folded_again(&conn));
    conn.execute("DELETE FROM event_rows WHERE type = 'message.create'", []).expect("loses");
    assert!(node.store.write(|tx| tx.repair_losses()).expect("repairs"));
    assert!(is_folded_again(&conn));
    assert_eq!(node.store.heads().expect("reads"), node.store.reader().counted().expect("reads"));
}
