//! Encrypts and authenticates a connection between two daemons with keys, before anything else is sent on it.
//!
//! Without encryption, a program between two daemons (another process of this machine that forwards a port, a relay, a
//! proxy) would read tokens and mail, and could change what is announced. The tailnet encrypts from node to node, and
//! loopback does not encrypt at all. So the daemon that dials a peer with a key performs a handshake first, and hangs
//! up unless the peer completes it; it never falls back to an unencrypted connection. Legacy peers have no key and use
//! plain lines.
//!
//! The handshake is `Noise_IK_25519_ChaChaPoly_BLAKE2s` (noiseprotocol.org, revision 34). The static keys are the
//! X25519 form of the daemons' Ed25519 keys, so a daemon's id is all that the other side needs. The first message
//! carries the caller's id and instance, encrypted to the listener, and the listener checks that id against the static
//! key that the handshake has proven. The prologue names the protocol and the kind of transport, so a handshake that
//! was relayed from a tailnet to loopback fails. Both messages travel in one line each (`sync.encrypt`). After that the
//! connection carries frames (`stream.rs`), which contain the same lines as an unencrypted connection.
//!
//! Example: `desk` dials `laptop`, sends `{"method":"sync.encrypt","params":{"message":"…"},…}`, and receives a result
//! with the other message. Then `desk` sends `sync.peer_info` with its token as the first encrypted line.

mod compress;
mod stream;

use std::{fmt, sync::Arc};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use snow::{
    Builder, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice, NoiseParams},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
pub use stream::{Encrypted, Keys};
use thrum_core::{Ambient, key};
use zeroize::Zeroizing;

use crate::{clock::Ambients, error::Violation, transport::Kind};

/// The Noise protocol's name, which states the handshake pattern and the algorithms.
const NOISE: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";

/// First part of the prologue; changes with every incompatible change of the frames.
const PROTOCOL: &str = "thrum-stream-2";

/// Maximum length of a handshake message, in characters of base64url. The longest of ours has about 270.
const MAX_MESSAGE: usize = 1024;

/// This daemon in handshakes: its id, its instance, and the X25519 form of its key.
#[derive(Clone)]
pub struct Identity {
    /// This daemon's id.
    pub daemon_id: String,
    /// Identifies the process of the daemon.
    pub instance: String,
    /// The X25519 secret of the daemon's key ([`DaemonKey::exchange_secret`](thrum_core::DaemonKey::exchange_secret)).
    pub secret: Arc<Zeroizing<[u8; 32]>>,
    /// The source of the ephemeral keys.
    pub ambients: Ambients,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("daemon_id", &self.daemon_id).finish_non_exhaustive()
    }
}

/// The daemon at the other end, as proven by its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// The daemon's id.
    pub daemon_id: String,
    /// The id that its process drew at its start.
    pub instance: String,
}

/// A handshake that this daemon began.
#[derive(Debug)]
pub struct Begun {
    state: HandshakeState,
    peer: String,
}

/// Begins a handshake with the daemon `peer` on a transport of this kind. Returns the state of the handshake and the
/// first message, in base64url; `None` if the peer's id is foreign.
pub fn begin(me: &Identity, peer: &str, on: Kind) -> Option<(Begun, String)> {
    let theirs = key::exchange_public(peer)?;
    let mut state = builder(me, &prologue(on))
        .and_then(|builder| builder.remote_public_key(&theirs))
        .and_then(Builder::build_initiator)
        .ok()?;
    let message = write(&mut state, me)?;
    Some((Begun { state, peer: peer.to_owned() }, message))
}

impl Begun {
    /// Completes the handshake with the other daemon's message.
    ///
    /// # Errors
    /// [`Violation::Handshake`]: the message is malformed, or was not made with the key of that daemon, in this
    /// handshake and on this kind of transport. [`Violation::OtherIdentity`]: it states the id of another daemon.
    pub fn complete(mut self, message: &str) -> Result<(Met, Keys), Violation> {
        let met = read(&mut self.state, message).ok_or(Violation::Handshake)?;
        if met.daemon_id != self.peer {
            return Err(Violation::OtherIdentity(met.daemon_id));
        }
        let keys = self.state.into_transport_mode().map_err(|_| Violation::Handshake)?;
        Ok((met, Keys::new(keys)))
    }
}

/// Answers the first message of a handshake on a transport of this kind. Returns the answer in base64url, the caller,
/// and the keys. The first message alone may be a replay: the caller has proven its key only once data that it sent
/// afterwards was decrypted with the keys.
///
/// # Errors
/// [`Violation::Handshake`]: the message is malformed, was not made for this daemon and this kind of transport, or its
/// sender does not have the key of the id that it states.
pub fn answer(me: &Identity, message: &str, on: Kind) -> Result<(String, Met, Keys), Violation> {
    let mut state = builder(me, &prologue(on)).and_then(Builder::build_responder).map_err(|_| Violation::Handshake)?;
    let met = read(&mut state, message).ok_or(Violation::Handshake)?;
    if key::exchange_public(&met.daemon_id).as_ref().map(<[u8; 32]>::as_slice) != state.get_remote_static() {
        return Err(Violation::Handshake);
    }
    let answer = write(&mut state, me).ok_or(Violation::Handshake)?;
    let keys = state.into_transport_mode().map_err(|_| Violation::Handshake)?;
    Ok((answer, met, Keys::new(keys)))
}

fn prologue(on: Kind) -> Vec<u8> {
    format!("{PROTOCOL}\n{on}").into_bytes()
}

fn builder<'a>(me: &'a Identity, prologue: &'a [u8]) -> Result<Builder<'a>, snow::Error> {
    let params: NoiseParams = NOISE.parse()?;
    let ephemeral = Ephemeral(Arc::clone(&me.ambients));
    Builder::with_resolver(params, Box::new(ephemeral)).local_private_key(&me.secret[..])?.prologue(prologue)
}

fn write(state: &mut HandshakeState, me: &Identity) -> Option<String> {
    let met = Met { daemon_id: me.daemon_id.clone(), instance: me.instance.clone() };
    let payload = serde_json::to_vec(&met).ok()?;
    let mut message = [0; MAX_MESSAGE];
    let length = state.write_message(&payload, &mut message).ok()?;
    Some(BASE64URL_NOPAD.encode(&message[..length]))
}

fn read(state: &mut HandshakeState, message: &str) -> Option<Met> {
    if message.len() > MAX_MESSAGE {
        return None;
    }
    let message = BASE64URL_NOPAD.decode(message.as_bytes()).ok()?;
    let mut payload = [0; MAX_MESSAGE];
    let length = state.read_message(&message, &mut payload).ok()?;
    serde_json::from_slice(&payload[..length]).ok()
}

/// The cryptography of the handshake, with the daemon's own source of randomness.
struct Ephemeral(Ambients);

impl CryptoResolver for Ephemeral {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drawn(Arc::clone(&self.0))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Drawn(Ambients);

impl Random for Drawn {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let mut ambient: Box<dyn Ambient> = (self.0)();
        ambient.fill(dest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use thrum_core::{DaemonKey, Timestamp};

    use super::*;

    struct System;

    impl Ambient for System {
        fn now(&mut self) -> Timestamp {
            Timestamp::ZERO
        }

        fn fill(&mut self, buffer: &mut [u8]) {
            getrandom::fill(buffer).unwrap();
        }
    }

    fn identity(key: &DaemonKey) -> Identity {
        Identity {
            daemon_id: key.id().to_string(),
            instance: "0e".to_owned(),
            secret: Arc::new(key.exchange_secret()),
            ambients: Arc::new(|| Box::new(System)),
        }
    }

    pub(super) fn two() -> (Identity, Identity) {
        (identity(&DaemonKey::generate(&mut System)), identity(&DaemonKey::generate(&mut System)))
    }

    #[test]
    fn both_daemons_know_each_other_after_the_handshake() {
        let (a, b) = two();
        let (begun, first) = begin(&a, &b.daemon_id, Kind::Local).unwrap();
        let (second, caller, _) = answer(&b, &first, Kind::Local).unwrap();
        let (listener, _) = begun.complete(&second).unwrap();
        assert_eq!((caller.daemon_id, listener.daemon_id), (a.daemon_id.clone(), b.daemon_id));
        assert!(begin(&a, "d_01M83E0S5FJJYA5B1VP5F76S9R", Kind::Local).is_none(), "it has no key");
    }

    #[test]
    fn only_the_daemon_that_is_dialled_can_answer() {
        let (a, b) = two();
        let other = identity(&DaemonKey::generate(&mut System));
        let (begun, first) = begin(&a, &b.daemon_id, Kind::Local).unwrap();
        assert_eq!(answer(&other, &first, Kind::Local).unwrap_err(), Violation::Handshake);
        // A program that only claims the id.
        let claims = Identity { daemon_id: b.daemon_id.clone(), ..other };
        assert_eq!(answer(&claims, &first, Kind::Local).unwrap_err(), Violation::Handshake);
        let (_, for_it) = begin(&a, &identity(&DaemonKey::generate(&mut System)).daemon_id, Kind::Local).unwrap();
        assert_eq!(begun.complete(&for_it).unwrap_err(), Violation::Handshake);
    }

    #[test]
    fn a_caller_cannot_claim_the_id_of_another_daemon() {
        let (a, b) = two();
        let claims = Identity { daemon_id: identity(&DaemonKey::generate(&mut System)).daemon_id, ..a.clone() };
        let (_, first) = begin(&claims, &b.daemon_id, Kind::Local).unwrap();
        assert_eq!(answer(&b, &first, Kind::Local).unwrap_err(), Violation::Handshake);
        let claims = Identity { daemon_id: "d_01M83E0S5FJJYA5B1VP5F76S9R".to_owned(), ..a };
        let (_, first) = begin(&claims, &b.daemon_id, Kind::Local).unwrap();
        assert_eq!(answer(&b, &first, Kind::Local).unwrap_err(), Violation::Handshake);
    }

    #[test]
    fn a_handshake_relayed_between_kinds_of_transport_fails() {
        let (a, b) = two();
        let (begun, first) = begin(&a, &b.daemon_id, Kind::Tailnet).unwrap();
        assert_eq!(answer(&b, &first, Kind::Local).unwrap_err(), Violation::Handshake);
        let (second, ..) = answer(&b, &first, Kind::Tailnet).unwrap();
        assert!(begun.complete(&second).is_ok());
    }

    #[test]
    fn a_message_of_another_handshake_and_damaged_ones_are_refused() {
        let (a, b) = two();
        let (_, first) = begin(&a, &b.daemon_id, Kind::Local).unwrap();
        let (second, ..) = answer(&b, &first, Kind::Local).unwrap();
        let (another, _) = begin(&a, &b.daemon_id, Kind::Local).unwrap();
        assert_eq!(another.complete(&second).unwrap_err(), Violation::Handshake);
        for damaged in ["", "!", "AAAA", &first[..first.len() - 4], &"A".repeat(5000)] {
            assert_eq!(answer(&b, damaged, Kind::Local).unwrap_err(), Violation::Handshake, "{damaged}");
        }
        assert!(first.len() < MAX_MESSAGE && second.len() < MAX_MESSAGE, "{} {}", first.len(), second.len());
    }
}
