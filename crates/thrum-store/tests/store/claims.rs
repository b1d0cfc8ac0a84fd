//! Claims of files by agents.

use std::time::Duration;

use serde_json::json;
use thrum_core::{Ambient, Error, ErrorKind, Timestamp, limits};
use thrum_store::ops::Heartbeat;

use crate::kit::{self, Node, foreign};

const HALF_AN_HOUR: Duration = Duration::from_secs(1800);

fn paths<const N: usize>(paths: [&str; N]) -> Vec<String> {
    paths.map(str::to_owned).into()
}

fn node() -> Node {
    let mut node = Node::new(1);
    node.world.pass(Duration::from_secs(60));
    for name in ["ann", "bob"] {
        node.register(name, &format!("role-{name}"));
    }
    node
}

fn claim(node: &mut Node, agent: &'static str, paths: Vec<String>) -> Vec<(String, String)> {
    let claimed = node.store.write(move |tx| tx.claim(agent, &paths, HALF_AN_HOUR)).expect("claims");
    claimed.others.into_iter().map(|claim| (claim.agent_id, claim.path)).collect()
}

fn release(node: &mut Node, agent: &'static str, paths: Vec<String>) -> Vec<String> {
    node.store.write(move |tx| tx.release(agent, &paths)).expect("releases")
}

/// The current claims, as `agent path`.
fn held(node: &Node) -> Vec<String> {
    let (claims, more) = node.store.reader().claims(node.world.clone().now(), |_| true).expect("reads");
    assert!(!more);
    let mut held: Vec<String> = claims.into_iter().map(|claim| format!("{} {}", claim.agent_id, claim.path)).collect();
    held.sort();
    held
}

#[test]
fn a_claim_of_a_claimed_file_succeeds_and_names_the_holder() {
    let mut node = node();
    assert_eq!(claim(&mut node, "ann", paths(["./src//", "a.rs"])), []);
    let others = claim(&mut node, "bob", paths(["src/login.rs", "b.rs"]));
    assert_eq!(others, [("ann".to_owned(), "src".to_owned())]);
    assert_eq!(
        claim(&mut node, "ann", paths(["src"])),
        [("bob".to_owned(), "src/login.rs".to_owned())],
        "its own is no other's"
    );
    assert_eq!(held(&node), ["ann a.rs", "ann src", "bob b.rs", "bob src/login.rs"]);
    node.check();
}

#[test]
fn a_claim_ends_by_time_by_release_and_with_the_session() {
    let mut node = node();
    claim(&mut node, "ann", paths(["src/a.rs", "src/b.rs", "c.rs"]));
    assert_eq!(release(&mut node, "ann", paths(["src"])), ["src/a.rs", "src/b.rs"]);
    assert_eq!(held(&node), ["ann c.rs"]);
    assert_eq!(release(&mut node, "bob", paths(["c.rs"])), paths([]), "it is not bob's");
    node.world.pass(HALF_AN_HOUR - Duration::from_secs(60));
    claim(&mut node, "ann", paths(["c.rs"]));
    node.world.pass(Duration::from_secs(120));
    assert_eq!(held(&node), ["ann c.rs"], "it was claimed for longer");
    node.world.pass(HALF_AN_HOUR);
    assert_eq!(held(&node), paths([]));

    let session = node.store.write(|tx| tx.start_session("ann", Heartbeat::default())).expect("starts").0;
    claim(&mut node, "ann", paths(["."]));
    claim(&mut node, "bob", paths(["b.rs"]));
    node.store.write(move |tx| tx.end_session(&session, None)).expect("ends");
    assert_eq!(held(&node), ["bob b.rs"]);
    claim(&mut node, "ann", paths(["d.rs"]));
    assert_eq!(held(&node), ["ann d.rs", "bob b.rs"], "what is claimed after a release of all holds");
    node.check();
}

#[test]
fn claims_of_other_daemons_arrive_in_any_order_and_end_with_a_clean_up() {
    let mut node = node();
    let end = Timestamp::from_nanos(kit::START).plus(Duration::from_secs(5000)).to_string();
    let claimed =
        foreign("evt_1", "d_go", 10, "file.claim", json!({"agent_id": "cy", "paths": ["x", "y"], "expires_at": end}));
    let released = foreign("evt_2", "d_go", 20, "file.release", json!({"agent_id": "cy", "paths": ["x"]}));
    node.apply(&[released, claimed]);
    assert_eq!(held(&node), ["cy y"]);
    assert_eq!(claim(&mut node, "ann", paths(["y"])), [("cy".to_owned(), "y".to_owned())]);
    node.apply(&[foreign("evt_3", "d_go", 30, "agent.cleanup", json!({"agent_id": "cy"}))]);
    assert_eq!(held(&node), ["ann y"]);
    node.check();
}

/// A claim ends after the requested time, whatever its daemon's clock shows, and after a day at the latest.
#[test]
fn a_clock_that_is_ahead_extends_no_claim() {
    let mut node = node();
    let at = |seconds: u64| Timestamp::from_nanos(kit::START).plus(Duration::from_secs(seconds)).to_string();
    let year = 365 * 24 * 3600;
    let ahead = json!({"agent_id": "cy", "paths": ["ahead"], "expires_at": at(year + 600)});
    let endless = json!({"agent_id": "cy", "paths": ["endless"], "expires_at": at(year)});
    node.apply(&[
        foreign("evt_1", "d_go", i64::try_from(year).expect("fits"), "file.claim", ahead),
        foreign("evt_2", "d_go", 60, "file.claim", endless),
    ]);
    assert_eq!(held(&node), ["cy ahead", "cy endless"]);
    node.world.pass(Duration::from_secs(700));
    assert_eq!(held(&node), ["cy endless"]);
    node.world.pass(limits::MAX_CLAIM);
    assert_eq!(held(&node), paths([]));
}

#[test]
fn claims_out_of_bounds_are_refused() {
    let mut node = node();
    let mut refused = |paths: Vec<String>, within: Duration| {
        let refused = node.store.write(move |tx| tx.claim("ann", &paths, within)).expect_err("is refused");
        Error::from(refused).kind
    };
    let many: Vec<String> = (0..=limits::MAX_CLAIM_PATHS).map(|n| n.to_string()).collect();
    for wrong in [paths(["/etc"]), paths(["../x"]), paths([""]), Vec::new(), many] {
        assert_eq!(refused(wrong, HALF_AN_HOUR), ErrorKind::Invalid);
    }
    for within in [Duration::ZERO, limits::MAX_CLAIM + Duration::from_secs(1)] {
        assert_eq!(refused(paths(["a"]), within), ErrorKind::Invalid);
    }
    for part in (0..limits::MAX_CLAIMS).collect::<Vec<_>>().chunks(limits::MAX_CLAIM_PATHS) {
        claim(&mut node, "ann", part.iter().map(ToString::to_string).collect());
    }
    claim(&mut node, "ann", paths(["7"]));
    let one_more = node.store.write(|tx| tx.claim("ann", &["x".to_owned()], HALF_AN_HOUR)).expect_err("is refused");
    assert_eq!(Error::from(one_more).kind, ErrorKind::Refused);
}
