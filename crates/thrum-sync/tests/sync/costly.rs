//! Reconciliation costs the peer no more than a pull, delays no other peer, and its reports are withdrawn when they are
//! no longer true.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use serde_json::{Value, json};
use thrum_core::{SetDigest, limits};
use thrum_sync::{Log, peers::Peers};

use crate::{
    heads,
    kit::{Daemon, PATIENCE, StoreLog},
    liars::{Liar, RANGES, SILENCE, event, events, info, said},
};

/// Returns the first requested event.
fn first(params: &Value) -> u64 {
    params["ranges"][0][0].as_u64().unwrap()
}

/// C20: each purge scans the whole log.
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

/// C20: one good event does not outweigh two bad ones.
#[tokio::test(flavor = "multi_thread")]
async fn events_most_of_which_are_rejected_are_fetched_three_times() {
    let liar = Liar::pair(|method, params| match method {
        "sync.peer_info" => info(60, &RANGES),
        "sync.ranges" => json!({"held": [[1, 60]], "next": 0}),
        _ if params["origin"] == "d_far" => {
            let number = first(params);
            let bad = |n: u64| json!({"event_id": format!("evt_bad_{number}_{n}"), "sequence": 1, "type": "x", "timestamp": "x", "origin_daemon": "d_far", "event_json": "no event"});
            events(&[event("d_far", number), bad(1), bad(2)])
        }
        _ => events(&[]),
    })
    .await;
    let verified = liar.verify().await;
    assert_eq!(said(&verified).1, u64::from(limits::MAX_FRUITLESS), "{verified:?}");
    assert_eq!(verified.peers[0].error.as_deref(), Some("most of what it sends must be rejected"));
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

/// P6: a claim that the peer no longer makes is no longer shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_warning_goes_when_nothing_differs_any_more() {
    let agrees: Arc<Mutex<Option<Value>>> = Arc::default();
    let now = Arc::clone(&agrees);
    let mut liar = Liar::pair(move |method, _| match method {
        "sync.peer_info" => {
            let mut info = info(9, &RANGES);
            if let Some(heads) = &*now.lock().unwrap() {
                info["heads"] = heads.clone();
            }
            info
        }
        "sync.ranges" => json!({"held": [[1, 9]], "next": 0}),
        _ => events(&[]),
    })
    .await;
    liar.daemon.restart_with_sync_interval(Duration::from_millis(20)).await;
    let shows = async |is_shown: bool| {
        let shown = async {
            while liar.daemon.peers.status().await.unwrap()[0].details.repaired.is_some() != is_shown {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, shown).await.unwrap_or_else(|_| panic!("shown: {is_shown}"));
    };
    shows(true).await;
    *agrees.lock().unwrap() = Some(json!(liar.daemon.log.heads().unwrap()));
    shows(false).await;
}

/// P6: an event that arrives while the peer is asked is not missing, and is not requested.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_arrived_meanwhile_do_not_count_as_missing() {
    let log: Arc<OnceLock<Arc<StoreLog>>> = Arc::default();
    let ours = Arc::clone(&log);
    let liar = Liar::pair(move |method, params| match method {
        "sync.peer_info" => info(9, &RANGES),
        "sync.ranges" if params["origin"] == "d_far" => {
            let come = (1..10).map(|n| event("d_far", n)["event_json"].to_string());
            ours.get().unwrap().apply(heads::batch(come)).unwrap();
            json!({"held": [[1, 9]], "next": 0})
        }
        "sync.ranges" => json!({"held": [], "next": 0}),
        "sync.ids" => json!({"ids": []}),
        _ => events(&[]),
    })
    .await;
    log.set(Arc::clone(&liar.daemon.log)).ok().unwrap();
    let verified = liar.daemon.peers.verify(PATIENCE / 4).await.unwrap();
    assert_eq!(said(&verified).0, 0, "{verified:?}");
    assert_eq!(liar.times("sync.fetch"), 0);
}

/// C10: events requested by a reconciliation before a peer was removed are not stored afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stored_of_a_peer_that_was_removed_meanwhile() {
    let peers: Arc<OnceLock<Peers>> = Arc::default();
    let (ours, runtime) = (Arc::clone(&peers), tokio::runtime::Handle::current());
    let liar = Liar::pair(move |method, params| match method {
        "sync.peer_info" => info(9, &RANGES),
        "sync.ranges" => json!({"held": [[1, 9]], "next": 0}),
        _ if params["origin"] == "d_far" => {
            let peers = ours.get().unwrap().clone();
            let removed = peers.clone();
            // On a separate thread, because this one may be the only one left to run the removal.
            let runtime = runtime.clone();
            std::thread::spawn(move || runtime.block_on(removed.remove("liar")));
            while !peers.list().is_empty() {
                std::thread::yield_now();
            }
            events(&[event("d_far", 1)])
        }
        _ => events(&[]),
    })
    .await;
    peers.set(liar.daemon.peers.clone()).ok().unwrap();
    let before = liar.daemon.log.event_ids();
    liar.verify().await;
    assert_eq!((liar.daemon.log.event_ids(), liar.daemon.peers.list().len()), (before, 0));
}

/// C18: ids of maximum length are requested in several requests.
#[tokio::test(flavor = "multi_thread")]
async fn long_ids_are_asked_for_in_requests_that_are_not_too_long() {
    let ids: Vec<String> = (0..400).map(|n| format!("{n:03}{}", "\u{1}".repeat(200))).collect();
    let listed: Vec<(String, SetDigest)> = ids.iter().map(|id| (id.clone(), SetDigest::of(id.as_bytes()))).collect();
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
