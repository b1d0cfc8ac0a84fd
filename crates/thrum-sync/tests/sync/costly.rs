//! A repair costs who is repaired no more than a pull would, keeps nobody else waiting, and what it shows is taken back when it is true
//! no more.

use serde_json::{Value, json};
use thrum_core::{Sum, limits};
use thrum_sync::Log;

use crate::{
    heads,
    kit::{Daemon, PATIENCE},
    liars::{Liar, RANGES, SILENCE, event, events, info, said},
};

/// The first event that is asked for.
fn first(params: &Value) -> u64 {
    params["ranges"][0][0].as_u64().unwrap()
}

/// C20: each looks through the whole log.
#[tokio::test(flavor = "multi_thread")]
async fn purges_without_end_are_not_fetched_without_end() {
    let liar = Liar::pair(|method, params| match method {
        "sync.peer_info" => info(60, &RANGES),
        "sync.ranges" => json!({"held": [[1, 60]], "next": 0}),
        _ if params["origin"] == "d_far" => {
            let number = first(params);
            let mut purge = event("d_far", number);
            purge["type"] = "purge.executed".into();
            purge["event_json"]["type"] = "purge.executed".into();
            purge["event_json"]["cutoff"] = format!("2020-01-01T00:00:{:02}Z", number - 1).into();
            events(&[purge])
        }
        _ => events(&[]),
    })
    .await;
    let verified = liar.verify().await;
    assert_eq!(said(&verified).1, u64::from(limits::PURGES_AT_ONCE), "{verified:?}");
    assert_eq!(verified.peers[0].error.as_deref(), Some("it sends one purge after the other"));
}

/// P7, I8
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_lets_us_wait_keeps_no_other_from_being_repaired() {
    let liar = Liar::pair(|method, _| match method {
        "sync.peer_info" => info(9, &RANGES),
        _ => SILENCE.into(),
    })
    .await;
    let other = Daemon::start("beta").await;
    other.log.register("ben");
    liar.daemon.pair(&other).await;
    other.agrees().await;
    let whole = liar.daemon.log.heads().unwrap();
    heads::lose(&liar.daemon, &format!("origin_daemon = '{}' AND origin_seq = 1", other.id));
    let verified = liar.daemon.peers.verify(PATIENCE / 2).await.unwrap();
    assert_eq!((verified.fetched, liar.daemon.log.heads().unwrap()), (1, whole), "{verified:?}");
}

/// C18: ids that are as long as they may be are asked for in several requests.
#[tokio::test(flavor = "multi_thread")]
async fn long_ids_are_asked_for_in_requests_that_are_not_too_long() {
    let ids: Vec<String> = (0..400).map(|n| format!("{n:03}{}", "\u{1}".repeat(200))).collect();
    let listed: Vec<(String, Sum)> = ids.iter().map(|id| (id.clone(), Sum::of(id.as_bytes()))).collect();
    let liar = Liar::pair(move |method, _| match method {
        "sync.peer_info" => {
            let mut info = info(400, &RANGES);
            info["heads"][0]["log"] = "".into();
            info
        }
        "sync.ids" => json!({"ids": listed}),
        _ => events(&[]),
    })
    .await;
    liar.verify().await;
    let asked = liar.asked.lock().unwrap().clone();
    let fetches: Vec<usize> = asked
        .iter()
        .filter(|asked| asked.0 == "sync.fetch" && asked.1["origin"] == "d_far")
        .map(|asked| asked.1.to_string().len())
        .collect();
    assert!(!fetches.is_empty() && fetches.iter().all(|bytes| *bytes < limits::MAX_PEER_REQUEST_BYTES), "{fetches:?}");
}
