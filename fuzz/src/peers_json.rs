//! Target: the parser of `peers.json`, our own at the daemon's start and Go Thrum's when it is imported.

use std::{cell::RefCell, fs, os::unix::fs::PermissionsExt};

use serde_json::Value;
use thrum_core::{limits, name};
use thrum_sync::{
    legacy::peers::{GoPeers, ImportDecision},
    registry::{Peer, Registry},
    transport::Kind,
};

use crate::{assert_sayable, world::directory};

/// Parses the bytes as both files. Our own is accepted as a whole or not at all, and its content survives a round trip.
/// In both, no two accepted peers share an id or a token, and no error reveals a token.
pub fn peers_json(bytes: &[u8]) {
    thread_local! {
        static DIRECTORY: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
    }
    let text = String::from_utf8_lossy(bytes);
    DIRECTORY.with_borrow_mut(|place| {
        let path = place.get_or_insert_with(directory).path().join("peers.json");
        fs::write(&path, bytes).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its own");
        match Registry::open(path.clone(), "d_me") {
            Ok(mut registry) => {
                assert_distinct(registry.peers().iter(), &text);
                let before = shape(registry.peers());
                // A different port, so that the file is written.
                let port = if registry.port(Kind::Local) == Some(9100) { 9101 } else { 9100 };
                registry.keep_port(Kind::Local, port).expect("writes");
                let again = Registry::open(path, "d_me").expect("what we write we read");
                assert_eq!(shape(again.peers()), before, "what is written reads the same");
                assert_eq!(again.port(Kind::Local), Some(port));
            }
            Err(error) => assert_shows_no_token(&error.message, &text),
        }
    });
    match GoPeers::read(&text) {
        Ok(file) => {
            assert!(file.own_id.as_ref().is_none_or(|id| !id.is_empty()) && file.port > 0);
            let (mut new, mut count) = (Vec::new(), 0);
            for decision in file.classify(&["d_me".to_owned()], "d_go", &[]) {
                count += 1;
                match decision {
                    ImportDecision::New(peer) => new.push(*peer),
                    ImportDecision::Known(other) | ImportDecision::Refused(other) => {
                        assert_sayable(&other.name);
                        assert_shows_no_token(&other.reason, &text);
                    }
                }
            }
            assert!(count <= limits::MAX_PEERS);
            assert_distinct(new.iter(), &text);
            assert!(
                new.iter().all(|peer| peer.token.is_some() && !["d_me", "d_go"].contains(&peer.daemon_id.as_str()))
            );
        }
        Err(why) => assert_shows_no_token(&why, &text),
    }
}

fn shape(peers: &[Peer]) -> Vec<Value> {
    peers.iter().map(|peer| serde_json::to_value(peer).expect("a peer is JSON")).collect()
}

fn assert_distinct<'p>(peers: impl Iterator<Item = &'p Peer> + Clone, file: &str) {
    for (n, peer) in peers.clone().enumerate() {
        assert!((1..=limits::MAX_FOREIGN_ID_BYTES).contains(&peer.daemon_id.len()));
        assert_eq!(name::check_peer(&peer.name), Ok(()));
        for other in peers.clone().take(n) {
            assert_ne!(other.daemon_id, peer.daemon_id);
            let token = |peer: &Peer| peer.token.as_ref().map(|token| token.reveal().to_owned());
            assert!(token(other).is_none() || token(other) != token(peer), "a token of two peers");
        }
        let token = peer.token.as_ref().map_or("", |token| token.reveal());
        // A token that occurs more than once in the file may also be a name, which may be printed.
        assert!(
            token.is_empty() || file.matches(token).count() > 1 || !format!("{peer:?}").contains(token),
            "a token is not printed"
        );
    }
}

/// Checks that the text contains no token of the file. A word that the file also uses for something else, such as an
/// id, may be shown.
fn assert_shows_no_token(words: &str, file: &str) {
    assert_sayable(words);
    for word in file.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 64) {
        let is_token = |(at, _): (usize, &str)| {
            file[..at].trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '"' | ':')).ends_with("token")
        };
        assert!(!file.match_indices(word).all(is_token) || !words.contains(word), "a token is shown: {words}");
    }
}
