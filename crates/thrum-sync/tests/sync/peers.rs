//! Daemons that pair and replicate over loopback.

use std::{sync::Arc, time::Duration};

use thrum_core::ErrorKind;
use thrum_sync::{
    Log,
    peers::Verdict,
    replicator::State,
    transport::{Kind, Listener, Transport, local::Local},
};

use crate::kit::{self, Daemon, PATIENCE, start_peers, start_peers_over};

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_pair_and_each_reads_what_the_other_had() {
    let (a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    a.log.register("ann");
    b.log.register("ben");
    let (before, later) = (a.log.say("ann", "said before"), b.log.say("ben", "said before, too"));
    let (here, there) = a.pair(&b).await;
    assert_eq!((here.peer_name.as_str(), here.syncing, here.message), ("beta", true, None));
    assert_eq!((there.peer_name.as_str(), there.syncing, there.message), ("alpha", true, None));
    assert!(b.log.has_message(&before) && a.log.has_message(&later), "\"syncing\" means that it was read");
    let failures = |daemon: &Daemon, peer: &str| daemon.peers.watch(peer).unwrap().borrow().failures;
    assert_eq!((failures(&a, "beta"), failures(&b, "alpha")), (0, 0), "nobody called before the other could know it");
    let news = a.log.say("ann", "news");
    b.hears(&news).await;
    a.agrees().await;
    b.agrees().await;
    // Until a has also read that b holds its events.
    a.peers.force(None).await.unwrap();
    let status = &a.peers.status().await.unwrap()[0];
    assert_eq!(
        (status.state, status.details.backlog_from_them, status.details.rejected),
        (State::Connected, Some(0), 0)
    );
    assert_eq!(
        (status.daemon_id.as_str(), status.transport.as_str(), status.exchange.version.as_deref()),
        (&*b.id, "local", Some("0.1.0"))
    );
}

/// On one thread, so that no other task acts on the pairing between its storage and the request for it. Repeated,
/// because the interval is short.
#[tokio::test]
async fn a_wait_that_begins_as_the_pairing_succeeds_gets_its_outcome() {
    for _ in 0..10 {
        let (a, b) = (Daemon::start("early").await, Daemon::start("bird").await);
        let pairing = a.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
        let asking = async {
            loop {
                // Busy here for far longer than the other tasks run, so that the peer is seen here first.
                let turn = std::time::Instant::now();
                while turn.elapsed() < Duration::from_millis(5) {
                    std::thread::yield_now();
                    if !a.peers.list().is_empty() {
                        return a.peers.wait_pairing().await;
                    }
                }
                tokio::task::yield_now().await;
            }
        };
        let (here, there) = tokio::join!(asking, b.peers.join(&pairing.address, pairing.code.reveal()));
        assert_eq!((here.unwrap().message, there.unwrap().message), (None, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_asked_as_often_as_the_user_says() {
    let (mut a, b) = (Daemon::start("often").await, Daemon::start("quiet").await);
    a.pair(&b).await;
    a.peers.shutdown().await;
    let transports: Vec<Arc<dyn Transport>> = vec![Arc::new(Local::on_ports(0..=0))];
    a.peers = start_peers_over(transports, Duration::from_millis(30), false, &a.name, &a.id, &a.log, &a.directory)
        .await
        .unwrap();
    let mut standing = a.peers.watch("quiet").unwrap();
    // Would take four times as long as `PATIENCE` with the default sync interval.
    let asked = standing.wait_for(|status| status.ends >= 6);
    tokio::time::timeout(PATIENCE, asked).await.expect("rounds of 30 ms").unwrap();
}

/// C4, I10
#[tokio::test(flavor = "multi_thread")]
async fn neither_code_nor_token_is_logged_and_the_lines_are_the_pages() {
    let (a, b) = (Daemon::start("secretive").await, Daemon::start("discreet").await);
    a.log.register("ann");
    let pairing = a.peers.start_pairing(Kind::Local, Duration::from_secs(300)).await.unwrap();
    let (here, there) = tokio::join!(a.peers.wait_pairing(), b.peers.join(&pairing.address, pairing.code.reveal()));
    assert!(here.unwrap().syncing && there.unwrap().syncing);
    let news = a.log.say("ann", "news");
    b.hears(&news).await;
    a.agrees().await;
    let (logs, at) = (kit::logs(), b.peers.address(Kind::Local).await.unwrap());
    let token = a.peers.list()[0].token.clone().unwrap();
    assert!(!logs.contains(token.reveal()) && !logs.contains(&format!("code={}", pairing.code.reveal())));
    for line in [
        "periodic_sync: starting with interval=15s, recent_threshold=10s",
        "[pairing] Session started, code=****, timeout=5m0s",
        &format!("[pairing] Paired with discreet ({}) at {at}", b.id),
    ] {
        assert!(logs.contains(line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_travels_over_a_third_daemon() {
    let (a, hub, c) = (Daemon::start("alpha").await, Daemon::start("hub").await, Daemon::start("gamma").await);
    a.log.register("ann");
    c.log.register("cy");
    hub.pair(&a).await;
    hub.pair(&c).await;
    let (from_a, from_c) = (a.log.say("ann", "to the far side"), c.log.say("cy", "and back"));
    c.hears(&from_a).await;
    a.hears(&from_c).await;
    hub.agrees().await;
    assert_eq!(a.log.heads().unwrap(), c.log.heads().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_daemon_is_found_again_where_it_was() {
    let (mut a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    a.log.register("ann");
    a.pair(&b).await;
    let address = a.peers.address(Kind::Local).await;
    a.restart().await;
    assert_eq!(a.peers.address(Kind::Local).await, address, "the port is kept");
    let news = a.log.say("ann", "after the restart");
    b.hears(&news).await;
    a.agrees().await;
}

/// C10
#[tokio::test(flavor = "multi_thread")]
async fn removal_reaches_the_other_side_and_pairing_again_heals() {
    let (a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    a.log.register("ann");
    a.pair(&b).await;
    let mut seen = b.peers.watch("alpha").unwrap();
    assert_eq!(a.peers.remove("beta").await.unwrap().daemon_id, b.id);
    assert_eq!(a.peers.remove("beta").await.unwrap_err().kind, ErrorKind::NotFound);
    let told = seen.wait_for(|status| status.state == State::RemovedUs);
    tokio::time::timeout(PATIENCE, told).await.expect("its open connection was closed").unwrap();
    let secret = a.log.say("ann", "not for beta any more");
    assert!(b.peers.force(None).await.unwrap()[0].error.is_some());
    assert!(!b.log.has_message(&secret));
    assert!(b.peers.list()[0].removed_us);
    let (here, there) = a.pair(&b).await;
    assert!(here.syncing && there.syncing, "{here:?} {there:?}");
    assert!(b.log.has_message(&secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_twice_joining_oneself_and_wrong_codes_are_refused() {
    let (a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    a.pair(&b).await;
    let pairing = a.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let code = pairing.code.reveal();
    let oneself = a.peers.join(&pairing.address, code).await.unwrap_err();
    assert_eq!((oneself.kind, oneself.message.as_str()), (ErrorKind::Refused, "a daemon cannot be paired with itself"));
    let again = b.peers.join(&pairing.address, code).await.unwrap_err();
    assert_eq!((again.kind, again.message.as_str()), (ErrorKind::Refused, "already paired with beta"));
    assert!(again.hint.is_some());
    assert_eq!(
        a.peers.wait_pairing().await.unwrap_err().message,
        "already paired with beta",
        "the operator hears it, too"
    );
    assert_eq!(a.peers.wait_pairing().await.unwrap_err().message, "no active pairing session");

    let c = Daemon::start("gamma").await;
    let pairing = a.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let wrong = format!("{:04}", (pairing.code.reveal().parse::<u32>().unwrap() + 1) % 10_000);
    let waiting = tokio::spawn({
        let peers = a.peers.clone();
        async move { peers.wait_pairing().await }
    });
    for left in [2, 1, 0] {
        let refused = c.peers.join(&pairing.address, &wrong).await.unwrap_err();
        assert_eq!(
            refused.message,
            format!("invalid pairing code ({left} attempt{} remaining)", if left == 1 { "" } else { "s" })
        );
    }
    let told =
        tokio::time::timeout(PATIENCE, waiting).await.expect("the operator is told at once").unwrap().unwrap_err();
    assert_eq!(told.kind, ErrorKind::Refused);
    let spent = c.peers.join(&pairing.address, pairing.code.reveal()).await.unwrap_err();
    assert_eq!(spent.message, "too many failed attempts");
    assert!(a.peers.list().len() == 1 && c.peers.list().is_empty(), "nothing has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_session_ends_with_its_initiator() {
    let a = Daemon::start("alpha").await;
    let pairing = a.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let second = a.peers.start_pairing(Kind::Local, PATIENCE).await.err().unwrap();
    assert!(second.message.starts_with("pairing already in progress"), "{second}");
    let (waited, ()) = tokio::join!(a.peers.wait_pairing(), async { a.peers.cancel_pairing(pairing.session) });
    assert_eq!(waited.unwrap_err().message, "pairing canceled");
    assert!(a.peers.start_pairing(Kind::Local, PATIENCE).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_away_is_shown_and_the_others_go_on() {
    let (a, b, c) = (Daemon::start("alpha").await, Daemon::start("beta").await, Daemon::start("gamma").await);
    a.log.register("ann");
    a.pair(&b).await;
    a.pair(&c).await;
    b.peers.shutdown().await;
    let news = a.log.say("ann", "who is there?");
    c.hears(&news).await;
    let forced = a.peers.force(Some("beta")).await.unwrap();
    assert!(forced[0].error.is_some(), "{forced:?}");
    let verified = a.peers.verify(Duration::from_millis(500)).await.unwrap();
    assert_eq!(verified.status, Verdict::Unreachable);
    let verdicts: Vec<_> = verified.peers.iter().map(|peer| (peer.name.as_str(), peer.status)).collect();
    assert_eq!(verdicts, [("beta", Verdict::Unreachable), ("gamma", Verdict::Equal)]);
    let status = a.peers.status().await.unwrap();
    assert_ne!(status[0].state, State::Connected);
    assert!(status[0].exchange.last_error.is_some() && status[0].exchange.next_attempt.is_some());
    assert_eq!(a.peers.force(Some("nobody")).await.unwrap_err().kind, ErrorKind::NotFound);
}

/// C7: two peers with the same name.
#[tokio::test(flavor = "multi_thread")]
async fn peers_of_one_name_get_different_ones() {
    let (a, b, c) = (Daemon::start("box").await, Daemon::start("box").await, Daemon::start("box").await);
    a.pair(&b).await;
    a.pair(&c).await;
    let names: Vec<_> = a.peers.list().into_iter().map(|peer| peer.name).collect();
    assert_eq!(names, ["box", "box-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_a_go_thrum_knows_and_another_has_is_shown_and_never_changed() {
    let a = Daemon::start("alpha").await;
    a.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let address = a.peers.address(Kind::Local).await.unwrap();
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    a.peers.shutdown().await;
    a.knows_a_go_thrum(Kind::Local);
    let thief: Box<dyn Listener> = Local::default().listen(Some(port)).await.unwrap();
    let peers = start_peers("alpha", &a.id, &a.log, &a.directory).await.unwrap();
    assert_eq!(peers.address(Kind::Local).await, None);
    assert!(peers.listen_error().await.unwrap().message.contains(&address));
    assert!(peers.start_pairing(Kind::Local, PATIENCE).await.is_err());
    drop(thief);
    assert_eq!(peers.start_pairing(Kind::Local, PATIENCE).await.unwrap().address, address);
}
