//! C26: the whole program with faults at the system calls that write, injected by `strace`; on a full file system; and
//! on a read-only one.
//!
//! After each fault the program runs again without one. All acknowledged data is there, and the daemon starts, or its
//! start reports what to do.

mod mail;
mod mounts;
mod pairing;
mod restoring;
pub(crate) mod strace;

use std::{collections::BTreeSet, path::PathBuf};

use serde_json::json;

use crate::common::{Ran, TestRepo};

/// Paths of files in the daemon's directory at which a fault may happen.
fn files(repo: &TestRepo, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| repo.path(".thrum/var").join(name)).collect()
}

const DATABASE: [&str; 3] = ["messages.db", "messages.db-wal", "messages.db-journal"];

/// Asserts that the command reported its failure as an error that can happen, not as a defect.
#[track_caller]
fn explains(ran: &Ran, at: &str) {
    let text = &ran.stderr;
    assert!(!text.contains("panicked") && !text.contains("defect"), "{at}: {text}");
    assert!(ran.code == -1 || text.contains("Error: ") || text.contains("error: "), "{at}: {ran:?}");
}

/// Texts of the messages in an agent's inbox. Asserts that no text occurs twice.
fn texts(repo: &TestRepo, agent: &str) -> BTreeSet<String> {
    let listing =
        repo.connect().call("message.list", &json!({"for_agent": agent, "caller_agent_id": agent, "page_size": 100}));
    let texts: Vec<_> = listing["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["body"]["content"].as_str().unwrap().to_owned())
        .collect();
    let once: BTreeSet<_> = texts.iter().cloned().collect();
    assert_eq!(once.len(), texts.len(), "something is there twice");
    once
}
