//! Events that are sent as references, with their ids only.

use super::*;

/// Connects to a peer that knows references and has nothing new after sequence 5.
fn quiet() -> Case {
    let mut case = Case::met_with(REFERENCES, 5);
    assert_eq!(case.calls(nothing("log")), []);
    case
}

fn pull_with(after: u64, references: bool) -> Call {
    let Call::Pull(pull) = pull(after, "log") else { unreachable!() };
    Call::Pull(Pull { references: Some(references), ..pull })
}

/// The references of a reply or of an announcement.
fn references(sequences: &[i64]) -> Pulled {
    let Input::Replied(Ok(Reply::Pulled(mut pulled))) = pulled("log", sequences, *sequences.last().unwrap(), false)
    else {
        unreachable!()
    };
    for event in &mut pulled.events {
        (event.event_json, event.reference) = (String::new(), Some("0123456789abcdef".into()));
    }
    pulled
}

fn origins(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Announces a commit. Returns the origins that are sent as references.
fn announced(case: &mut Case, latest: u64) -> Option<BTreeSet<String>> {
    let calls = case.calls(Input::Commit(latest));
    let [Call::Notify { references, .. }] = &calls[..] else { panic!("{calls:?}") };
    let origins = references.as_deref().cloned();
    assert_eq!(case.calls(Input::Replied(Ok(Reply::Notified))), []);
    origins
}

#[test]
fn a_reference_to_a_missing_event_is_followed_by_pulls_of_bodies_until_everything_is_read() {
    let mut case = quiet();
    let actions = case.step(Input::Notified { latest: 7, pushed: Some((5, references(&[6, 7]))) });
    assert!(matches!(&actions[..], [Action::Apply { checkpoint: 7, .. }]), "{actions:?}");
    assert_eq!(case.calls(Input::Lacks), [pull_with(5, false)]);
    let actions = case.step(pulled("log", &[6], 6, true));
    assert!(matches!(&actions[..], [Action::Apply { checkpoint: 6, .. }]), "{actions:?}");
    assert_eq!(case.calls(stored(1)), [pull_with(6, false)]);
    case.step(pulled("log", &[7], 7, false));
    assert_eq!(case.calls(stored(1)), [pull_with(7, false)]);
    assert_eq!(case.calls(nothing("log")), []);
    assert_eq!(case.machine.status().checkpoint, Some(("log".to_owned(), 7)));
    assert_eq!(case.calls(Input::Notified { latest: 8, pushed: None }), [pull_with(7, true)], "and not any longer");
}

#[test]
fn references_in_place_of_requested_bodies_are_a_violation() {
    let mut case = quiet();
    case.step(Input::Notified { latest: 6, pushed: Some((5, references(&[6]))) });
    assert_eq!(case.calls(Input::Lacks), [pull_with(5, false)]);
    case.step(Input::Replied(Ok(Reply::Pulled(references(&[6])))));
    assert_eq!(case.error(), "it sent ids in place of the events that it was asked for");
}

#[test]
fn origins_that_a_peer_also_gets_from_others_are_remembered_until_it_lacks_an_event() {
    let mut case = quiet();
    assert_eq!(announced(&mut case, 10), Some(origins(&[])));
    assert_eq!(case.calls(Input::Repeated(origins(&["d_a"]))), []);
    assert_eq!(case.calls(Input::Repeated(origins(&["d_b"]))), []);
    assert_eq!(announced(&mut case, 11), Some(origins(&["d_a", "d_b"])));
    assert_eq!(case.calls(Input::PeerLacks), []);
    assert_eq!(announced(&mut case, 12), Some(origins(&[])));
}

#[test]
fn the_remembered_origins_are_bounded() {
    let mut case = quiet();
    let many = (0..2 * limits::MAX_PEER_ORIGINS).map(|n| format!("d_{n}")).collect();
    assert_eq!(case.calls(Input::Repeated(many)), []);
    assert_eq!(announced(&mut case, 10).unwrap().len() as u64, limits::MAX_PEER_ORIGINS);
}

#[test]
fn a_peer_that_does_not_know_references_gets_none() {
    let mut case = Case::quiet();
    assert_eq!(case.calls(Input::Repeated(origins(&["d_a"]))), []);
    assert_eq!(announced(&mut case, 10), None);
    assert_eq!(case.calls(Input::Notified { latest: 6, pushed: None }), [pull(5, "log")]);
}

/// Who regularly hears of events second is no nuisance.
#[test]
fn announced_references_do_not_throttle_a_peer() {
    let mut case = quiet();
    for sequence in 6..6 + i64::from(2 * limits::EMPTY_NOTIFIES) {
        let (latest, after) = (sequence.unsigned_abs(), sequence.unsigned_abs() - 1);
        case.step(Input::Notified { latest, pushed: Some((after, references(&[sequence]))) });
        let applied = Applied { skipped: 1, referred: 1, ..Applied::default() };
        assert_eq!(case.calls(Input::Applied(applied)), [pull_with(latest, true)]);
        assert_eq!(case.calls(nothing("log")), []);
    }
    assert_eq!(case.calls(Input::Notified { latest: 1000, pushed: None }).len(), 1, "it is read at once");
}
