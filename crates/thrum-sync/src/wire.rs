//! The peer wire: JSON-RPC 2.0, one document per line, Go's four methods and eleven of ours. Encodes and decodes, nothing else.
//!
//! Go Thrum v0.5.9–v0.6.3 speaks the same: its names, its error texts, and its habit of echoing `id` raw or leaving it out
//! are kept to the byte, because its clients show the texts and decode the rest strictly. What we add is optional on both
//! sides: a Go peer ignores it, and its absence tells us that the other side is one.

mod compare;
mod go;
mod reply;
mod request;

/// What helps with a Go Thrum that speaks WebSocket.
pub const NEWER_GO: &str = "Run this Thrum there in its place (`thrum import` takes over its mail), or Go Thrum v0.6.3.";

pub use compare::{About, Asked, PROTOCOL as RANGES, listing_line, numbers_line, read_listing, read_numbers};
pub use reply::{
    Confirmed, Hello, Info, Paired, Probed, Pulled, Reply, Served, add_unreached, begun_line, confirmed_line, error_line, hello_line,
    info_line, is_unreached, notified_line, paired_line, probed_line, proved_line, pull_line, read_begun, read_confirmed, read_cut,
    read_hello, read_info, read_notified, read_paired, read_probed, read_proved, read_pulled,
};
pub use request::{
    Begin, Call, Id, NOT_HTTP, Pair, Pull, Query, Request, confirm_request, hello_request, is_http, lend_request, peer_info_request,
    probe_request, prove_request, refused_request,
};

/// A JSON-RPC error as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// JSON-RPC's number; -32000 for everything that a method says.
    pub code: i64,
    /// One sentence; Go Thrum's where it has one.
    pub message: String,
    /// `{kind, hint, retryable}` on errors that Go Thrum does not know, which have none there.
    pub data: Option<serde_json::Value>,
}

impl RpcError {
    /// Whether it does not know the method, as an older version does not.
    pub fn is_unknown_method(&self) -> bool {
        self.code == -32601
    }

    /// What a method has to say, in Go's form.
    pub fn said(message: impl Into<String>) -> Self {
        Self { code: -32000, message: message.into(), data: None }
    }

    /// The line is no request.
    pub fn parse() -> Self {
        Self { code: -32700, message: "parse error".into(), data: None }
    }

    /// The line is longer than any request.
    pub fn too_long(limit: usize) -> Self {
        let fault = thrum_core::Fault::new(thrum_core::ErrorKind::Invalid, String::new()).hint("No request of this protocol is as long.");
        Self { code: -32700, message: format!("parse error: a request of more than {limit} bytes"), data: Some(fault.data()) }
    }

    /// No such method, or not for peers.
    pub fn unknown_method(method: &str) -> Self {
        Self { code: -32601, message: format!("method not found: {method}"), data: None }
    }

    /// The token is missing or nobody's.
    pub fn unauthorized() -> Self {
        Self::said(UNAUTHORIZED)
    }

    /// The token is good, and comes from another node than the peer's. Who has the peer's key can say so.
    pub fn prove(challenge: &str) -> Self {
        let data = serde_json::json!({
            "kind": PROVE,
            "hint": "Answer the challenge with sync.prove, signed with the daemon's key, on this connection.",
            "retryable": true,
            "challenge": challenge,
        });
        Self { code: -32000, message: "this token is another daemon's or another node's: prove that you are it".into(), data: Some(data) }
    }

    /// What is to be proven before the peer answers, if that is what it says.
    pub fn challenge(&self) -> Option<&str> {
        let data = self.data.as_ref().filter(|data| data["kind"] == PROVE)?;
        data["challenge"].as_str().filter(|challenge| is_challenge(challenge))
    }

    /// Whether the peer does not know our token: it removed us, or never stored us.
    pub fn is_unauthorized(&self) -> bool {
        self.code == -32000 && self.message == UNAUTHORIZED
    }
}

impl From<thrum_core::Fault> for RpcError {
    fn from(fault: thrum_core::Fault) -> Self {
        Self { code: -32000, message: fault.message.clone(), data: Some(fault.data()) }
    }
}

/// Whether this is a challenge: 64 hex digits. Nothing else is ever signed as one.
fn is_challenge(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

const PROVE: &str = "prove";

const UNAUTHORIZED: &str = "unauthorized: unknown peer token";

/// Why a line is not the reply that was asked for. Asking again may help: the peer may be restarted or repaired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// Not a JSON-RPC reply at all: another program, or a batch.
    #[error("it does not answer in Thrum's protocol ({0})")]
    NotReply(String),
    /// HTTP: a Go Thrum that speaks WebSocket, or a web server.
    #[error("it answers in HTTP: Go Thrum v0.7 or later, which cannot exchange mail with this daemon, or another program")]
    Http,
    /// A reply to something we did not ask.
    #[error("it answered request {got} where {asked} was asked")]
    WrongId {
        /// What the reply says.
        got: String,
        /// What was asked.
        asked: u64,
    },
    /// The peer's own error.
    #[error("it answered: {0}")]
    Error(RpcError),
    /// A result that is not the method's.
    #[error("its result makes no sense ({0})")]
    Result(String),
}

#[cfg(test)]
mod tests;
