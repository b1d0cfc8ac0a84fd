//! File systems in a private mount namespace: a small one, and one that becomes read-only.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use super::explains;
use crate::common::{Ran, TestRepo, contents, skip};

/// A repository whose daemon keeps its files in a `tmpfs`. Dropping it ends the daemon and the file system.
struct Mounted {
    repo: TestRepo,
    space: Child,
}

impl Mounted {
    /// Mounts a `tmpfs` of this size. `None` if mounting is not possible, which one line of output reports.
    fn new(size: &str) -> Option<Self> {
        let repo = TestRepo::git("repo");
        repo.thrum(&["init", "--no-start"]).ok();
        let var = repo.path(".thrum/var");
        fs::create_dir_all(&var).unwrap();
        let script = r#"mount -t tmpfs -o "size=$1,mode=700" tmpfs "$2" && echo mounted && exec sleep infinity"#;
        let mut space = Command::new("unshare");
        // Every process inside ends with this one.
        space
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh", size])
            .arg(&var);
        let spawned = space.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut space =
            spawned.map_err(|error| skip("file systems of the test's own", &format!("unshare: {error}"))).ok()?;
        let mut said = String::new();
        BufReader::new(space.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        if said.trim() != "mounted" {
            let _ = space.wait();
            skip("file systems of the test's own", "mounting them needs root");
            return None;
        }
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", space.id())).unwrap();
        let enter = ["nsenter", "-t", children.trim(), "-m", "-p", "--"].map(Into::into);
        Some(Self { repo: repo.on(enter.to_vec()), space })
    }

    fn remount(&self, options: &str) {
        let var = self.repo.path(".thrum/var");
        let ran: Ran =
            self.repo.there("mount").args(["-o", &format!("remount,{options}")]).arg(var).output().unwrap().into();
        ran.ok();
    }

    /// Sends a message from `ann` to herself.
    fn send(&self, content: &str) -> Ran {
        self.repo.thrum(&["send", content, "--to", "@ann"])
    }

    fn texts(&self) -> BTreeSet<String> {
        let inbox = self.repo.json(&["inbox", "--limit", "100", "--full"]);
        contents(&inbox).into_iter().map(str::to_owned).collect()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.space.kill();
        let _ = self.space.wait();
    }
}

/// C26, P2: new mail is refused with advice, old mail stays readable, also after `kill -9`, and with room everything
/// works again by itself.
#[test]
fn c26_a_full_file_system_refuses_new_mail_and_loses_none() {
    let Some(there) = Mounted::new("3m") else { return };
    let repo = &there.repo;
    repo.agent("ann", "coder");
    let mut sent = BTreeSet::new();
    let refused = loop {
        let content = format!("{} {}", sent.len(), "x".repeat(60_000));
        let ran = there.send(&content);
        if ran.code != 0 {
            break ran;
        }
        sent.insert(content);
        assert!(sent.len() < 100, "it is never full");
    };
    refused.fails(75, "disk is full").says("Make room");
    assert_eq!(there.texts(), sent, "reading goes on");
    // A second attempt, because the first failure may have left something behind.
    there.send(&"y".repeat(60_000)).fails(75, "disk is full");
    repo.kill_daemon();
    let started = repo.thrum(&["daemon", "start"]);
    if started.code == 0 {
        assert_eq!(there.texts(), sent);
    } else {
        explains(&started, "on a full file system");
        assert!(started.stderr.contains("Hint: "), "{started:?}");
    }
    there.remount("size=20m");
    repo.thrum(&["daemon", "start"]).ok();
    there.send("there is room").ok();
    sent.insert("there is room".into());
    assert_eq!(there.texts(), sent);
}

/// C26: a read-only file system refuses new mail in the same way as a full one.
#[test]
fn c26_a_read_only_file_system_is_reported_and_loses_nothing() {
    let Some(there) = Mounted::new("20m") else { return };
    let repo = &there.repo;
    repo.agent("ann", "coder");
    there.send("before").ok();
    repo.thrum(&["daemon", "stop"]).ok();
    there.remount("ro");
    let started = repo.thrum(&["daemon", "start"]);
    assert_ne!(started.code, 0);
    started.says("Read-only file system").says("mount it writable");
    there.remount("rw");
    repo.thrum(&["daemon", "start"]).ok();
    there.send("after").ok();
    assert_eq!(there.texts(), ["before", "after"].map(str::to_owned).into());
}
