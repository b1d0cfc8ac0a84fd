//! Fuzz targets for the parsers of foreign input: functions that take bytes, and panic if a required property does not
//! hold.
//!
//! The fuzzer calls them (`fuzz/run TARGET SECONDS`). A test also calls them with the corpus that the fuzzer has left,
//! in every test run and without a fuzzer. "Does not panic" is only the minimum. In addition, written values parse to
//! the same value, a canonical form is its own canonical form, nothing beyond a limit gets in, and no error reveals a
//! secret or contains a control character.

mod encrypted;
mod env_file;
mod event;
mod fold;
mod log;
mod peer_reply;
mod peer_request;
mod peers_json;
mod rpc_line;
mod world;

pub use encrypted::encrypted;
pub use env_file::env_file;
pub use event::event;
pub use fold::fold;
pub use peer_reply::peer_reply;
pub use peer_request::peer_request;
pub use peers_json::peers_json;
pub use rpc_line::rpc_line;

/// A fuzz target: runs a parser and checks its properties.
pub type Target = fn(&[u8]);

/// All targets by name, which is also the name of the program and of the directory in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 8] = [
    ("encrypted", encrypted),
    ("env_file", env_file),
    ("event", event),
    ("fold", fold),
    ("peer_reply", peer_reply),
    ("peer_request", peer_request),
    ("peers_json", peers_json),
    ("rpc_line", rpc_line),
];

/// Longest acceptable error text, in bytes: a log line that quotes two ids, escaped.
const MAX_ERROR_BYTES: usize = 8 << 10;

/// Checks that a text is safe for a terminal and a log: short, one line, no control characters.
#[track_caller]
fn assert_sayable(text: &str) {
    assert!(text.chars().all(thrum_core::name::is_printable), "not printable: {text:?}");
    assert!(text.len() <= MAX_ERROR_BYTES, "{} bytes of error: {text:.200}…", text.len());
}
