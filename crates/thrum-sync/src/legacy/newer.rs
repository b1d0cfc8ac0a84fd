//! Recognizes calls from Go Thrum v0.7 and later, whose daemons speak JSON-RPC over WebSocket and cannot exchange mail
//! with this one.
//!
//! Such a call is a WebSocket request without the `Origin` header that a browser always sends. The calling client
//! displays nothing of an HTTP error. Therefore the connection is accepted as a WebSocket, the first call is answered
//! with an error that tells the user what to do, and the connection is closed. Nothing else of the protocol is
//! implemented: no token and no code is used.

use data_encoding::BASE64;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

/// The message for a later Go daemon, which its user sees.
const MESSAGE: &str = "this daemon is not Go Thrum: it exchanges mail with Go Thrum v0.5.9 to v0.6.3, and not with v0.7 or later. \
                       Run the same Thrum on both machines; its `thrum import` takes over the mail of Go Thrum";

/// Appended to the key of a handshake (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Maximum number of header lines to read.
pub(crate) const MAX_HEADERS: usize = 64;

/// Maximum length of a header line. A bearer token has 71 bytes.
pub(crate) const MAX_HEADER_BYTES: usize = 1024;

/// The header lines of a request so far.
#[derive(Debug, Default)]
pub(crate) struct Handshake {
    key: Option<String>,
    is_upgrade: bool,
    has_origin: bool,
}

impl Handshake {
    /// Returns `true` if a request line can be that of a later Go daemon.
    pub(crate) fn may_follow(request: &[u8]) -> bool {
        request.starts_with(b"GET /")
    }

    /// Adds one header line.
    pub(crate) fn header(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let Some((name, value)) = line.split_once(':') else { return };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "origin" => self.has_origin = true,
            "upgrade" => self.is_upgrade = value.eq_ignore_ascii_case("websocket"),
            "sec-websocket-key" => self.key = Some(value.to_owned()),
            _ => {}
        }
    }

    /// Returns the response that accepts the connection, if the request comes from a later Go daemon.
    pub(crate) fn accept(&self) -> Option<String> {
        let key = self.key.as_ref().filter(|_| self.is_upgrade && !self.has_origin)?;
        let accepted = BASE64.encode(&Sha1::digest(format!("{key}{GUID}")));
        Some(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accepted}\r\n\r\n"
        ))
    }
}

/// Returns how many bytes with the length follow the first two bytes of a frame: none or two. Returns `None` for frames
/// that are not a short call.
pub(crate) fn length_follows(head: [u8; 2]) -> Option<usize> {
    let is_text = matches!(head[0] & 0x0f, 1 | 2) && head[0] & 0x80 != 0 && head[1] & 0x80 != 0;
    match head[1] & 0x7f {
        _ if !is_text => None,
        126 => Some(2),
        127 => None,
        _ => Some(0),
    }
}

/// Builds the reply to a call, as a frame. `masked` is the mask of the call's frame, followed by the masked content.
pub(crate) fn answer(masked: &[u8]) -> Vec<u8> {
    let (mask, content) = masked.split_at(masked.len().min(4));
    let call: Vec<u8> = content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let call: Value = serde_json::from_slice(&call).unwrap_or_default();
    let error = json!({"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32000, "message": MESSAGE}}).to_string();
    let mut frame = vec![0x81, 126];
    // The reply echoes the id. If a huge id makes it too long for the frame, the frame is empty.
    let length = u16::try_from(error.len()).unwrap_or_default();
    frame.extend(length.to_be_bytes());
    frame.extend(error.as_bytes().iter().take(length.into()));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(headers: &[&str]) -> Option<String> {
        let mut handshake = Handshake::default();
        headers.iter().for_each(|line| handshake.header(line.as_bytes()));
        handshake.accept()
    }

    #[test]
    fn a_handshake_is_accepted_as_the_standard_has_it_and_never_for_a_page() {
        let go = ["Host: 100.64.0.2:9100", "upgrade: WebSocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];
        assert!(
            handshake(&go).unwrap().contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"),
            "the example of RFC 6455"
        );
        let page = [&go[..], &["Origin: https://evil.example"]].concat();
        assert_eq!((handshake(&page), handshake(&go[..2]), handshake(&go[2..])), (None, None, None));
    }

    #[test]
    fn a_call_is_answered_with_its_id_and_what_to_do() {
        let call = br#"{"id":7,"jsonrpc":"2.0","method":"pair.request","params":{}}"#;
        let mask = [1, 2, 3, 4];
        let masked: Vec<u8> =
            mask.into_iter().chain(call.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask)).collect();
        let frame = answer(&masked);
        assert_eq!(
            (frame[0], frame[1], usize::from(u16::from_be_bytes([frame[2], frame[3]]))),
            (0x81, 126, frame.len() - 4)
        );
        let reply: Value = serde_json::from_slice(&frame[4..]).unwrap();
        assert_eq!((reply["id"].as_u64(), reply["error"]["message"].as_str()), (Some(7), Some(MESSAGE)));
        for nonsense in [&b""[..], b"abc", b"12345678"] {
            assert!(answer(nonsense).len() > 4);
        }
    }

    #[test]
    fn only_short_masked_frames_with_a_whole_text_are_calls() {
        assert_eq!(length_follows([0x81, 0x80 | 20]), Some(0));
        assert_eq!(length_follows([0x81, 0x80 | 126]), Some(2));
        for head in [[0x81, 20], [0x81, 0xff], [0x01, 0x80 | 20], [0x88, 0x80]] {
            assert_eq!(length_follows(head), None, "{head:?}");
        }
    }
}
