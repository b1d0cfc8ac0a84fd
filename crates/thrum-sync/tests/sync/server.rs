//! What the server makes of requests beyond what Go recorded: logs, acknowledgements, whose token it is.

use serde_json::{Value, json};
use thrum_core::limits;
use thrum_sync::{Log, server::Effect, transport::Kind};

use crate::stand::Stand;

/// A stand with one peer, `d_peer`, and its token.
fn paired() -> (Stand, String) {
    let (mut stand, code) = Stand::new("d_me", "me");
    let reply =
        stand.answer(&format!(r#"{{"method":"pair.request","params":{{"code":"{code}","daemon_id":"d_peer","name":"p"}},"id":1}}"#));
    let token = serde_json::from_str::<Value>(&reply).unwrap()["result"]["token"].as_str().unwrap().to_owned();
    stand.log.register("ann");
    (stand, token)
}

fn ask(stand: &mut Stand, method: &str, params: &Value) -> (Value, Vec<Effect>) {
    let (reply, effects) = stand.hear(&json!({"method": method, "params": params, "id": 1}).to_string(), Kind::Tailnet);
    (serde_json::from_str(&reply).unwrap(), effects)
}

fn acknowledged(effects: &[Effect]) -> Option<u64> {
    effects.iter().find_map(|effect| if let Effect::Acknowledged { upto, .. } = effect { Some(*upto) } else { None })
}

/// C23
#[test]
fn a_notify_counts_only_for_who_sent_it() {
    let (mut stand, token) = paired();
    let mut notified = |id: &str| {
        let (reply, effects) = ask(&mut stand, "sync.notify", &json!({"token": token, "daemon_id": id, "latest_seq": 7}));
        assert_eq!(reply["result"]["status"], "ok", "whoever is named");
        effects.iter().any(|effect| matches!(effect, Effect::Notified { latest: 7 }))
    };
    assert!(notified("d_peer"));
    assert!(!notified("d_other") && !notified("d_me"));
}

#[test]
fn a_checkpoint_in_another_log_is_rewound_and_acknowledges_nothing() {
    let (mut stand, token) = paired();
    let (here, latest) = (stand.log.id().to_string(), stand.log.latest());
    let mut pull = |after: u64, log: Option<&str>| {
        let (reply, effects) = ask(&mut stand, "sync.pull", &json!({"token": token, "after_sequence": after, "log_id": log}));
        assert_eq!(reply["result"]["log_id"], here);
        (reply["result"]["events"].as_array().unwrap().len(), acknowledged(&effects))
    };
    assert_eq!(pull(0, Some(&here)), (1, Some(0)));
    assert_eq!(pull(latest, Some(&here)), (0, Some(latest)));
    assert_eq!(pull(latest, Some("another")), (1, None), "from the start");
    assert_eq!(pull(1 << 40, Some("another")), (1, None));
    assert_eq!(pull(1 << 40, None), (0, None), "an old peer beyond our end gets the empty reply, as from Go");
}

/// C10, C11, C12
#[test]
fn a_token_is_good_on_its_transport_and_until_its_peer_is_removed() {
    let (mut stand, token) = paired();
    let request = json!({"method": "sync.peer_info", "params": {"token": token}}).to_string();
    assert!(stand.answer(&request).contains("\"result\""));
    assert!(stand.hear(&request, Kind::Local).0.contains("unauthorized"));
    let long = json!({"method": "sync.peer_info", "params": {"token": "f".repeat(limits::MAX_PEER_REQUEST_BYTES)}}).to_string();
    assert!(stand.answer(&long).contains("unauthorized"));
    stand.desk.registry.remove("d_peer").unwrap();
    assert!(stand.answer(&request).contains("unauthorized"));
}

#[test]
fn a_batch_is_bounded_in_bytes_and_has_at_least_one_event() {
    let (mut stand, token) = paired();
    let large = "x".repeat(limits::MAX_CONTENT_BYTES);
    for _ in 0..3 {
        stand.log.say("ann", &large);
    }
    let (mut after, mut sizes) = (0, Vec::new());
    loop {
        let (reply, _) = ask(&mut stand, "sync.pull", &json!({"token": token, "after_sequence": after}));
        let events = reply["result"]["events"].as_array().unwrap().len();
        sizes.push((events, reply["result"]["more_available"].as_bool().unwrap()));
        if events == 0 {
            break;
        }
        after = reply["result"]["next_sequence"].as_u64().unwrap();
    }
    assert_eq!(sizes, [(1, true), (1, true), (1, true), (1, false), (0, false)]);
}

#[test]
fn the_digest_of_the_projection_is_given_only_on_request() {
    let (mut stand, token) = paired();
    let (plain, _) = ask(&mut stand, "sync.peer_info", &json!({"token": token}));
    let (full, _) = ask(&mut stand, "sync.peer_info", &json!({"token": token, "digest": true}));
    assert!(plain["result"]["projection"].is_null() && plain["result"]["heads"].is_array());
    assert_eq!(full["result"]["projection"], json!(stand.log.projection().unwrap()));
    assert_eq!(full["result"]["latest"], stand.log.latest());
}
