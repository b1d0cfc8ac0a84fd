//! Errors on the wire: those sent and received in place of a result, and why a line is not the expected reply.
//!
//! Go Thrum has one code for all errors of its methods and recognises them by their text, so its texts are kept byte
//! for byte. Some errors that do not exist there have data for programs. The reasons for which a pairing is refused are
//! in `refusal.rs`; an [`RpcError`] carries one of them.
//!
//! Example: a removed peer calls with its old token and gets [`RpcError::unauthorized`], which it recognises with
//! [`RpcError::is_unauthorized`].

use super::{Refusal, is_challenge};

const PROVE: &str = "prove";

const UNAUTHORIZED: &str = "unauthorized: unknown peer token";

/// A JSON-RPC error as sent over the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// JSON-RPC's error code; -32000 for all errors that a method returns.
    pub code: i64,
    /// One sentence; Go Thrum's own text where it has one.
    pub message: String,
    /// Details for programs; Go Thrum sends none. Sent: `{kind, hint?, retryable, challenge?}` with an error that was
    /// made from a `thrum_core::Error` and with a demand for a proof; `{"code": REASON}` with a pairing that is refused
    /// in `pair.begin` or `pair.confirm`. Of a received error, only a demand for a proof is kept.
    pub data: Option<serde_json::Value>,
    /// Why a pairing was refused, if that is the error.
    pub refusal: Option<Refusal>,
}

impl RpcError {
    /// Returns `true` if the peer does not know the method, for example because it runs an older version.
    pub fn is_unknown_method(&self) -> bool {
        self.code == -32601
    }

    /// Builds an error of a method, in Go's form.
    pub fn plain(message: impl Into<String>) -> Self {
        Self { code: -32000, message: message.into(), data: None, refusal: None }
    }

    /// Builds the error for a refused pairing, in Go's form: `message` alone states the reason.
    pub fn refused(refusal: Refusal, message: impl Into<String>) -> Self {
        Self { refusal: Some(refusal), ..Self::plain(message) }
    }

    /// Adds the reason of a refused pairing to `data`, for programs. Not for Go's methods, where the text alone states
    /// the reason.
    #[must_use]
    pub fn with_code(mut self) -> Self {
        self.data = self.data.or_else(|| self.refusal.map(Refusal::data));
        self
    }

    /// Builds the error for a line that is not a request.
    pub fn parse() -> Self {
        Self { code: -32700, ..Self::plain("parse error") }
    }

    /// Builds the error for a line that exceeds the maximum length of a request.
    pub fn too_long(limit: usize) -> Self {
        let error = thrum_core::Error::new(thrum_core::ErrorKind::Invalid, String::new())
            .hint("No request of this protocol is as long.");
        Self {
            code: -32700,
            data: Some(error.data()),
            ..Self::plain(format!("parse error: a request of more than {limit} bytes"))
        }
    }

    /// Builds the error for a method that does not exist, or is not available to peers.
    pub fn unknown_method(method: &str) -> Self {
        Self { code: -32601, ..Self::plain(format!("method not found: {method}")) }
    }

    /// Builds the error for a token that is missing, belongs to no peer on this kind of transport, is used from a wrong
    /// node, or is used by a caller whose proof fails.
    pub fn unauthorized() -> Self {
        Self::plain(UNAUTHORIZED)
    }

    /// Builds the error for a caller with a valid token, which must first prove with the peer's key that it is that
    /// peer.
    pub fn prove(challenge: &str) -> Self {
        let data = serde_json::json!({
            "kind": PROVE,
            "hint": "Answer the challenge with sync.prove, signed with the daemon's key, on this connection.",
            "retryable": true,
            "challenge": challenge,
        });
        Self {
            data: Some(data),
            ..Self::plain("this token is another daemon's or another node's: prove that you are it")
        }
    }

    /// Returns the challenge to sign before the peer answers, if this error demands a proof.
    pub fn challenge(&self) -> Option<&str> {
        let data = self.data.as_ref().filter(|data| data["kind"] == PROVE)?;
        data["challenge"].as_str().filter(|challenge| is_challenge(challenge))
    }

    /// Returns `true` if the peer refuses our token, usually because it removed us or never stored us.
    pub fn is_unauthorized(&self) -> bool {
        self.code == -32000 && self.message == UNAUTHORIZED
    }
}

impl From<thrum_core::Error> for RpcError {
    fn from(error: thrum_core::Error) -> Self {
        Self { data: Some(error.data()), ..Self::plain(error.message) }
    }
}

/// Why a line is not the expected reply. A later retry may help, because the peer may have been restarted or repaired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// Not a JSON-RPC reply: sent by another program, or a batch.
    #[error("it does not answer in Thrum's protocol ({0})")]
    NotReply(String),
    /// HTTP: a Go Thrum that speaks WebSocket, or a web server.
    #[error(
        "it answers in HTTP: Go Thrum v0.7 or later, which cannot exchange mail with this daemon, or another program"
    )]
    Http,
    /// A reply to a different request, or a result without an id.
    #[error("it answered request {got} where {asked} was asked")]
    WrongId {
        /// The id in the reply.
        got: String,
        /// The id of our request.
        asked: u64,
    },
    /// The peer returned an error.
    #[error("it answered: {0}")]
    Error(RpcError),
    /// The result does not fit the method.
    #[error("its result makes no sense ({0})")]
    Result(String),
}
