//! Target: requests from a peer, or from an unknown caller.

use std::{cell::RefCell, fs, path::Path, sync::Mutex, time::Duration};

use serde_json::Value;
use thrum_core::limits;
use thrum_sync::{
    Now, Token,
    conn::{Lines, NoLine},
    legacy::serving::Askers,
    pairing::{Here, Pairing},
    protocol::wire::{self, Call, Query, Request},
    protocol::{self, AuthState, Effect, Me, Next, PeerSession},
    registry::Registry,
    transport::{Caller, Kind},
};

use crate::{
    log::Nothing,
    world::{START, World, directory},
};

/// The token of the registered peer, fixed so that the corpus can contain it.
const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Maximum number of lines that are processed: more than a conversation has from pairing to pulling.
const MOST: usize = 16;

/// Time limits for a line, which are never reached, because all bytes are available at once.
const LONG: Duration = Duration::from_secs(3600);

/// Processes all bytes that one caller sends. Lines are split correctly, each line gets one answer, and a request that
/// is written again means the same. A caller that knows neither code nor token changes only the state of the pairing
/// session, and learns neither. The lines are those of a plain connection, or those inside an encrypted one.
pub fn peer_request(bytes: &[u8]) {
    thread_local! {
        static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
    }
    STAGE.with_borrow_mut(|stage| stage.get_or_insert_with(Stage::new).hear(bytes));
}

struct Stage {
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self { directory: directory(), runtime }
    }

    fn hear(&self, bytes: &[u8]) {
        let lines = self.lines(bytes);
        let mut world = World::new(7);
        let (mut auth, code) = auth(self.directory.path(), &mut world);
        let now = Now { tick: Duration::from_secs(1), at: thrum_core::Timestamp::from_nanos(START) };
        let mut session = PeerSession::from(Caller { address: "127.0.0.1:4000".into(), kind: Kind::Local, node: None });
        let askers = Mutex::<Askers>::default();
        let (mut knows_token, mut knows_code) = (false, false);
        for line in lines.iter().take(MOST) {
            asked_again(line);
            let text = String::from_utf8_lossy(line);
            knows_token |= text.contains(TOKEN);
            // The code may be hidden by escapes.
            knows_code |= text.contains(&code) || text.contains('\\');
            let received = protocol::receive(&mut auth, line, &mut session, now, &mut world);
            for effect in &received.effects {
                let may = match effect {
                    Effect::PairingMoved => true,
                    Effect::Paired(_) => knows_code,
                    _ => knows_token || text.contains('\\') || auth.registry.peers().len() > 1,
                };
                assert!(may, "{effect:?} for a stranger");
            }
            let reply = match received.next {
                Next::Reply(reply) => reply,
                Next::Serve(job) => protocol::serve(job, &auth.me, &Nothing, &askers, now).0,
            };
            assert!(!reply.contains('\n') && reply.len() <= limits::MAX_LINE_BYTES, "an answer is one line");
            let answer: Value = serde_json::from_str(&reply).expect("an answer is JSON");
            assert!(answer.get("result").is_some() != answer.get("error").is_some(), "a result or an error: {reply}");
            assert!(knows_token || text.contains('\\') || !reply.contains(TOKEN), "a token is told: {reply}");
        }
        protocol::leave(&mut auth, session, now);
        for peer in auth.registry.peers() {
            assert!((1..=limits::MAX_FOREIGN_ID_BYTES).contains(&peer.daemon_id.len()));
            assert_eq!(thrum_core::name::check_peer(&peer.name), Ok(()));
        }
        let again = Registry::open(self.directory.path().join("peers.json"), "d_me")
            .expect("what was stored is read at the next start");
        assert_eq!(again.peers().len(), auth.registry.peers().len());
        Pairing::open(self.directory.path().join("pairing.json")).expect("so is the budget");
    }

    /// Splits the bytes into lines as a connection does.
    fn lines(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(bytes);
        let mut cut = Vec::new();
        let mut expected = bytes.split(|byte| *byte == b'\n');
        loop {
            let next = self.runtime.block_on(lines.next(limits::MAX_PEER_REQUEST_BYTES, LONG, LONG));
            match (next, expected.next()) {
                (Ok(line), Some(text)) => {
                    assert!(line == text && line.len() <= limits::MAX_PEER_REQUEST_BYTES);
                    cut.push(line);
                }
                (Err(NoLine::TooLong(_)), Some(text)) => {
                    assert!(text.len() > limits::MAX_PEER_REQUEST_BYTES);
                    return cut;
                }
                // Bytes without a final line break are an incomplete line, or nothing.
                (Err(NoLine::Cut), Some(text)) => {
                    assert!(!text.is_empty() && expected.next().is_none());
                    return cut;
                }
                (Err(NoLine::Closed), rest) => {
                    assert!(rest.is_none_or(<[u8]>::is_empty));
                    return cut;
                }
                (other, _) => panic!("{other:?}"),
            }
        }
    }
}

/// A daemon with one peer and an open pairing session, and the session's code.
fn auth(directory: &Path, world: &mut World) -> (AuthState, String) {
    let (peers, pairing) = (directory.join("peers.json"), directory.join("pairing.json"));
    let known = format!(
        r#"{{"local":{{"daemon_id":"d_me"}},"peers":[{{"name":"peer","address":"127.0.0.1:9101","daemon_id":"d_peer","token":"{TOKEN}","token_used":true}}]}}"#
    );
    if fs::read(&peers).ok().as_deref() != Some(known.as_bytes()) {
        fs::write(&peers, known).expect("writes");
    }
    let _ = fs::remove_file(&pairing);
    let registry = Registry::open(peers, "d_me").expect("opens");
    let mut pairing = Pairing::open(pairing).expect("opens");
    let here = Here { kind: Kind::Local, node: None, address: "127.0.0.1:9100".into() };
    let opened = pairing.start(here, limits::PAIRING_SESSION, Now::default(), world).expect("starts");
    let me = Me { daemon_id: "d_me".into(), name: "me".into(), version: "0.1.0".into(), instance: "1".into() };
    (AuthState { me, registry, pairing }, opened.code.reveal().to_owned())
}

/// Checks that a request survives being written by us and parsed again.
fn asked_again(line: &[u8]) {
    let Ok(request) = Request::read(line) else { return };
    let Ok(query) = request.query() else { return };
    let token = Token::parse(TOKEN).expect("a token");
    let written = match &query {
        Query::Pull(pull) => Call::Pull(pull.clone()).line(1, "d_me", &token),
        Query::Notify { daemon_id, latest, count, pushed } => match (u64::try_from(*latest), u64::try_from(*count)) {
            (Ok(latest), Ok(count)) => Call::Notify { latest, count, after: None, references: None }.line_with(
                1,
                daemon_id,
                &token,
                pushed.as_ref(),
            ),
            _ => return,
        },
        Query::PeerInfo { digest, port: None } => Call::PeerInfo { digest: *digest }.line(1, "d_me", &token),
        Query::PeerInfo { digest, port: Some(port) } => wire::peer_info_request(1, &token, *digest, *port),
        Query::Lend => wire::lend_request(1, &token),
        Query::Pair(pair) => pair.line(1),
        Query::Begin(begin) => begin.line(1),
        Query::Confirm(mac) => wire::confirm_request(1, mac),
        Query::Prove { daemon_id, signature } => wire::prove_request(1, daemon_id, &token, signature),
        Query::Refused(node) => wire::refused_request(1, &token, node),
        Query::Probe => wire::probe_request(1),
        Query::About(about) => Call::About(about.clone()).line(1, "d_me", &token),
        Query::Differs => Call::Differs.line(1, "d_me", &token),
        Query::Goodbye => Call::Goodbye.line(1, "d_me", &token),
        Query::Hello { challenge, daemon_id, instance } => {
            wire::hello_request(1, challenge, daemon_id, instance.as_deref().unwrap_or_default())
        }
    };
    assert!(!written.contains('\n'), "a question is one line");
    let again = Request::read(written.as_bytes()).expect("what is asked can be read");
    assert_eq!(again.query(), Ok(query), "and means the same");
}
