//! Old peers: Go Thrum v0.5.9 to v0.6.3, which is who says no `log_id`. All that is done for them alone is here.
//!
//! They speak the same wire, and three things about them cost events if they are treated like ours:
//!
//! * **They show N+1 before N.** A number is taken first and its row becomes visible later, so whoever has read N+1 may never
//!   see N. And their log may be rebuilt, with numbers that start again and nothing that says so. Hence `reading`: where we
//!   stood two minutes ago is read again for two minutes, and the event that stood there must still stand there.
//! * **They stop for ever at an event that they cannot apply**, and at some they write files where no file should be. Hence
//!   [`serving`]: such events are withheld from them. What only waits for its message is served when the message is here: the
//!   store moves it behind (`Tx::apply`). Who stops all the same gets the events one by one, and the one it refuses is skipped.
//! * **They pull for each notify**, in parallel. They hear of the first commit at once and of the rest of 100 ms together.
//!
//! Their successors (v0.7 and later) speak WebSocket, and are told so (`legacy/newer.rs`).
//!
//! And who used one of them until now has its peers in a file ([`peers`]): they are taken over with their tokens, and go on
//! knowing this daemon by the id of the one it replaces.
//!
//! No I/O here, and no clock: what these machines need to know comes in.

pub(crate) mod journal;
pub(crate) mod newer;
pub mod peers;
pub(crate) mod reading;
pub mod serving;

use std::time::Duration;

use thrum_core::limits;

/// How long after a notify a peer is left alone; `log` is its log's id.
pub(crate) fn notify_gap(log: Option<&str>) -> Duration {
    if log.is_none() { limits::LEGACY_NOTIFY_GAP } else { Duration::ZERO }
}
