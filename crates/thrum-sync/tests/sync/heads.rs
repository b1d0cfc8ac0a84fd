//! Events missing below the checkpoint are reported by origin sequence or id, and exactly those are fetched.

use std::time::Duration;

use thrum_core::{Event, RangeSet, Timestamp, compare::LogOf, event, exchange::Batch, limits};
use thrum_sync::{
    Log,
    peers::{Missing, Verdict, Verified},
};

use crate::kit::{Daemon, PATIENCE};

/// Deletes rows from the database, like a salvage of a damaged file.
pub fn lose(daemon: &Daemon, which: &str) {
    let conn = rusqlite::Connection::open(daemon.directory.path().join("messages.db")).unwrap();
    conn.busy_timeout(PATIENCE).unwrap();
    let lose = format!("DELETE FROM event_rows WHERE sequence IN (SELECT sequence FROM events WHERE {which})");
    assert!(conn.execute(&lose, []).unwrap() > 0, "{which}");
}

/// Deletes rows, and recounts the rest.
fn lose_knowingly(daemon: &Daemon, which: &str) {
    lose(daemon, which);
    daemon.log.recount().unwrap();
}

/// Pairs two daemons with this many messages each, and waits until they hold the same events.
async fn pair(messages: usize) -> (Daemon, Daemon) {
    let (a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    for (daemon, agent) in [(&a, "ann"), (&b, "ben")] {
        daemon.log.register(agent);
        (0..messages).for_each(|n| drop(daemon.log.say(agent, &format!("{n} of {agent}"))));
    }
    a.pair(&b).await;
    a.agrees().await;
    (a, b)
}

/// Pulls until nothing is left, not even events that are already held.
async fn read_to_the_end(daemon: &Daemon) {
    let forced = daemon.peers.force(None).await.unwrap();
    assert!(forced.iter().all(|peer| peer.error.is_none()), "{forced:?}");
}

async fn verify(daemon: &Daemon) -> Verified {
    daemon.peers.verify(PATIENCE).await.unwrap()
}

/// Returns what one `verify` reported about the only peer, for a log of this origin.
fn of<'a>(verified: &'a Verified, origin: &str) -> &'a Missing {
    let missing = &verified.peers[0].missing;
    missing
        .iter()
        .find(|missing| missing.origin == origin)
        .unwrap_or_else(|| panic!("nothing of {origin} in {missing:?}"))
}

fn runs(text: &str) -> RangeSet {
    serde_json::from_str(text).unwrap()
}

/// P1, C27: in both directions at once, for events of either side. Only the missing events are transferred.
#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_named_with_its_numbers_and_filled_exactly() {
    let (a, b) = pair(20).await;
    let before = (a.log.event_ids().len(), a.log.projection().unwrap());
    lose(&a, &format!("origin_daemon = '{}' AND origin_seq IN (5, 6, 7, 12)", b.id));
    lose(&a, &format!("origin_daemon = '{}' AND origin_seq = 3", a.id));
    lose(&b, &format!("origin_daemon = '{}' AND origin_seq BETWEEN 9 AND 11", a.id));
    b.log.recount().unwrap();
    let (log, pulled) = (a.log.id(), a.peers.watch("beta").unwrap().borrow().applied);
    let verified = verify(&a).await;
    assert_eq!((verified.status, verified.fetched), (Verdict::Equal, 5), "{verified:?}");
    let theirs = of(&verified, &b.id);
    assert_eq!((theirs.here.events, theirs.here.numbers.clone(), theirs.fetched), (4, runs("[[5,7],[12,12]]"), 4));
    let ours = of(&verified, &a.id);
    assert_eq!(
        (ours.here.numbers.clone(), ours.there.numbers.clone(), ours.fetched),
        (runs("[[3,3]]"), runs("[[9,11]]"), 1)
    );
    for daemon in [&a, &b] {
        assert_eq!((daemon.log.event_ids().len(), daemon.log.projection().unwrap()), before);
        assert_eq!(daemon.log.heads().unwrap(), daemon.log.counted().unwrap());
    }
    assert_eq!(a.log.id(), log, "an event of ours that comes back is no reason for a new log");
    assert_eq!(a.peers.watch("beta").unwrap().borrow().applied, pulled, "no pull brought them");
    let again = verify(&a).await;
    assert!(again.status == Verdict::Equal && again.fetched == 0 && again.peers[0].missing.is_empty(), "{again:?}");
}

/// P1: events that both of two daemons lack come from a third one, which only one of them knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_hole_in_two_daemons_is_filled_by_a_third() {
    let (a, b) = pair(5).await;
    let c = Daemon::start("gamma").await;
    c.log.register("cid");
    b.pair(&c).await;
    c.agrees().await;
    b.agrees().await;
    a.agrees().await;
    for daemon in [&a, &b] {
        lose_knowingly(daemon, &format!("origin_daemon = '{}' AND origin_seq BETWEEN 2 AND 4", b.id));
    }
    a.agrees().await;
    let verified = verify(&b).await;
    assert_eq!((verified.status, verified.fetched), (Verdict::Equal, 3), "{verified:?}");
    a.agrees().await;
    assert_eq!(a.log.projection().unwrap(), c.log.projection().unwrap());
    assert_eq!(a.log.event_ids().len(), c.log.event_ids().len());
}

/// C30
#[tokio::test(flavor = "multi_thread")]
async fn what_was_purged_is_not_asked_for() {
    let (a, b) = pair(1).await;
    let numbered = |range: std::ops::Range<u64>, month: u32| {
        batch(range.map(|n| {
            format!(r#"{{"event_id":"evt_{n}","type":"agent.update","timestamp":"2026-{month:02}-01T00:00:00Z","origin_daemon":"d_far","origin_log":"7","origin_seq":{n}}}"#)
        }))
    };
    a.log.apply(numbered(1..6, 1)).unwrap();
    b.agrees().await;
    a.log.write(|tx| tx.purge(Timestamp::parse("2026-06-01T00:00:00Z").unwrap())).unwrap();
    b.agrees().await;
    // Events that arrive too late are excluded, and not requested either.
    b.log.apply(numbered(6..8, 1)).unwrap();
    a.log.apply(numbered(8..12, 9)).unwrap();
    b.agrees().await;
    let of_far = LogOf { origin: "d_far".into(), log: "7".into() };
    let numbers = |daemon: &Daemon| {
        let numbers = daemon.log.numbers(&of_far, 0, 100).unwrap();
        (numbers.held.to_string(), numbers.purged.to_string())
    };
    read_to_the_end(&a).await;
    assert_eq!((numbers(&a), numbers(&b)), (("8–11".into(), "1–5".into()), ("8–11".into(), "1–7".into())));
    lose_knowingly(&a, "origin_daemon = 'd_far' AND origin_seq = 9");
    let verified = verify(&a).await;
    let found = of(&verified, "d_far");
    assert_eq!(
        (verified.status, found.here.numbers.to_string().as_str(), found.fetched),
        (Verdict::Equal, "9", 1),
        "{verified:?}"
    );
}

/// Builds unsigned events as a peer serves them.
pub fn batch(bodies: impl Iterator<Item = String>) -> Batch {
    let event = |body: String| -> Event { event::Candidate::read(&body, &[]).unwrap().into_held() };
    Batch {
        peer: "d_go".into(),
        log: String::new(),
        checkpoint: 0,
        checkpoint_event: String::new(),
        events: bodies.map(event).collect(),
        rejected: Vec::new(),
    }
}

pub fn of_go(range: std::ops::Range<usize>) -> Batch {
    batch(range.map(|n| {
        format!(r#"{{"event_id":"evt_{n:05}","type":"future.thing","timestamp":"2026-01-01T00:00:00Z","origin_daemon":"d_go","n":{n}}}"#)
    }))
}

/// P1: events without origin sequences are compared as a set, and a large set in parts.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_go_thrum_are_compared_by_set() {
    let (a, b) = pair(1).await;
    a.log.apply(of_go(0..5000)).unwrap();
    b.agrees().await;
    read_to_the_end(&a).await;
    lose_knowingly(&a, "event_id IN ('evt_00000', 'evt_00007', 'evt_04999')");
    lose_knowingly(&b, "event_id BETWEEN 'evt_02000' AND 'evt_03199'");
    let verified = verify(&a).await;
    assert_eq!((verified.status, verified.fetched), (Verdict::Equal, 3), "{verified:?}");
    let found = of(&verified, "d_go");
    let mut ids = found.here.ids.clone();
    ids.sort();
    assert_eq!((ids, &*found.log), (vec!["evt_00000".to_owned(), "evt_00007".into(), "evt_04999".into()], ""));
    assert_eq!(
        (found.there.events, found.there.ids.len()),
        (1200, limits::MAX_NAMED),
        "all are counted, some are named"
    );
    assert!(found.here.numbers.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_with_two_contents_is_named_and_stays_as_it_is() {
    let (a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    a.log.apply(of_go(0..3)).unwrap();
    let other = of_go(0..3).events.into_iter().map(|event| event.body.replace("\"n\":1", "\"n\":100"));
    b.log.apply(batch(other)).unwrap();
    a.pair(&b).await;
    let verified = a.peers.verify(Duration::from_secs(6)).await.unwrap();
    assert_eq!((verified.status, verified.fetched), (Verdict::Differs, 0), "{verified:?}");
    assert_eq!(of(&verified, "d_go").other_content, 1);
}

/// Without a call of `verify`, both sides find the hole, report it, and are quiet afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_hole_heals_by_itself_and_is_shown() {
    let (mut a, mut b) = pair(10).await;
    for daemon in [&mut a, &mut b] {
        daemon.restart_with_sync_interval(Duration::from_millis(100)).await;
    }
    let whole = a.log.heads().unwrap();
    lose_knowingly(&a, &format!("origin_daemon = '{}' AND origin_seq IN (4, 5)", b.id));
    lose_knowingly(&b, &format!("origin_daemon = '{}' AND origin_seq = 7", a.id));
    let healed = async {
        while a.log.heads().unwrap() != whole || b.log.heads().unwrap() != whole {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, healed).await.expect("healed");
    let shown = async {
        loop {
            let status = &a.peers.status().await.unwrap()[0];
            if let Some(repaired) = &status.details.repaired {
                return repaired.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let shown = tokio::time::timeout(PATIENCE, shown).await.expect("shown");
    assert_eq!((shown.fetched, shown.missing_here, shown.note), (2, 0, None));
    a.agrees().await;
}

/// The reported version vector is bounded. Beyond that, the other side reports that it cannot compare, and why.
#[tokio::test(flavor = "multi_thread")]
async fn more_logs_than_a_peer_is_told_of_cannot_be_compared() {
    let (a, b) = pair(1).await;
    let one_each = |range: std::ops::Range<usize>| {
        batch(range.map(|n| {
            format!(r#"{{"event_id":"evt_{n}","type":"future.thing","timestamp":"x","origin_daemon":"d_{n}"}}"#)
        }))
    };
    // Two non-legacy daemons are already included.
    let room = limits::MAX_HEADS - 2;
    a.log.apply(one_each(0..room)).unwrap();
    a.agrees().await;
    b.agrees().await;
    a.log.apply(one_each(room..room + 1)).unwrap();
    let verified = b.peers.verify(Duration::from_secs(8)).await.unwrap();
    assert_eq!(verified.status, Verdict::Unreachable, "{:?}", verified.peers);
    assert!(verified.peers[0].error.as_ref().unwrap().contains("more than 2000 logs"), "{:?}", verified.peers);
    assert_eq!(a.log.event_ids().len(), b.log.event_ids().len(), "replication goes on");
}
