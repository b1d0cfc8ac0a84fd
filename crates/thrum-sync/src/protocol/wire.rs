//! The peer wire protocol: JSON-RPC 2.0, one document per line, with Go's four methods and twelve of our own. Only
//! encodes and decodes.
//!
//! Go Thrum v0.5.9–v0.6.3 speaks the same protocol. Go Thrum's names, error texts and habit of echoing `id` verbatim or
//! leaving it out are kept byte for byte, because its clients display the texts and decode the rest strictly. Our
//! additions to Go's methods are optional on both sides: a Go peer ignores them, and the absence of `log_id` identifies
//! a Go peer.

mod compare;
mod error;
mod frame;
mod go;
mod refusal;
mod reply;
mod request;

/// Advice to the user if the other machine runs a Go Thrum that speaks WebSocket (v0.7 or later).
pub const NEWER_GO: &str =
    "Run this Thrum there in its place (`thrum import` takes over its mail), or Go Thrum v0.6.3.";

pub use compare::{About, Asked, PROTOCOL as RANGES, listing_line, numbers_line, read_listing, read_numbers};
pub use error::{BadReply, RpcError};
pub use frame::{Id, error_line};
pub use refusal::{NO_SESSION, Refusal, TIMED_OUT, TOO_MANY};
pub use reply::{
    Confirmed, Hello, Info, Marks, Paired, Probed, Pulled, Reply, SameKey, Served, add_marks, begun_line,
    confirmed_line, encrypted_line, hello_line, info_line, marks_of, notified_line, paired_line, probed_line,
    proved_line, pull_line, read_begun, read_confirmed, read_cut, read_encrypted, read_hello, read_info, read_notified,
    read_paired, read_probed, read_proved, read_pulled,
};
pub use request::{
    AHEAD, Begin, Call, ENCRYPT, GOODBYE, NOT_HTTP, Pair, Pull, Pushed, Query, REFERENCES, Request, confirm_request,
    encrypt_request, hello_request, is_http, lend_request, peer_info_request, probe_request, prove_request,
    read_encrypt, refused_request,
};

/// Returns `true` for a valid challenge: 64 lower-case hex digits. Nothing else is ever signed as a challenge.
fn is_challenge(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns `true` for a valid process instance of a daemon: 1 to 32 lower-case hex digits.
pub(crate) fn is_instance(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
