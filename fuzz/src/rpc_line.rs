//! Target: requests from a client of the local socket.

use std::cell::RefCell;

use serde_json::Value;
use thrum_core::limits;
use thrum_daemon::fuzzing::Socket;

use crate::world::directory;

/// Number of inputs after which a new daemon is created, because stored data slows down later inputs.
const INPUTS: u32 = 2000;

/// Sends all bytes of one client to a daemon that has every method but no network. Each line gets at most one answer,
/// which is one line of JSON with a result or an error, and the daemon continues to serve.
pub fn rpc_line(bytes: &[u8]) {
    thread_local! {
        static DAEMON: RefCell<Option<(Socket, tempfile::TempDir, u32)>> = const { RefCell::new(None) };
    }
    DAEMON.with_borrow_mut(|daemon| {
        let (socket, _, inputs) = daemon.get_or_insert_with(|| {
            let directory = directory();
            (Socket::open(directory.path()).expect("a daemon"), directory, 0)
        });
        *inputs += 1;
        let is_old = *inputs == INPUTS;
        let answers = socket.talk(bytes);
        let asked = bytes.iter().filter(|byte| **byte == b'\n').count();
        assert!(answers.is_empty() || answers.ends_with(b"\n"), "an answer has an end");
        let mut count = 0;
        for answer in answers.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            count += 1;
            assert!(answer.len() <= limits::MAX_LINE_BYTES, "{} bytes of answer", answer.len());
            let answer: Value = serde_json::from_slice(answer).expect("an answer is JSON");
            assert_eq!(answer["jsonrpc"], "2.0");
            assert!(answer.get("result").is_some() != answer.get("error").is_some(), "a result or an error: {answer}");
            let said = answer["error"]["message"].as_str().unwrap_or_default();
            assert!(!said.contains(char::is_control), "{said:?} is not for a terminal");
        }
        assert!(count <= asked, "{count} answers to {asked} lines");
        let health = socket.talk(b"{\"jsonrpc\":\"2.0\",\"method\":\"health\",\"id\":1}\n");
        let health: Value = serde_json::from_slice(&health).expect("health is JSON");
        assert_eq!(health["result"]["status"], "ok", "the daemon goes on: {health}");
        if is_old && let Some((socket, _directory, _)) = daemon.take() {
            socket.close();
        }
    });
}
