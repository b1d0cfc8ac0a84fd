//! Batches that were read while the one before them was being stored.

use std::{sync::atomic::Ordering, time::Duration};

use thrum_core::quota::Amounts;
use thrum_sync::Log;

use crate::{
    heads::of_go,
    kit::{Daemon, PATIENCE},
};

/// Two batches and a half.
const EVENTS: usize = 2500;

/// A daemon with that many events, and another one that is not paired with it yet.
async fn full_and_empty() -> (Daemon, Daemon) {
    let (full, empty) = (Daemon::start("full").await, Daemon::start("empty").await);
    full.log.apply(of_go(0..EVENTS)).unwrap();
    (full, empty)
}

/// Waits until `is_so` holds.
async fn until(is_so: impl AsyncFn() -> bool) {
    let so = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, so).await.expect("it becomes so");
}

/// I4
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stored_or_acknowledged_beyond_a_batch_that_failed() {
    let (full, empty) = full_and_empty().await;
    // The first batch fails twice, each time after the second one was read.
    empty.log.failing.store(2, Ordering::Relaxed);
    full.pair(&empty).await;
    until(async || empty.log.event_ids().len() == EVENTS).await;
    assert_eq!(empty.log.failing.load(Ordering::Relaxed), 0, "both failed");
    assert_eq!(empty.log.event_ids(), full.log.event_ids(), "in the order of the log, without a gap");
    empty.agrees().await;
    until(async || full.log.acknowledged.lock().unwrap().last().is_some_and(|(_, upto)| *upto == EVENTS as u64)).await;
    let acknowledged: Vec<u64> = full.log.acknowledged.lock().unwrap().iter().map(|(_, upto)| *upto).collect();
    assert!(acknowledged.is_sorted(), "{acknowledged:?}");
}

/// C20
#[tokio::test(flavor = "multi_thread")]
async fn no_batch_is_stored_beyond_the_one_that_brings_a_peer_over_its_quota() {
    let (full, empty) = full_and_empty().await;
    *empty.log.quota.lock().unwrap() = Amounts { bytes: 1000, ..Amounts::QUOTA };
    full.pair(&empty).await;
    until(async || empty.peers.status().await.unwrap()[0].exchange.over_quota.is_some()).await;
    empty.peers.force(None).await.unwrap();
    assert_eq!(empty.log.event_ids().len(), 1000);
    empty.peers.shutdown().await;
    assert_eq!(empty.log.event_ids().len(), 1000, "nothing was on its way");
}
