//! Two to eight daemons with loss, duplication, reordering, partition, crashes during a write, lost and restored disks,
//! by seed. The seven properties hold afterwards. `THRUM_SEED=n` replays one seed, `THRUM_SEEDS=1..10000` runs a range.

mod mesh;
pub mod seeds;

use std::time::Duration;

use thrum_core::limits;
use thrum_sync::{Log, replicator::State};

use crate::{
    life::REST,
    sim::{Sim, Traffic},
};

fn paired(seed: u64, count: usize, pairs: &[(usize, usize)]) -> Sim {
    let mut sim = Sim::new(seed, count);
    pairs.iter().for_each(|(here, there)| sim.pair(*here, *there));
    sim.run_for(Duration::from_secs(60));
    sim.assert_agreement();
    sim
}

#[test]
fn a_message_is_announced_once_per_hop_and_never_back() {
    let mut sim = paired(1, 3, &[(0, 1), (1, 2)]);
    // Not at the same time as the periodic pulls.
    sim.run_for(Duration::from_secs(1));
    sim.traffic.clear();
    let message = sim.say(0, "to the far end");
    sim.run_for(Duration::from_secs(1));
    assert!(sim.daemons[2].log.has_message(&message));
    let sent = |from, to| sim.traffic.get(&(from, to)).cloned().unwrap_or_default();
    assert_eq!(sent(0, 1), Traffic { notifies: 1, events: 1, news: 1, ..Traffic::default() });
    // Events that came from a daemon are served to it like all others, once.
    assert_eq!(sent(1, 2), Traffic { notifies: 1, events: 1, news: 1, ..Traffic::default() });
    assert_eq!((sent(1, 0).notifies, sent(2, 1).notifies), (0, 0), "no echo");
    assert_eq!((sent(1, 0).pulls, sent(2, 1).pulls), (1, 1), "the announcement brought it; a pull acknowledges it");
    sim.run_for(REST);
    sim.assert_agreement();
    sim.assert_quiet(20);
}

/// C24
#[test]
fn a_triangle_and_a_ring_of_four_go_quiet() {
    let mut triangle = paired(2, 3, &[(0, 1), (1, 2), (2, 0)]);
    let mut ring = paired(3, 4, &[(0, 1), (1, 2), (2, 3), (3, 0)]);
    for sim in [&mut triangle, &mut ring] {
        sim.traffic.clear();
        for n in 0..10 {
            sim.say(n % 3, "round and round");
        }
        sim.run_for(Duration::from_secs(5));
        sim.assert_agreement();
        let notifies: usize = sim.traffic.values().map(|traffic| traffic.notifies).sum();
        assert!(notifies <= 10 * sim.daemons.len() * 2, "{notifies} notifies for 10 messages");
        sim.run_for(REST);
        sim.assert_quiet(20);
    }
}

#[test]
fn partition_heals_and_both_sides_agree() {
    let mut sim = paired(4, 2, &[(0, 1)]);
    sim.network.cut(0, 1, true);
    let (one, other) = (sim.say(0, "on this side"), sim.say(1, "on that side"));
    sim.run_for(Duration::from_secs(3600));
    assert!(!sim.daemons[1].log.has_message(&one));
    sim.heal();
    sim.run_for(limits::BACKOFF_LAST + limits::MEET);
    assert!(sim.daemons[1].log.has_message(&one) && sim.daemons[0].log.has_message(&other));
    sim.assert_agreement();
    sim.run_for(REST);
    sim.assert_quiet(20);
}

/// One start with the clock three years ahead: events written after the correction are dated correctly, all daemons
/// agree on everything, and a purge removes the events in the future everywhere.
#[test]
fn a_clock_that_was_years_ahead_dates_nothing_later_and_all_agree() {
    const YEARS: i64 = 3 * 365 * 86_400;
    let mut sim = paired(5, 3, &[(0, 1), (1, 2)]);
    sim.skew(0, YEARS);
    let ahead: Vec<String> = (0..10).map(|n| sim.say(0, &format!("ahead {n}"))).collect();
    sim.run_for(Duration::from_secs(3600));
    sim.skew(0, 0);
    let after = [sim.say(0, "after"), sim.say(2, "of another")];
    sim.run_for(Duration::from_secs(3600));
    sim.assert_agreement();
    let now = sim.wall();
    for daemon in &sim.daemons {
        let at = |message: &String| daemon.log.message(message).unwrap();
        assert!(after.iter().all(|message| at(message).claimed_at < now), "{}", daemon.name());
        assert!(
            ahead.iter().all(|message| at(message).created_at < now && at(message).claimed_at > now),
            "{}",
            daemon.name()
        );
    }
    sim.purge(1, now.minus(Duration::from_secs(60)));
    sim.run_for(Duration::from_secs(3600));
    for daemon in &sim.daemons {
        assert!(!ahead.iter().chain(&after).any(|message| daemon.log.has_message(message)), "{}", daemon.name());
    }
    sim.assert_agreement();
    sim.run_for(REST);
    sim.assert_quiet(20);
}

/// C26: a new database file is synced with its directory, so that its journal does not reappear after a crash and
/// overwrite later writes.
#[test]
fn a_database_that_was_just_made_survives_a_crash() {
    for seed in 0..20 {
        let mut sim = Sim::new(seed, 1);
        // Enough to move it from the write-ahead log into the database file.
        let messages: Vec<String> = (0..100).map(|n| sim.say(0, &format!("{n}"))).collect();
        sim.crash(0);
        sim.start(0);
        assert!(messages.iter().all(|message| sim.daemons[0].log.has_message(message)), "seed {seed}");
    }
}

/// An open connection between two daemons with one direction cut: a daemon that waits for a reply gives up at its
/// deadline and reports it. No daemon waits forever.
#[test]
fn a_half_open_connection_ends_by_a_deadline() {
    for (from, to) in [(0, 1), (1, 0)] {
        let mut sim = paired(7, 2, &[(0, 1)]);
        sim.network.cut_way(from, to, true);
        let messages = [sim.say(0, "from here"), sim.say(1, "from there")];
        sim.run_for(limits::SYNC_INTERVAL + limits::PULL);
        for daemon in &sim.daemons {
            let (peer, status) = daemon.statuses().next().unwrap();
            assert!(
                status.state == State::Unreachable && status.exchange.last_error.is_some(),
                "{} believes in {peer}: {status:?}",
                daemon.name()
            );
        }
        sim.heal();
        sim.run_for(limits::BACKOFF_LAST + limits::MEET);
        assert!(sim.daemons.iter().all(|daemon| messages.iter().all(|message| daemon.log.has_message(message))));
        sim.assert_agreement();
    }
}

/// C27
#[test]
fn a_daemon_restored_from_a_backup_gets_its_own_events_back_and_is_read_again() {
    let mut sim = paired(5, 2, &[(0, 1)]);
    sim.crash(0);
    sim.start(0);
    sim.crash(0);
    let backup = sim.copy(0);
    sim.start(0);
    let after_the_backup = sim.say(0, "not in the backup");
    sim.run_for(Duration::from_secs(60));
    assert!(sim.daemons[1].log.has_message(&after_the_backup));
    let before = sim.daemons[0].log.id();
    sim.crash(0);
    sim.restore(0, &backup);
    sim.start(0);
    assert_ne!(sim.daemons[0].log.id(), before, "another life of the database, another log");
    assert!(!sim.daemons[0].log.has_message(&after_the_backup));
    let later = sim.say(0, "after the restoration");
    sim.run_for(REST);
    assert!(sim.daemons[0].log.has_message(&after_the_backup) && sim.daemons[1].log.has_message(&later));
    sim.assert_agreement();
    sim.assert_quiet(20);
}

/// C27: what peers know about the previous log does not apply to one that begins below it.
#[test]
fn a_log_that_begins_below_the_last_one_is_read_from_its_start() {
    let mut sim = paired(10, 2, &[(0, 1)]);
    for (seconds, text) in [(86_400, "by a clock that is ahead"), (0, "by one that was set right")] {
        sim.skew(0, seconds);
        sim.stop(0);
        sim.delete_database(0);
        sim.start(0);
        sim.write(0, |log| log.register("agent0"));
        let message = sim.say(0, text);
        sim.run_for(REST);
        assert!(sim.daemons[1].log.has_message(&message), "{text}");
    }
    sim.assert_agreement();
}

/// C27: nothing beside the database shows that it is older, but a peer holds events that it has signed since.
#[test]
fn a_directory_that_is_restored_whole_is_known_by_what_peers_hold() {
    let mut sim = paired(8, 2, &[(0, 1)]);
    let copied = sim.copy(0);
    let lost = sim.say(0, "not in the copy");
    sim.run_for(Duration::from_secs(60));
    let log = sim.daemons[0].log.id();
    sim.stop(0);
    sim.restore_directory(0, &copied);
    sim.start(0);
    assert_eq!(sim.daemons[0].log.id(), log, "it cannot know");
    let in_its_place = sim.say(0, "with the number of the lost one");
    sim.run_for(REST);
    assert_ne!(sim.daemons[0].log.id(), log);
    assert!(sim.daemons.iter().all(|daemon| daemon.log.has_message(&lost) && daemon.log.has_message(&in_its_place)));
    sim.assert_agreement();
    sim.assert_quiet(20);
}

/// C28: a machine was cloned, and both daemons run with one key and one log before this is noticed. Whichever of them
/// is reached, peers continue, and pass the events of one to the other.
#[test]
fn two_daemons_with_one_key_and_one_log_hold_nobody_up() {
    let mut sim = Sim::new(9, 3);
    sim.reserve(2);
    sim.pair(0, 1);
    sim.run_for(Duration::from_secs(60));
    sim.clone_machine(0, 2);
    assert_eq!((&sim.daemons[2].id, sim.daemons[2].log.id()), (&sim.daemons[0].id, sim.daemons[0].log.id()));
    let mut said = Vec::new();
    for (n, at) in [0, 2, 2, 0, 1, 2].into_iter().enumerate() {
        sim.answers_for_both(at / 2 * 2);
        let author = if at == 1 { 1 } else { 0 };
        said.push(sim.write(at, |log| log.say(&format!("agent{author}"), &format!("thing {n}"))));
        sim.run_for(REST);
    }
    assert_ne!(sim.daemons[2].log.id(), sim.daemons[0].log.id(), "each has noticed the other");
    for at in [0, 2] {
        sim.answers_for_both(at);
        sim.run_for(REST);
    }
    assert!(sim.daemons.iter().all(|daemon| said.iter().all(|message| daemon.log.has_message(message))));
    sim.assert_agreement();
}

#[test]
fn a_large_backlog_is_read_in_batches_and_acknowledged() {
    let mut sim = Sim::new(6, 2);
    sim.write(0, |log| (0..2_500).for_each(|n| drop(log.say("agent0", &format!("message {n}")))));
    sim.pair(0, 1);
    sim.run_for(Duration::from_secs(30));
    sim.assert_agreement();
    let pulls = sim.traffic[&(1, 0)].pulls;
    assert!((4..=7).contains(&pulls), "{pulls} pulls for 2,501 events");
}
