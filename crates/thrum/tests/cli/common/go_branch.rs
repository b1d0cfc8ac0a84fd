//! The branch `a-sync`, as Go Thrum shares mail through git. Real git writes it, without a worktree.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use super::{Ran, TestRepo, go};

/// A file of the branch: its mode, path and content. The content of a submodule (`160000`) is a commit id, and that of
/// a symbolic link (`120000`) a path.
pub(crate) type File = (&'static str, String, Vec<u8>);

/// A regular file.
pub(crate) fn file(path: &str, content: impl Into<Vec<u8>>) -> File {
    ("100644", path.to_owned(), content.into())
}

/// The events that Go Thrum v0.6.3 wrote, dated in the past for any clock, as the files of its branch: messages and
/// what concerns them in the file of the author, all else in `events.jsonl`.
pub(crate) fn recorded() -> Vec<File> {
    let (mut events, mut of_a1, mut of_remote1) = (String::new(), String::new(), String::new());
    for line in go::RECORDED.replace("2026-11-23", "2024-11-23").lines() {
        let mut served: serde_json::Value = serde_json::from_str(line).unwrap();
        let event = served["event_json"].take();
        let file = match served["type"].as_str().unwrap() {
            "message.create" if event["agent_id"] == "remote1" => &mut of_remote1,
            "message.receipt" => &mut of_remote1,
            kind if kind.starts_with("message.") => &mut of_a1,
            _ => &mut events,
        };
        *file += &format!("{event}\n");
    }
    vec![file("events.jsonl", events), file("messages/a1.jsonl", of_a1), file("messages/remote1.jsonl", of_remote1)]
}

/// Writes a commit with exactly these files, and points `reference` at it. Its parent is the former commit of `onto`.
pub(crate) fn write(repo: &TestRepo, dir: &Path, reference: &str, onto: Option<&str>, files: &[File]) {
    let mut input = format!("commit {reference}\ncommitter Thrum <thrum@local> 1732340000 +0000\ndata 4\nsync\n");
    if let Some(onto) = onto {
        input += &format!("from {onto}^0\ndeleteall\n");
    }
    let mut input = input.into_bytes();
    for (mode, path, content) in files {
        let quoted: String = path.bytes().map(|byte| format!("\\{byte:03o}")).collect();
        if *mode == "160000" {
            input.extend(format!("M {mode} {} \"{quoted}\"\n", String::from_utf8_lossy(content)).bytes());
        } else {
            input.extend(format!("M {mode} inline \"{quoted}\"\ndata {}\n", content.len()).bytes());
            input.extend(content);
            input.push(b'\n');
        }
    }
    input.extend(b"done\n");
    let mut command = Command::new("git");
    repo.in_surroundings(&mut command).current_dir(dir).args(["fast-import", "--quiet", "--force", "--done"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    ran.ok();
}
