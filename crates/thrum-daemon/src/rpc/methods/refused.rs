//! Go Thrum's methods that are refused here, because another method does their job, or none does.
//!
//! Unlike "method not found", the error contains the reason and the method to call instead.

use thrum_core::{Error, ErrorKind};

use crate::rpc::connection::Reply;

type Refusal = Result<Reply, Error>;

fn refusal(why: impl Into<String>, instead: &str) -> Refusal {
    Err(Error::new(ErrorKind::Refused, why).hint(instead))
}

/// Refuses to delete messages on this machine alone. Go Thrum deletes them from its own database, and every daemon that
/// synchronises with it keeps them forever.
pub(super) fn local_deletion(method: &str) -> Refusal {
    refusal(
        format!("{method} would delete other agents' messages on this machine only; every peer would keep them"),
        "An author takes a message back with message.delete; purge.execute removes everything older than an instant, everywhere.",
    )
}

/// Refuses to change groups. Ours are derived from the agents; groups of Go Thrum are only stored and relayed.
pub(super) fn custom_groups() -> Refusal {
    refusal(
        "the groups are everyone and one for each role; others cannot be made or changed",
        "Send to @everyone, to a role, or to several agents at once; an agent's role is set when it registers.",
    )
}

/// Refuses to add a peer without pairing: a peer is trusted by its token, which only pairing provides.
pub(super) fn peers_without_token() -> Refusal {
    refusal(
        "tsync.peers.add would add a peer without a token, which could neither read nor be read",
        "Pair with it: thrum peer add on one side, thrum peer join on the other.",
    )
}

/// Refuses `user.register`. Go Thrum refuses this method on the socket, too.
pub(super) fn web_socket_only() -> Refusal {
    refusal(
        "user.register is for clients on a WebSocket, and this daemon has none",
        "Register with agent.register: thrum quickstart --name NAME --role ROLE --module MODULE",
    )
}

/// Refuses subscriptions. Go Thrum stores them but delivers nothing.
pub(super) fn subscriptions() -> Refusal {
    refusal(
        "this daemon has no subscriptions: every agent receives all messages that are addressed to it",
        "message.wait returns when there is mail; events.watch streams all that is stored.",
    )
}

/// Refuses `telegram.*`: a bridge is a separate program.
pub(super) fn telegram() -> Refusal {
    refusal(
        "this daemon has no Telegram bridge",
        "A bridge can be a program of its own: it reads with events.watch and writes with message.send.",
    )
}
