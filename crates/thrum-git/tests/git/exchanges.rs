//! What daemons that share a remote have in common afterwards.

use std::collections::BTreeSet;

use thrum_git::{Published, Report, SeenState, manifest::Unusable};

use crate::place::{Daemon, Place, files, git, pair, script, settle};

/// Brings the events of a daemon that is not on the remote to these, as a peer would. Returns it, and the id of its
/// message.
fn over_a_tailnet(to: &[&Daemon]) -> (Daemon, String) {
    let elsewhere = Place::new();
    let far = elsewhere.daemon("far");
    far.keep_time_with(to[0]);
    let said = far.say("from a tailnet");
    to.iter().for_each(|one| one.log.apply_from("d_far", &far.events()));
    (far, said)
}

#[test]
fn two_daemons_share_everything_through_a_remote_and_then_go_quiet() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    let (first, second) = (ann.say("from ann"), ben.say("from ben"));
    settle(&mut [&mut ann, &mut ben]);
    assert!(ben.has_message(&first) && ann.has_message(&second));
    assert_eq!(ann.heads(), ben.heads());

    let tips = git(&place.remote(), &["for-each-ref"]);
    assert_eq!((ann.run().published, ben.run().published), (None, None));
    assert_eq!(git(&place.remote(), &["for-each-ref"]), tips);

    let reply = ben.say("a reply");
    let published = ben.run().published.expect("there is news");
    assert_eq!(published.events, 1, "only the news");
    assert_eq!(ann.run().applied.applied, 1);
    assert!(ann.has_message(&reply));
}

#[test]
fn after_a_restart_nothing_is_published_or_read_again() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    ann.say("before");
    settle(&mut [&mut ann, &mut ben]);
    ann.restart();
    ben.restart();
    let (report, other) = (ann.run(), ben.run());
    assert_eq!((report.published, report.applied.skipped), (None, 0));
    assert_eq!((other.published, other.applied.skipped), (None, 0));
}

#[test]
fn the_events_of_a_daemon_wait_until_it_is_trusted_or_vouched_for() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    let mut eve = place.daemon("eve");
    let said = eve.say("let me in");
    eve.run();
    let report = ann.run();
    let seen = &report.daemons[&eve.id];
    assert_eq!((&seen.state, seen.name.as_str(), &seen.heads), (&SeenState::Waiting, "eve", &None));
    assert!(!ann.has_message(&said));
    assert_eq!(ann.heads().get(&eve.id, "").map(|head| head.count), None);

    ben.trust(&eve);
    ben.run();
    assert!(ben.has_message(&said));
    // Ann trusts ben, who vouches for eve.
    let report = ann.run();
    assert_eq!(report.daemons[&eve.id].state, SeenState::Trusted);
    assert!(ann.has_message(&said));

    let mut dan = place.daemon("dan");
    dan.trust(&ben);
    dan.trust.distrusted.insert(eve.id.clone());
    let report = dan.run();
    assert_eq!(report.daemons[&eve.id].state, SeenState::Distrusted, "whoever vouches for it");
}

/// Ben's mail reaches dan by the remote, although only ann publishes there.
#[test]
fn events_of_a_daemon_that_is_not_on_the_remote_are_published_once() {
    let place = Place::new();
    let (mut ann, mut ben, mut dan) = (place.daemon("ann"), place.daemon("ben"), place.daemon("dan"));
    for other in [&mut ben, &mut dan] {
        other.trust(&ann);
    }
    let (far, said) = over_a_tailnet(&[&ann, &ben]);
    ann.trust(&ben);
    let own = ann.heads().total() - far.heads().total();
    assert_eq!(ann.run().published.map(|published| published.events), Some(own + far.heads().total()));
    let published = ben.run().published.expect("its own");
    assert_eq!(published.events, ben.heads().total() - far.heads().total() - own, "what ann publishes is left out");
    dan.run();
    assert!(dan.has_message(&said));
}

#[test]
fn the_text_of_purged_events_leaves_the_ref_with_the_next_push() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    let said = ann.say("the secret word is xyzzy");
    settle(&mut [&mut ann, &mut ben]);
    let holds = |id: &str| String::from_utf8_lossy(&place.reachable(id)).contains("xyzzy");
    assert!(holds(&ann.id));
    ann.purge_everything();
    ben.keep_time_with(&ann);
    settle(&mut [&mut ann, &mut ben]);
    assert!(!holds(&ann.id));
    assert!(!ben.has_message(&said));
    assert_eq!(ann.heads().differences(&ben.heads()), []);
}

#[test]
fn what_is_being_purged_is_not_published_for_a_daemon_that_has_purged_it() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    for n in 0..20 {
        ann.say(&format!("the secret word {n} is xyzzy"));
    }
    settle(&mut [&mut ann, &mut ben]);
    ann.purge_everything();
    ben.keep_time_with(&ann);
    ann.run();
    ben.purge_slowly();
    assert!(ben.run().purge_goes_on);
    let published = |id: &str| String::from_utf8_lossy(&place.reachable(id)).into_owned();
    assert!(!published(&ben.id).contains("xyzzy"));
    // What comes over a tailnet meanwhile is published afterwards.
    let (_far, said) = over_a_tailnet(&[&ben]);
    ben.run();
    assert!(!published(&ben.id).contains("from a tailnet"));
    ben.finish_purge();
    settle(&mut [&mut ann, &mut ben]);
    assert!(ann.has_message(&said));
    assert_eq!(ann.heads().differences(&ben.heads()), []);
    assert!(!published(&ben.id).contains("xyzzy"));
}

#[test]
fn whoever_still_publishes_what_was_purged_is_named() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    over_a_tailnet(&[&ben]);
    settle(&mut [&mut ann, &mut ben]);
    ann.purge_everything();
    assert_eq!(ann.run().daemons[&ben.id].purged, 1, "the message of far");
    ben.keep_time_with(&ann);
    settle(&mut [&mut ann, &mut ben]);
    assert_eq!(ann.run().daemons[&ben.id].purged, 0);
}

/// Runs an exchange, and keeps whom others vouch for, as a daemon does in its state.
fn run_and_keep(daemon: &mut Daemon) -> Report {
    let report = daemon.run();
    daemon.trust.vouched.extend(report.vouched.clone());
    report
}

#[test]
fn trust_through_a_daemon_holds_when_that_daemon_leaves_and_ends_when_it_says_so() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    let mut dan = place.daemon("dan");
    ann.trust(&dan);
    dan.trust(&ann);
    for _ in 0..2 {
        for daemon in [&mut ann, &mut ben, &mut dan] {
            run_and_keep(daemon);
        }
    }
    assert_eq!(ben.run().daemons[&dan.id].state, SeenState::Trusted);
    git(&place.remote(), &["update-ref", "-d", &format!("refs/thrum/{}", ann.id)]);
    let said = dan.say("after ann has left");
    run_and_keep(&mut dan);
    for _ in 0..2 {
        assert_eq!(run_and_keep(&mut ben).daemons[&dan.id].state, SeenState::Trusted);
    }
    assert!(ben.has_message(&said));
    ann.trust.trusted.remove(&dan.id);
    ann.run();
    assert_eq!(run_and_keep(&mut ben).daemons[&dan.id].state, SeenState::Waiting);
    // Whoever is not trusted vouches for nobody.
    ann.trust(&dan);
    ann.run();
    run_and_keep(&mut ben);
    ben.trust.trusted.remove(&ann.id);
    assert_eq!(ben.run().daemons[&dan.id].state, SeenState::Waiting);
}

/// A user's `git push --mirror` deletes all refs that their clone does not have.
#[test]
fn a_ref_that_somebody_deleted_is_published_in_full_again() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    for n in 0..5 {
        ann.say(&format!("message {n}"));
        settle(&mut [&mut ann, &mut ben]);
    }
    git(&place.path("ben"), &["push", "--quiet", "--mirror", &place.remote().to_string_lossy()]);
    assert_eq!(place.refs(), Vec::<String>::new());
    let published = ann.run().published.unwrap();
    assert_eq!(published.events, ann.heads().total(), "all, also those of ben, whose ref is gone, too");
    assert!(published.bytes > 0);
    settle(&mut [&mut ann, &mut ben]);
    let mut dan = place.daemon("dan");
    dan.trust(&ann);
    dan.run();
    assert_eq!(dan.heads().get(&ann.id, &log_of(&ann)), ann.heads().get(&ann.id, &log_of(&ann)));
}

/// The log of a daemon's own events.
fn log_of(daemon: &Daemon) -> String {
    daemon.heads().iter().find(|head| head.origin == daemon.id).expect("it has written").log.clone()
}

#[test]
fn many_pushes_leave_few_bundles_and_a_newcomer_reads_all_events() {
    let place = Place::new();
    let mut ann = place.daemon("ann");
    let mut said = Vec::new();
    for n in 0..120 {
        // So that the bundles have several sizes.
        let text: String = (0..200 * (n % 7)).map(|m| char::from(b'a' + u8::try_from((m * n) % 26).unwrap())).collect();
        said.push(ann.say(&format!("message {n} {text}")));
        ann.run();
        let parents =
            git(&place.remote(), &["rev-list", "--parents", "--max-count=1", &format!("refs/thrum/{}", ann.id)]);
        assert!(parents.split(' ').count() <= 16, "a fetch negotiates with 15 parents: {parents}");
    }
    let mut dan = place.daemon("dan");
    dan.trust(&ann);
    dan.run();
    assert!(said.iter().all(|id| dan.has_message(id)));
    let commits = git(&place.remote(), &["rev-list", "--count", &format!("refs/thrum/{}", ann.id)]);
    assert!(commits.parse::<usize>().unwrap() <= 16, "no history: {commits} commits");
}

#[test]
fn ten_daemons_that_push_at_once_all_succeed() {
    let place = Place::new();
    let mut daemons: Vec<Daemon> = (0..10).map(|n| place.daemon(&format!("agent{n}"))).collect();
    let names: Vec<(String, String)> = daemons.iter().map(|one| (one.id.clone(), one.name.clone())).collect();
    let mut said = Vec::new();
    for daemon in &mut daemons {
        daemon.trust.trusted = names.iter().filter(|(id, _)| *id != daemon.id).cloned().collect();
        said.push(daemon.say("hello"));
    }
    for _ in 0..2 {
        std::thread::scope(|scope| {
            for daemon in &mut daemons {
                scope.spawn(|| daemon.run());
            }
        });
    }
    for daemon in &mut daemons {
        daemon.run();
        assert!(said.iter().all(|id| daemon.has_message(id)), "{} lacks mail", daemon.name);
    }
    let heads: BTreeSet<String> = daemons.iter().map(|one| format!("{:?}", one.heads())).collect();
    assert_eq!(heads.len(), 1);
}

/// C32
#[test]
fn the_users_repository_stays_byte_for_byte_as_it_was() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    let dot_git = ann.top.join(".git");
    for setting in [
        ["fetch.prune", "true"],
        ["push.followTags", "true"],
        ["fetch.writeCommitGraph", "true"],
        ["push.gpgSign", "true"],
    ] {
        git(&ann.top, &["config", setting[0], setting[1]]);
    }
    git(&ann.top, &["tag", "-a", "private", "-m", "private"]);
    let hook = dot_git.join("hooks/pre-push");
    script(&hook, "exit 1");
    let before = files(&dot_git);
    ann.say("one");
    ben.say("two");
    settle(&mut [&mut ann, &mut ben]);
    ann.say("three");
    settle(&mut [&mut ann, &mut ben]);
    assert_eq!(files(&dot_git), before);
    assert_eq!(git(&place.remote(), &["tag"]), "", "private tags stay private");
}

#[test]
fn a_report_of_an_unchanged_daemon_says_that_nothing_was_published() {
    let place = Place::new();
    let mut ann = place.daemon("ann");
    assert_eq!(ann.run().published.map(|Published { events, .. }| events), Some(ann.heads().total()));
    assert_eq!(ann.run().published, None);
}

#[test]
fn what_is_encrypted_is_read_by_trusted_daemons_only() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    let mut eve = place.daemon("eve");
    eve.trust(&ann);
    (ann.trust.encrypts, ben.trust.encrypts) = (true, true);
    let said = ann.say("the secret word is xyzzy");
    settle(&mut [&mut ann, &mut ben]);
    assert!(ben.has_message(&said));
    assert_eq!(ann.heads(), ben.heads());
    assert!(!String::from_utf8_lossy(&place.reachable(&ann.id)).contains("xyzzy"));
    assert_eq!(eve.run().daemons[&ann.id].state, SeenState::Unusable(Unusable::NotForUs));

    // After a restart the key is still known, and nothing is published again.
    ann.restart();
    assert_eq!(ann.run().published, None);

    ann.trust(&eve);
    assert_eq!(ann.run().published, Some(Published::default()), "eve gets the key; no event is sent again");
    eve.run();
    assert!(eve.has_message(&said));
}

#[test]
fn a_daemon_that_is_no_longer_trusted_reads_nothing_that_is_published_later() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    ann.trust.encrypts = true;
    let before = ann.say("before");
    settle(&mut [&mut ann, &mut ben]);
    assert!(ben.has_message(&before));
    ann.trust.trusted.clear();
    let after = ann.say("after");
    let published = ann.run().published.expect("everything, with another key");
    assert_eq!(published.events, ann.heads().total());
    assert_eq!(ben.run().daemons[&ann.id].state, SeenState::Unusable(Unusable::NotForUs));
    assert!(!ben.has_message(&after));
}

/// Ann and dan both trust ben only, who vouches for each to the other.
#[test]
fn daemons_that_know_each_other_through_a_third_read_what_is_encrypted() {
    let place = Place::new();
    let (mut ann, mut ben, mut dan) = (place.daemon("ann"), place.daemon("ben"), place.daemon("dan"));
    ann.trust(&ben);
    dan.trust(&ben);
    ben.trust(&ann);
    ben.trust(&dan);
    for daemon in [&mut ann, &mut ben, &mut dan] {
        daemon.trust.encrypts = true;
    }
    let (first, second) = (ann.say("from ann"), dan.say("from dan"));
    settle(&mut [&mut ann, &mut ben, &mut dan]);
    assert!(dan.has_message(&first) && ann.has_message(&second));
    assert_eq!(ann.run().daemons[&dan.id].state, SeenState::Trusted);
}

#[test]
fn what_another_daemon_published_is_published_here_once_its_ref_is_gone() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    let (_far, said) = over_a_tailnet(&[&ann, &ben]);
    settle(&mut [&mut ann, &mut ben]);
    git(&place.remote(), &["update-ref", "-d", &format!("refs/thrum/{}", ann.id)]);
    settle(&mut [&mut ben]);
    let mut dan = place.daemon("dan");
    dan.trust(&ben);
    dan.run();
    assert!(dan.has_message(&said));
}

#[test]
fn events_that_the_database_lost_come_back_from_the_own_ref() {
    let place = Place::new();
    let mut ann = place.daemon("ann");
    let said = ann.say("on the ref");
    ann.run();
    let mut again = Daemon::with_key(&place, "again", ann.key.clone());
    again.run();
    assert!(again.has_message(&said), "an empty database with the same key");
    assert!(place.refs().len() == 1 && again.heads().total() > ann.heads().total());
}

/// After a purge, what is left of a log are single events.
#[test]
fn a_log_with_many_gaps_is_published_in_segments_that_can_be_read() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    for n in 0..1100 {
        ann.say(&format!("message {n}"));
        ann.claim(&format!("file{}", n % 400), 3600 + n);
    }
    ann.purge_everything();
    ben.keep_time_with(&ann);
    ann.run();
    let report = ben.run();
    assert_eq!(report.daemons[&ann.id].state, SeenState::Trusted);
    assert!(ben.heads().total() > 1100, "{}", ben.heads().total());
    assert_eq!(ben.heads().differences(&ann.heads()).iter().filter(|one| one.there > one.here).count(), 0);
}
