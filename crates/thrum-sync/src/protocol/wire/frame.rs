//! The envelope of each reply: JSON-RPC around a result or an error, with the id of the request.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use thrum_core::{limits, name};

use super::{BadReply, Refusal, RpcError, go::escape_html};

/// The `id` of a request, echoed verbatim; `None` if the request had none.
pub type Id = Option<Box<RawValue>>;

/// Returns the end of a reply: the id of the request, if any, and the closing brace.
pub(super) fn end(id: &Id) -> String {
    id.as_ref().map_or_else(|| "}".to_owned(), |id| format!(",\"id\":{}}}", id.get()))
}

/// Encodes a reply with a result.
pub(super) fn result_line(id: &Id, result: &Value) -> String {
    escape_html(&format!(r#"{{"jsonrpc":"2.0","result":{result}{}"#, end(id)))
}

/// Encodes a reply with an error.
pub fn error_line(id: &Id, error: &RpcError) -> String {
    let message = Value::from(error.message.as_str());
    let data = error.data.as_ref().map_or_else(String::new, |data| format!(",\"data\":{data}"));
    escape_html(&format!(r#"{{"jsonrpc":"2.0","error":{{"code":{},"message":{message}{data}}}{}"#, error.code, end(id)))
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default, borrow)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<WireError>,
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Option<Value>,
}

/// Extracts the result from the reply to request `asked`.
pub(super) fn result<'a>(line: &'a [u8], asked: u64) -> Result<&'a RawValue, BadReply> {
    let not_reply = |why: String| BadReply::NotReply(why);
    if line.starts_with(b"HTTP/") {
        return Err(BadReply::Http);
    }
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err(not_reply("not a JSON object".into()));
    }
    let envelope: Envelope<'a> = serde_json::from_slice(line).map_err(|error| not_reply(error.to_string()))?;
    // A server that cannot parse the request replies without an id.
    let id_is_right = match envelope.id {
        Some(id) => id.get() == asked.to_string(),
        None => envelope.error.is_some(),
    };
    if !id_is_right {
        let got = envelope.id.map_or_else(|| "without id".to_owned(), |id| shown(id.get()));
        return Err(BadReply::WrongId { got, asked });
    }
    match (envelope.error, envelope.result) {
        (Some(error), _) => Err(BadReply::Error(RpcError {
            code: error.code,
            message: shown(&error.message),
            refusal: Refusal::read(error.data.as_ref(), &error.message),
            data: challenge_of(error),
        })),
        (None, Some(result)) => Ok(result),
        (None, None) => Err(not_reply("neither result nor error".into())),
    }
}

/// Keeps only the challenge from an error's `data`. The rest is untrusted and may be as long as a line.
fn challenge_of(error: WireError) -> Option<Value> {
    let error = RpcError { code: error.code, data: error.data, ..RpcError::plain("") };
    error.challenge().map(|challenge| RpcError::prove(challenge).data.unwrap_or_default())
}

/// Shortens and escapes a foreign text for display and for logs.
pub(super) fn shown(text: &str) -> String {
    let cut = text.floor_char_boundary(limits::MAX_FOREIGN_ID_BYTES);
    name::printable(&text[..cut])
}

/// Decodes the result of a reply.
pub(super) fn decode<'a, T: Deserialize<'a>>(line: &'a [u8], asked: u64) -> Result<T, BadReply> {
    serde_json::from_str(result(line, asked)?.get()).map_err(|error| BadReply::Result(error.to_string()))
}
