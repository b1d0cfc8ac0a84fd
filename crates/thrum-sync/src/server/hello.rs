//! Who listens, and who calls: daemons with keys prove both before anything else is said between them.
//!
//! A token is a secret that anybody can use who has it. Whoever takes a daemon's port while that is down would be sent one, and
//! whoever copies a `peers.json` would be taken for its owner. So who dials a daemon with a key first has it sign a fresh
//! challenge, with no token in it, and hangs up on everybody else; the answer brings a challenge for the caller, who signs that
//! one beside its first question. Both signatures name both daemons, and the listener's the kind of transport on which it was
//! asked, so that nobody can hand them on to another daemon or another network.
//!
//! Old peers have no key and know no such question. Towards them a token is all there is.

use std::{fmt, sync::Arc};

use thrum_core::{Ambient, ErrorKind, Fault, key};
use zeroize::Zeroizing;

use super::{Desk, Next, Received, Visit};
use crate::{
    transport::{Kind, Node},
    wire::{self, Hello, Query, Request, RpcError},
};

/// Signs a challenge of a daemon with our key: the challenge, then the daemon's id.
pub type Prover = Arc<dyn Fn(&str, &str) -> String + Send + Sync>;

/// What was proven on a connection, and what may be.
pub(super) struct Proofs {
    prover: Prover,
    greeted: bool,
    /// Who said hello, and what he may sign for it: good for one answer.
    pub(super) challenge: Option<(String, Zeroizing<String>)>,
    /// Which peer the caller is, as it proved.
    pub(super) proven: Option<String>,
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proofs").field("greeted", &self.greeted).field("proven", &self.proven).finish_non_exhaustive()
    }
}

impl Visit {
    /// A connection on which we prove who we are, and demand it of every caller with a key.
    #[must_use]
    pub fn proving(mut self, prover: Prover) -> Self {
        self.proofs = Some(Proofs { prover, greeted: false, challenge: None, proven: None });
        self
    }

    /// Whether the caller has yet to prove that it is this daemon, which has a key.
    pub(super) fn owes_proof(&self, daemon_id: &str) -> bool {
        self.proofs.as_ref().is_some_and(|proofs| proofs.proven.as_deref() != Some(daemon_id))
    }

    /// Where the caller is; on loopback that is this machine.
    pub(super) fn whence(&self) -> Node {
        let here = || Node { id: Kind::Local.as_str().to_owned(), name: "another program of this machine".to_owned(), user: String::new() };
        self.caller.node.clone().unwrap_or_else(here)
    }
}

/// A new challenge: 64 hex digits.
pub fn challenge(ambient: &mut dyn Ambient) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    ambient.fill(&mut *bytes);
    Zeroizing::new(data_encoding::HEXLOWER.encode(&*bytes))
}

/// What a listener signs; no challenge for a caller looks like it.
fn listening(challenge: &str, on: Kind) -> String {
    format!("listening-{on}-{challenge}")
}

/// Whether this is the answer of the daemon `by`, asked on that kind of transport by the daemon `to`.
pub fn proves_to_listen(signature: &str, challenge: &str, on: Kind, by: &str, to: &str) -> bool {
    key::proves(signature, &listening(challenge, on), by, to)
}

/// Answers a challenge of whoever calls, once per connection: a signature costs more than a question.
pub(super) fn greet(desk: &Desk, request: &Request, visit: &mut Visit, ambient: &mut dyn Ambient) -> Received {
    let on = visit.caller.kind;
    let answer = match (request.query(), &mut visit.proofs) {
        (_, None) => Err(RpcError::unknown_method("sync.hello")),
        (_, Some(proofs)) if proofs.greeted => {
            Err(Fault::new(ErrorKind::Invalid, "this connection has said hello already").hint("Open another one.").into())
        }
        (Ok(Query::Hello { challenge: theirs, daemon_id }), Some(proofs)) => {
            proofs.greeted = true;
            let ours = challenge(ambient);
            let hello = Hello {
                daemon_id: desk.me.daemon_id.clone(),
                signature: (proofs.prover)(&listening(&theirs, on), &daemon_id),
                challenge: ours.to_string(),
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
