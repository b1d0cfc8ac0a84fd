//! The server's handling of requests beyond Go's recordings: logs, acknowledgements, owners of tokens.

use serde_json::{Value, json};
use thrum_core::limits;
use thrum_sync::{
    Log,
    legacy::peers::{GoPeers, ImportDecision},
    protocol::Effect,
    protocol::wire::Served,
    transport::Kind,
};

use crate::stand::Stand;

/// Creates a stand with one peer, `d_peer`. Returns it with the peer's token.
fn paired() -> (Stand, String) {
    let (mut stand, code) = Stand::new("d_me", "me");
    let reply = stand.answer(&format!(
        r#"{{"method":"pair.request","params":{{"code":"{code}","daemon_id":"d_peer","name":"p"}},"id":1}}"#
    ));
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
fn an_announcement_counts_only_for_its_sender() {
    let (mut stand, token) = paired();
    let mut notified = |id: &str| {
        let (reply, effects) =
            ask(&mut stand, "sync.notify", &json!({"token": token, "daemon_id": id, "latest_seq": 7}));
        assert_eq!(reply["result"]["status"], "ok", "whoever is named");
        effects.iter().any(|effect| matches!(effect, Effect::Notified { latest: 7, pushed: None }))
    };
    assert!(notified("d_peer"));
    assert!(!notified("d_other") && !notified("d_me"));
}

#[test]
fn a_checkpoint_in_another_log_is_rewound_and_acknowledges_nothing() {
    let (mut stand, token) = paired();
    let (here, latest) = (stand.log.id().to_string(), stand.log.latest());
    let mut pull = |after: u64, log: Option<&str>| {
        let (reply, effects) =
            ask(&mut stand, "sync.pull", &json!({"token": token, "after_sequence": after, "log_id": log}));
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
    let long = json!({"method": "sync.peer_info", "params": {"token": "f".repeat(limits::MAX_PEER_REQUEST_BYTES)}})
        .to_string();
    assert!(stand.answer(&long).contains("unauthorized"));
    stand.auth.registry.remove("d_peer").unwrap();
    assert!(stand.answer(&request).contains("unauthorized"));
}

#[test]
fn a_batch_is_bounded_in_bytes_and_has_at_least_one_event() {
    let (mut stand, token) = paired();
    let large = "x".repeat(limits::MAX_CONTENT_BYTES);
    for _ in 0..3 {
        stand.log.say("ann", &large);
    }
    let log = stand.log.id().to_string();
    let (mut after, mut sizes) = (0, Vec::new());
    loop {
        let (reply, _) = ask(&mut stand, "sync.pull", &json!({"token": token, "after_sequence": after, "log_id": log}));
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

/// A peer that removed us and joins again overwrites its own entry of us, which is stored under the old id.
#[test]
fn a_peer_taken_over_that_pairs_again_gets_the_id_that_it_knows() {
    let (mut stand, code) = Stand::new("d_me", "me");
    let file = json!([{"name": "go", "address": "100.64.0.2:9100", "daemon_id": "d_peer", "token": "5".repeat(64)}])
        .to_string();
    let decision = GoPeers::read(&file).unwrap().classify(&["d_me".into()], "d_go", &[]);
    let new = decision
        .into_iter()
        .filter_map(|decision| if let ImportDecision::New(peer) = decision { Some(*peer) } else { None })
        .collect();
    stand.auth.registry.take_over(new).unwrap();
    stand.auth.registry.removed_us("d_peer").unwrap();
    let params = json!({"code": code, "daemon_id": "d_peer", "name": "go", "address": "100.64.0.2:9100"});
    let reply: Value =
        serde_json::from_str(&stand.answer(&json!({"method": "pair.request", "params": params, "id": 1}).to_string()))
            .unwrap();
    assert_eq!((&reply["result"]["status"], &reply["result"]["daemon_id"]), (&json!("paired"), &json!("d_go")));
    assert_eq!(stand.auth.registry.get("d_peer").unwrap().as_daemon_id.as_deref(), Some("d_go"));
}

/// Events that would stop a legacy peer are withheld only from pulls without a log id.
#[test]
fn events_are_withheld_only_from_peers_without_log_id() {
    let (mut stand, code) = Stand::new("d_me", "me");
    let params = json!({"code": code, "daemon_id": "d_peer", "name": "p", "address": "100.64.0.2:9100"});
    let reply: Value =
        serde_json::from_str(&stand.answer(&json!({"method": "pair.request", "params": params, "id": 1}).to_string()))
            .unwrap();
    let token = reply["result"]["token"].clone();
    let event = |sequence, kind: &str| Served {
        sequence,
        envelope: [
            Some(format!("evt_{sequence}")),
            Some(kind.to_owned()),
            Some("2026-01-01T00:00:00Z".into()),
            Some("d_far".into()),
        ],
        event_json: r#"{"v":1,"message_id":"msg_1"}"#.to_owned(),
        reference: None,
    };
    stand.hold(
        5,
        vec![
            event(1, "message.pinned"),
            event(2, "future.thing"),
            event(3, "message.edit"),
            event(4, "message.create"),
            event(5, "x.y"),
        ],
    );
    let mut pull = |log: Option<&str>, after: u64, max_batch: u64| {
        let mut params = json!({"token": token, "after_sequence": after, "max_batch": max_batch});
        if let Some(log) = log {
            params["log_id"] = log.into();
        }
        let reply: Value =
            serde_json::from_str(&stand.answer(&json!({"method": "sync.pull", "params": params, "id": 2}).to_string()))
                .unwrap();
        let events = reply["result"]["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["event_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>();
        (
            events,
            reply["result"]["next_sequence"].as_u64().unwrap(),
            reply["result"]["more_available"].as_bool().unwrap(),
        )
    };
    assert_eq!(
        pull(None, 0, 1000),
        (vec!["evt_2".into(), "evt_5".into()], 6, false),
        "the edit moved behind its message, as number 6"
    );
    assert_eq!(pull(None, 0, 1), (vec!["evt_2".into()], 2, true));
    assert_eq!(pull(None, 2, 1), (vec!["evt_5".into()], 6, false), "what is withheld is passed over");
    assert_eq!(pull(None, 6, 1), (vec![], 0, false));
    assert_eq!(pull(Some("another"), 0, 1000).0.len(), 5);
}
