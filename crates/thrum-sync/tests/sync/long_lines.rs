//! Events that are six times as long on the wire as in the log.

use serde_json::json;
use thrum_core::limits;
use thrum_sync::{Log, transport::Kind};

use crate::tailnet::{Two, Wire, daemon, listening};

/// C18: each byte of these bodies is written as `\u0001`, so that one body takes six mebibytes of a line, and three
/// exceed the maximum length.
#[tokio::test(flavor = "multi_thread")]
async fn c18_bodies_of_control_characters_are_cut_between_events_and_reach_whoever_is_two_hops_away() {
    let two = Two::paired().await;
    let far = two.net.node("attic", "cid");
    let c = daemon("gamma", &far).await;
    two.b.pair_over(Kind::Tailnet, &c).await;

    let largest = limits::MAX_CONTENT_BYTES;
    let bodies =
        [largest, 5, largest, largest, largest / 6, largest / 6, 5, largest].map(|bytes| "\u{1}".repeat(bytes));
    let said: Vec<String> = bodies.iter().map(|body| two.a.log.say("alpha", body)).collect();
    for daemon in [&two.b, &c] {
        for (id, body) in said.iter().zip(&bodies) {
            daemon.hears(id).await;
            assert!(daemon.log.message(id).unwrap().body.content == *body, "every byte of it");
        }
    }
    // And back, past the long events.
    let back = c.log.say("gamma", "after it");
    two.a.hears(&back).await;

    let mut wire = Wire::dial(&two.there, &listening(&two.a).await).await;
    wire.prove(&two.b, &two.a).await;
    let (token, log) = (two.b.peers.list()[0].token.clone().unwrap(), two.a.log.id().to_string());
    let (mut after, mut served, mut answers) = (0, Vec::new(), 0);
    loop {
        let pull = json!({"token": token.reveal(), "after_sequence": after, "max_batch": limits::MAX_BATCH_EVENTS, "log_id": log});
        let reply = wire.ask("sync.pull", pull).await;
        let length = reply.to_string().len();
        let page = &reply["result"];
        let events = page["events"].as_array().unwrap();
        assert!(
            length < limits::MAX_LINE_BYTES && (length < 2 * limits::MAX_BATCH_BYTES || events.len() == 1),
            "{length} bytes"
        );
        served.extend(events.iter().map(|event| event["event_json"]["message_id"].clone()));
        answers += 1;
        if page["more_available"] == false {
            break;
        }
        let next = page["next_sequence"].as_u64().unwrap();
        assert!(next > after, "it goes on");
        after = next;
    }
    served.retain(|id| said.iter().any(|said| *id == said.as_str()));
    assert_eq!(served, said, "each once, in order");
    assert!(answers > 4, "{answers} answers");
}
