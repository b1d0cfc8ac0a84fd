//! What must hold of everything that is read from others: a function of bytes for each reader, which panics where it does not.
//!
//! The fuzzer calls them (`fuzz/run TARGET SECONDS`), and so does a test, with the corpus that the fuzzer has left, on every run of
//! the tests and without a fuzzer. "Does not panic" is the least of it: what was read and written again reads the same, a canonical
//! form is its own canonical form, nothing beyond a limit gets in, and no error shows a secret or carries a control character.

mod env_file;
mod event;
mod fold;
mod log;
mod peer_reply;
mod peer_request;
mod peers_json;
mod rpc_line;
mod world;

pub use env_file::env_file;
pub use event::event;
pub use fold::fold;
pub use peer_reply::peer_reply;
pub use peer_request::peer_request;
pub use peers_json::peers_json;
pub use rpc_line::rpc_line;

/// A target: a reader and what must hold of it.
pub type Target = fn(&[u8]);

/// All of them, by the names of their programs and of their directories in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 7] = [
    ("env_file", env_file),
    ("event", event),
    ("fold", fold),
    ("peer_reply", peer_reply),
    ("peer_request", peer_request),
    ("peers_json", peers_json),
    ("rpc_line", rpc_line),
];

/// Longest error text that is acceptable, in bytes: a line of a log that quotes two ids, escaped.
const MAX_ERROR_BYTES: usize = 8 << 10;

/// An error's text is for a terminal and a log: short, one line, and it drives nothing.
#[track_caller]
fn assert_sayable(text: &str) {
    assert!(text.chars().all(thrum_core::name::is_printable), "not printable: {text:?}");
    assert!(text.len() <= MAX_ERROR_BYTES, "{} bytes of error: {text:.200}…", text.len());
}
