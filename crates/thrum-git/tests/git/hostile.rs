//! What is on a remote may have been put there by anybody who may push.

use std::{collections::BTreeMap, io::Write, path::Path, process::Command};

use thrum_core::{Event, Timestamp};
use thrum_git::{
    SeenState,
    manifest::{self, Bundle, FORMAT, Index, Manifest, Segment, Unusable},
};

use crate::{
    noise::noise,
    place::{Daemon, Place, git},
};

/// Stores bytes as a blob in a repository. Returns its id.
fn blob(repository: &Path, bytes: &[u8]) -> String {
    with_input(repository, &["hash-object", "-w", "--stdin"], bytes)
}

fn with_input(repository: &Path, args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("git")
        .args(["-c", "user.name=Eve", "-c", "user.email=eve@example.com"])
        .args(args)
        .current_dir(repository)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Sets the ref of a daemon on the remote to a commit with these files.
fn publish(place: &Place, id: &str, files: &[(&str, &[u8])], parents: &[String]) {
    let remote = place.remote();
    let entries: String =
        files.iter().map(|(name, bytes)| format!("100644 blob {}\t{name}\n", blob(&remote, bytes))).collect();
    let tree = with_input(&remote, &["mktree"], entries.as_bytes());
    let mut args = vec!["commit-tree", "-m", "x", &tree];
    parents.iter().for_each(|parent| args.extend(["-p", parent]));
    let commit = with_input(&remote, &args, &[]);
    git(&remote, &["update-ref", &format!("refs/thrum/{id}"), &commit]);
}

/// A manifest of a daemon for an index, signed with its key.
fn signed(daemon: &Daemon, index: &Index) -> (Vec<u8>, Vec<u8>) {
    let bytes = index.encode(None, &mut daemon.world());
    let manifest = Manifest {
        format: FORMAT,
        daemon_id: daemon.id.clone(),
        name: daemon.name.clone(),
        number: 99,
        at: Timestamp::ZERO,
        index: manifest::digest(&bytes),
        recipients: BTreeMap::new(),
    };
    (manifest.encode(|text| daemon.key.sign_manifest(text)), bytes)
}

/// A segment of a daemon's events with this content.
fn segment(place: &Place, events: &[Event], bytes: &[u8]) -> Segment {
    Segment {
        blob: blob(&place.remote(), bytes),
        bytes: bytes.len() as u64,
        origin: events[0].origin.clone(),
        log: events[0].log.clone(),
        events: events.len() as u64,
        numbers: events.iter().map(|event| event.seq).collect(),
    }
}

/// Publishes segments as those of a daemon, in one bundle. A segment whose id begins with zeros is listed and missing.
fn publish_segments(place: &Place, daemon: &Daemon, segments: Vec<Segment>) {
    let remote = place.remote();
    let there = segments.iter().enumerate().filter(|(_, one)| !one.blob.starts_with("0000"));
    let entries: String = there.map(|(n, one)| format!("100644 blob {}\t{n}\n", one.blob)).collect();
    let tree = with_input(&remote, &["mktree"], entries.as_bytes());
    let commit = with_input(&remote, &["commit-tree", "-m", "x", &tree], &[]);
    let bundles = vec![Bundle { commit: commit.clone(), segments }];
    let (manifest, index) = signed(daemon, &Index { heads: daemon.heads(), trusts: Vec::new(), bundles });
    publish(place, &daemon.id, &[("index", &index), ("manifest", &manifest)], &[commit]);
}

#[test]
fn a_tip_that_is_not_that_daemons_is_named_and_stops_nobody_else() {
    let place = Place::new();
    let (mut ann, ben, eve) = (place.daemon("ann"), place.daemon("ben"), place.daemon("eve"));
    let mut dan = place.daemon("dan");
    let said = dan.say("hello");
    dan.run();
    for other in [&ben, &eve, &dan] {
        ann.trust(other);
    }
    let (manifest, index) = signed(&eve, &Index::default());
    let text = String::from_utf8(manifest.clone()).unwrap();
    let other_name = text.replace("\"eve\"", "\"ann\"").into_bytes();
    let later = text.replace("\"format\":1", "\"format\":2").into_bytes();
    let cases: [(&str, &[u8], &[u8], Unusable); 6] = [
        (&ben.id, &manifest, &index, Unusable::OtherDaemon(eve.id.clone())),
        (&eve.id, &other_name, &index, Unusable::Signature),
        (&eve.id, &later, &index, Unusable::Format(2)),
        (&eve.id, &manifest, b"another index", Unusable::OtherIndex),
        (&eve.id, b"no manifest", &index, Unusable::Unreadable("manifest")),
        (&eve.id, &[b'x'; 600 << 10], &index, Unusable::Missing("manifest")),
    ];
    for (id, manifest, index, why) in cases {
        publish(&place, id, &[("index", index), ("manifest", manifest)], &[]);
        let report = ann.run();
        assert_eq!(report.daemons[id].state, SeenState::Unusable(why));
        git(&place.remote(), &["update-ref", "-d", &format!("refs/thrum/{id}")]);
    }
    publish(&place, &eve.id, &[("README", b"hello")], &[]);
    assert_eq!(ann.run().daemons[&eve.id].state, SeenState::Unusable(Unusable::Missing("manifest")));
    assert!(ann.has_message(&said));
}

#[test]
fn a_ref_that_is_too_large_is_left_out_and_keeps_nobody_from_the_mail_of_trusted_daemons() {
    let place = Place::new();
    let (mut ann, mut dan) = (place.daemon("ann"), place.daemon("dan"));
    let eve = Daemon::start(&place.path("first"), "eve");
    let first = ann.say("before");
    ann.run();
    dan.trust(&ann);
    dan.run();
    dan.restart_with(2 << 20);
    assert!(dan.has_message(&first));
    publish(&place, &eve.id, &[("large", noise(8 << 20).as_bytes())], &[]);
    let second = ann.say("after");
    ann.run();
    for _ in 0..2 {
        let report = dan.run();
        assert_eq!(report.left_out, 1);
        assert!(dan.has_message(&second) && !report.daemons.contains_key(&eve.id));
    }
    // A trusted daemon that is gone is forgotten as ever.
    git(&place.remote(), &["update-ref", "-d", &format!("refs/thrum/{}", ann.id)]);
    assert!(!dan.run().daemons.contains_key(&ann.id));
}

#[test]
fn a_trusted_daemon_that_publishes_too_much_is_an_error_in_words() {
    let place = Place::new();
    let (ann, mut dan) = (place.daemon("ann"), place.daemon("dan"));
    dan.trust(&ann);
    dan.restart_with(2 << 20);
    publish(&place, &ann.id, &[("large", noise(8 << 20).as_bytes())], &[]);
    let error = dan.try_run().unwrap_err().to_string();
    assert!(error.contains("sent more than"), "{error}");
    let packs = dan.top.join(".thrum/var/git/objects/pack");
    let names = std::fs::read_dir(packs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("tmp_")).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn daemons_that_one_daemon_vouches_for_share_one_quota() {
    let place = Place::new();
    let (mut ann, mut dan) = (place.daemon("ann"), place.daemon("dan"));
    let mut vouched = ["ben", "cat", "eli"].map(|name| place.daemon(name));
    for one in &mut vouched {
        one.say(&"many words ".repeat(500));
        one.run();
        ann.trust(one);
    }
    ann.run();
    dan.trust(&ann);
    dan.log.quota.lock().unwrap().bytes = 8_000;
    let report = dan.run();
    let states: Vec<&SeenState> = vouched.iter().map(|one| &report.daemons[&one.id].state).collect();
    let over = states.iter().filter(|state| matches!(state, SeenState::OverQuota(_))).count();
    assert_eq!(
        (over, &report.daemons[&ann.id].state),
        (1, &SeenState::Trusted),
        "two of them, then it is enough: {states:?}"
    );
}

#[test]
fn refs_that_are_no_daemons_are_passed_over() {
    let place = Place::new();
    let mut ann = place.daemon("ann");
    for name in ["d_go_1", "x", "deeply/nested", "d_kaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/x"] {
        publish(&place, name, &[("manifest", b"{}")], &[]);
    }
    assert_eq!(ann.run().daemons.len(), 0);
}

#[test]
fn a_segment_that_cannot_be_read_is_counted_and_the_others_are_stored() {
    let place = Place::new();
    let (mut ann, mut eve) = (place.daemon("ann"), place.daemon("eve"));
    ann.trust(&eve);
    let said = eve.say("hello");
    eve.run();
    let events = eve.events();
    let lines: String = events.iter().map(|event| format!("{}\n", event.body)).collect();
    let good = segment(&place, &events, &zstd::bulk::compress(lines.as_bytes(), 3).unwrap());
    let bomb = zstd::bulk::compress(&vec![b'\n'; 64 << 20], 3).unwrap();
    // They say that they have one more event, which ann would need.
    let more = |one: Segment| Segment { numbers: (1..=9).collect(), ..one };
    let broken = more(segment(&place, &events, b"no segment"));
    let bomb = more(segment(&place, &events, &bomb));
    let missing = Segment { blob: "0".repeat(40), ..broken.clone() };
    publish_segments(&place, &eve, vec![broken, bomb, good, missing]);
    let report = ann.run();
    let seen = &report.daemons[&eve.id];
    assert_eq!((&seen.state, seen.bad_segments.as_ref().map(|(count, _)| *count)), (&SeenState::Trusted, Some(3)));
    assert!(ann.has_message(&said));
}

/// C21
#[test]
fn an_event_with_a_wrong_signature_is_rejected_and_the_others_are_stored() {
    let place = Place::new();
    let (mut ann, mut eve) = (place.daemon("ann"), place.daemon("eve"));
    ann.trust(&eve);
    let (first, second) = (eve.say("true"), eve.say("as it was"));
    eve.run();
    let events = eve.events();
    let lines: String =
        events.iter().map(|event| format!("{}\n", event.body.replace("as it was", "as it was not"))).collect();
    let altered = segment(&place, &events, &zstd::bulk::compress(lines.as_bytes(), 3).unwrap());
    publish_segments(&place, &eve, vec![altered]);
    let report = ann.run();
    assert_eq!(report.applied.rejected, 1);
    assert!(ann.has_message(&first) && !ann.has_message(&second));
}

#[test]
fn an_earlier_state_that_somebody_put_back_is_not_used() {
    let place = Place::new();
    let (mut ann, mut eve) = (place.daemon("ann"), place.daemon("eve"));
    ann.trust(&eve);
    eve.run();
    let reference = format!("refs/thrum/{}", eve.id);
    let earlier = git(&place.remote(), &["rev-parse", &reference]);
    eve.say("news");
    eve.world().nanos.fetch_add(60_000_000_000, std::sync::atomic::Ordering::Relaxed);
    eve.run();
    let seen = ann.run().daemons[&eve.id].clone();
    ann.trust.numbers.insert(eve.id.clone(), seen.number);
    git(&place.remote(), &["update-ref", &reference, &earlier]);
    assert_eq!(ann.run().daemons[&eve.id].state, SeenState::Unusable(Unusable::PutBack));
}

#[test]
fn an_index_with_something_else_than_ids_of_objects_is_not_used() {
    let place = Place::new();
    let (mut ann, mut eve) = (place.daemon("ann"), place.daemon("eve"));
    ann.trust(&eve);
    eve.run();
    let said = ann.say("published all the same");
    for blob in ["a blob 5", "x\ny", ":/begin", "refs/heads/main:README", "aaaaaaaaaaa\u{e9}", ""] {
        let segment = Segment {
            blob: blob.into(),
            bytes: 5,
            origin: eve.id.clone(),
            log: "l".into(),
            events: 1,
            numbers: [1].into_iter().collect(),
        };
        let bundle = Bundle { commit: "0".repeat(40), segments: vec![segment] };
        let index = Index { heads: eve.heads(), trusts: Vec::new(), bundles: vec![bundle] };
        let (manifest, index) = signed(&eve, &index);
        publish(&place, &eve.id, &[("index", &index), ("manifest", &manifest)], &[]);
        assert_eq!(ann.run().daemons[&eve.id].state, SeenState::Unusable(Unusable::Unreadable("index")), "{blob:?}");
    }
    let mut dan = place.daemon("dan");
    dan.trust(&ann);
    dan.run();
    assert!(dan.has_message(&said));
}

#[test]
fn a_segment_with_other_events_than_the_index_says_does_not_keep_anybody_from_publishing_them() {
    let place = Place::new();
    let (mut ann, eve) = (place.daemon("ann"), place.daemon("eve"));
    ann.trust(&eve);
    let elsewhere = Place::new();
    let far = elsewhere.daemon("far");
    let said = far.say("from a tailnet");
    ann.log.apply_from("d_far", &far.events());
    let empty = segment(&place, &far.events(), &zstd::bulk::compress(b"{}\n", 3).unwrap());
    let lying = Segment { numbers: serde_json::from_str("[[1,1000000]]").unwrap(), ..empty };
    publish_segments(&place, &eve, vec![lying]);
    ann.run();
    let mut dan = place.daemon("dan");
    dan.trust(&ann);
    dan.run();
    assert!(dan.has_message(&said));
}
