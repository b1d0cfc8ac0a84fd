//! Methods of Go Thrum that answer with a refusal here: what they would do is done by another method, or by none.
//!
//! Their callers hear why and what to call instead, which "method not found" would not tell them.

use thrum_core::{ErrorKind, Fault};

use crate::rpc::connection::Outcome;

type Refused = Result<Outcome, Fault>;

fn refused(why: impl Into<String>, instead: &str) -> Refused {
    Err(Fault::new(ErrorKind::Refused, why).hint(instead))
}

/// Go Thrum deletes such messages from its own database, and whoever synchronizes with it keeps them for ever.
pub(super) fn local_deletion(method: &str) -> Refused {
    refused(
        format!("{method} would delete other agents' messages on this machine only; every peer would keep them"),
        "An author takes a message back with message.delete; purge.execute removes everything older than an instant, everywhere.",
    )
}

/// Groups of one's own making are passed through between daemons and address nobody here.
pub(super) fn custom_groups() -> Refused {
    refused(
        "the groups are everyone and one for each role; others cannot be made or changed",
        "Send to @everyone, to a role, or to several agents at once; an agent's role is set when it registers.",
    )
}

/// A peer is trusted by its token, which only pairing gives it.
pub(super) fn peers_without_token() -> Refused {
    refused(
        "tsync.peers.add would add a peer without a token, which could neither read nor be read",
        "Pair with it: thrum peer add on one side, thrum peer join on the other.",
    )
}

/// In Go Thrum, too, this is refused on the socket.
pub(super) fn web_socket_only() -> Refused {
    refused(
        "user.register is for clients on a WebSocket, and this daemon has none",
        "Register with agent.register: thrum quickstart --name NAME --role ROLE --module MODULE",
    )
}

/// Go Thrum stores them and delivers nothing.
pub(super) fn subscriptions() -> Refused {
    refused(
        "this daemon has no subscriptions: every agent hears of all that is addressed to it",
        "message.wait returns when there is mail; events.watch streams all that is stored.",
    )
}

/// Bridges are programs of their own.
pub(super) fn telegram() -> Refused {
    refused(
        "this daemon has no Telegram bridge",
        "A bridge can be a program of its own: it reads with events.watch and writes with message.send.",
    )
}
