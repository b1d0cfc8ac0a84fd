//! Go Thrum's methods that are refused here, because another method does their job, or none does.
//!
//! The error tells callers the reason and what to call instead, unlike "method not found".

use thrum_core::{Error, ErrorKind};

use crate::rpc::connection::Outcome;

type Refused = Result<Outcome, Error>;

fn refused(why: impl Into<String>, instead: &str) -> Refused {
    Err(Error::new(ErrorKind::Refused, why).hint(instead))
}

/// Go Thrum deletes such messages from its own database only, and every daemon that synchronises with it keeps them for
/// ever.
pub(super) fn local_deletion(method: &str) -> Refused {
    refused(
        format!("{method} would delete other agents' messages on this machine only; every peer would keep them"),
        "An author takes a message back with message.delete; purge.execute removes everything older than an instant, everywhere.",
    )
}

/// Custom groups are passed on between daemons, but address nobody here.
pub(super) fn custom_groups() -> Refused {
    refused(
        "the groups are everyone and one for each role; others cannot be made or changed",
        "Send to @everyone, to a role, or to several agents at once; an agent's role is set when it registers.",
    )
}

/// A peer is trusted by its token, which it gets only by pairing.
pub(super) fn peers_without_token() -> Refused {
    refused(
        "tsync.peers.add would add a peer without a token, which could neither read nor be read",
        "Pair with it: thrum peer add on one side, thrum peer join on the other.",
    )
}

/// Go Thrum refuses this method on the socket, too.
pub(super) fn web_socket_only() -> Refused {
    refused(
        "user.register is for clients on a WebSocket, and this daemon has none",
        "Register with agent.register: thrum quickstart --name NAME --role ROLE --module MODULE",
    )
}

/// Go Thrum stores subscriptions but delivers nothing.
pub(super) fn subscriptions() -> Refused {
    refused(
        "this daemon has no subscriptions: every agent hears of all that is addressed to it",
        "message.wait returns when there is mail; events.watch streams all that is stored.",
    )
}

/// A bridge is a separate program.
pub(super) fn telegram() -> Refused {
    refused(
        "this daemon has no Telegram bridge",
        "A bridge can be a program of its own: it reads with events.watch and writes with message.send.",
    )
}
