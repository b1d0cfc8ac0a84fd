//! The special treatment of legacy peers: Go Thrum v0.5.9 to v0.6.3, recognized by the absence of `log_id`.
//!
//! They speak the same wire protocol, but three of their properties would lose events or waste work if they were
//! treated like other peers:
//!
//! * **They show N+1 before N.** A sequence is assigned first and its row becomes visible later, so a reader that has
//!   read N+1 may never see N. Also, their log may be rebuilt without notice, with sequences that start again.
//!   Therefore `reading` repeatedly reads the events of the last two minutes again, and checks that the event at the
//!   earlier position is still the same.
//! * **They stop forever at an event that they cannot apply**, and for some events they write files in wrong places.
//!   Therefore [`serving`] withholds such events. An event that only waits for its message is served once the message
//!   is here: the store moves it behind the message (`Tx::move_to_end`). If a legacy peer stops nevertheless, it gets
//!   the events one by one, and the one that it refuses is skipped.
//! * **They pull for each notify**, in parallel. The first commit is announced at once, and those of the next 100 ms
//!   together.
//!
//! Their successors (v0.7 and later) speak WebSocket, and are told what to do (`legacy/newer.rs`).
//!
//! A Go Thrum that this daemon replaces has its peers in a file ([`peers`]). They are taken over with their tokens, and
//! still know this daemon by the id of the replaced one.
//!
//! This module does no network I/O and reads no clock; all inputs are passed in, including the log that [`serving`]
//! reads.

pub(crate) mod journal;
pub(crate) mod newer;
pub mod peers;
pub(crate) mod reading;
pub mod serving;
pub(crate) mod unsent;

use std::time::Duration;

use thrum_core::limits;

/// Returns the minimum time between two notifies to a peer; `log` is the id of the peer's log, `None` for a legacy
/// peer.
pub(crate) fn notify_gap(log: Option<&str>) -> Duration {
    if log.is_none() { limits::LEGACY_NOTIFY_GAP } else { Duration::ZERO }
}
