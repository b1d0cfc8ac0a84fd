//! Mutual authentication of daemons with keys by `sync.hello` and `sync.prove`, where no handshake has done it.
//!
//! Normally, the handshake that encrypts a connection ([`encrypted`](crate::encrypted)) authenticates both daemons. A
//! lent connection, whose roles are exchanged after its handshake, and an unencrypted connection from a daemon of an
//! earlier version begin with `sync.hello` instead.
//!
//! A token is a bearer secret. A program that takes over the port of a stopped daemon would be sent the token, and
//! whoever has a copy of `peers.json` would pass for the daemon that owns it. Therefore the caller first sends a fresh
//! challenge, without a token, and hangs up unless the peer signs it. The reply contains a challenge for the caller,
//! which the caller answers with `sync.prove`, sent together with its first request. Both signatures name both daemons,
//! and the listener's signature also names the kind of transport on which it was asked. Thus no signature can be passed
//! on to another daemon, and the listener's cannot be passed on to another network.
//!
//! Legacy peers have no key and do not know these requests. They are authenticated by their token and, on a tailnet, by
//! the node from which they call.

use std::{fmt, sync::Arc, time::Duration};

use thrum_core::{Ambient, Error, ErrorKind, key};
use zeroize::Zeroizing;

use super::{AuthState, Next, PeerSession, Received};
use crate::{
    Now,
    encrypted::Met,
    protocol::wire::{self, Hello, Query, Request, RpcError},
    registry::Sign,
    transport::{Kind, Node, split_address},
};

/// Signs a challenge with our key. The arguments are the challenge and the id of the daemon that verifies the
/// signature.
pub type Prover = Arc<dyn Fn(&str, &str) -> String + Send + Sync>;

/// Proofs on one connection: those completed and those outstanding.
pub(super) struct Proofs {
    prover: Prover,
    /// Whether the caller has encrypted this connection.
    encrypted: bool,
    greeted: bool,
    /// The id in the caller's hello, and our challenge to the daemon with this id. Accepts one answer.
    pub(super) challenge: Option<(String, Zeroizing<String>)>,
    /// The peer id that the caller has proven.
    pub(super) proven: Option<String>,
    /// The id that the calling process drew at its start, as reported in its handshake or hello.
    instance: Option<String>,
    /// Time of the previous request on this connection. The next request proves that the caller was alive after that.
    asked: Duration,
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proofs").field("greeted", &self.greeted).field("proven", &self.proven).finish_non_exhaustive()
    }
}

impl PeerSession {
    /// Makes this session prove our identity, and demand a proof from each caller with a key.
    #[must_use]
    pub fn proving(mut self, prover: Prover) -> Self {
        self.proofs = Some(Proofs {
            prover,
            encrypted: false,
            greeted: false,
            challenge: None,
            proven: None,
            instance: None,
            asked: Duration::ZERO,
        });
        self
    }

    /// Records that the caller has proven its key in the handshake that encrypts this connection.
    pub(crate) fn met(&mut self, met: Met, now: Now) {
        if let Some(proofs) = &mut self.proofs {
            proofs.encrypted = true;
            (proofs.greeted, proofs.proven, proofs.asked) = (true, Some(met.daemon_id), now.tick);
            proofs.instance = Some(met.instance).filter(|instance| wire::is_instance(instance));
        }
    }

    /// Returns `true` if the caller has encrypted this connection.
    pub(super) fn is_encrypted(&self) -> bool {
        self.proofs.as_ref().is_some_and(|proofs| proofs.encrypted)
    }

    /// Returns `true` if the caller must still prove on this connection that it is daemon `daemon_id`, which has a key.
    pub(super) fn owes_proof(&self, daemon_id: &str) -> bool {
        self.proofs.as_ref().is_some_and(|proofs| proofs.proven.as_deref() != Some(daemon_id))
    }

    /// Returns the id of the calling process, if the key of `daemon_id` was proven on this connection.
    pub fn instance(&self, daemon_id: &str) -> Option<&str> {
        let proofs = self.proofs.as_ref().filter(|proofs| proofs.proven.as_deref() == Some(daemon_id))?;
        proofs.instance.as_deref()
    }

    /// Returns evidence that the peer's process was alive after its previous request on this connection.
    pub(super) fn sign_of_life(&mut self, daemon_id: &str, port: Option<u16>, now: Now) -> Option<Sign<'_>> {
        let proofs = self.proofs.as_mut().filter(|proofs| proofs.proven.as_deref() == Some(daemon_id))?;
        let after = std::mem::replace(&mut proofs.asked, now.tick);
        let host = split_address(&self.caller.address).map(|(host, _)| host);
        Some(Sign { instance: proofs.instance.as_deref()?, host, port, node: self.caller.node.clone(), after })
    }

    /// Returns the caller's node; on loopback, one that stands for another program of this machine.
    pub(super) fn whence(&self) -> Node {
        let here = || Node {
            id: Kind::Local.as_str().to_owned(),
            name: "another program of this machine".to_owned(),
            user: String::new(),
        };
        self.caller.node.clone().unwrap_or_else(here)
    }
}

/// Draws a new challenge of 64 hex digits.
pub fn challenge(ambient: &mut dyn Ambient) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    ambient.fill(&mut *bytes);
    Zeroizing::new(data_encoding::HEXLOWER.encode(&*bytes))
}

/// Returns the text that a listener signs. No challenge for a caller has this form.
fn listening(challenge: &str, on: Kind) -> String {
    format!("listening-{on}-{challenge}")
}

/// Returns `true` if daemon `by` signed this challenge on a transport of kind `on`, at the request of daemon `to`.
pub fn proves_to_listen(signature: &str, challenge: &str, on: Kind, by: &str, to: &str) -> bool {
    key::proves(signature, &listening(challenge, on), by, to)
}

/// Answers `sync.hello` by signing the caller's challenge; once per connection, because a signature costs more than a
/// request.
pub(super) fn greet(
    auth: &AuthState,
    request: &Request,
    session: &mut PeerSession,
    now: Now,
    ambient: &mut dyn Ambient,
) -> Received {
    let on = session.caller.kind;
    let answer = match (request.query(), &mut session.proofs) {
        (_, None) => Err(RpcError::unknown_method("sync.hello")),
        (_, Some(proofs)) if proofs.greeted => {
            Err(Error::new(ErrorKind::Invalid, "this connection has said hello already")
                .hint("Open another one.")
                .into())
        }
        (Ok(Query::Hello { challenge: theirs, daemon_id, instance }), Some(proofs)) => {
            (proofs.greeted, proofs.instance, proofs.asked) = (true, instance, now.tick);
            let ours = challenge(ambient);
            let hello = Hello {
                daemon_id: auth.me.daemon_id.clone(),
                signature: (proofs.prover)(&listening(&theirs, on), &daemon_id),
                challenge: ours.to_string(),
                instance: Some(auth.me.instance.clone()),
            };
            proofs.challenge = Some((daemon_id, ours));
            Ok(hello)
        }
        (Ok(_), _) => Err(RpcError::parse()),
        (Err(error), _) => Err(error),
    };
    let line = match answer {
        Ok(hello) => wire::hello_line(&request.id, &hello),
        Err(error) => wire::error_line(&request.id, &error),
    };
    Received { peer: None, effects: Vec::new(), next: Next::Reply(line) }
}
