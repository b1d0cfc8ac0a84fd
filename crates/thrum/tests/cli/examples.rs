//! Runs every example of `docs/cli.md`, and requires at least two for each command.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use serde_json::{Value, json};

use crate::common::{TestRepo, docs, go::GoThrum, go_branch, pair, peer_joins};

/// Placeholders in examples for ids that are only known at run time.
const TO_ANN: &str = "msg_01JZ3E9Q0V7M4T6X8B2C5D9F1G";
const FROM_ANN: &str = "msg_01JZ3E9Q0V7M4T6X8B2C5D9F2H";
const SESSION: &str = "ses_01JZ3E9Q0V7M4T6X8B2C5D9F3J";

/// The repository that `docs/cli.md` describes.
struct Stage {
    repo: TestRepo,
    ids: [(&'static str, String); 3],
    peer: Option<TestRepo>,
    /// Two other daemons on the git remote, and the fingerprint of the first one.
    on_remote: Option<([TestRepo; 2], String)>,
}

impl Stage {
    fn set() -> Self {
        let repo = TestRepo::git("laptop");
        for (name, text) in [
            ("notes.md", "# Notes\n"),
            ("plan.json", "{\"steps\": 3}\n"),
            ("src/login.rs", "fn login() {}\n"),
            (".claude/settings.json", "{}\n"),
        ] {
            let path = repo.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        repo.git_done(&["add", "."]);
        repo.git_done(&["commit", "-q", "-m", "Begin"]);
        let started = repo.json(&["quickstart", "--name", "ann", "--role", "implementer", "--module", "auth"]);
        let mut daemon = repo.connect();
        for (name, role) in [("bob", "reviewer"), ("carol", "tester")] {
            daemon.call("agent.register", &json!({"name": name, "role": role, "module": "auth", "force": true}));
        }
        let mut send = |from: &str, to: &str| {
            let sent = daemon.call(
                "message.send",
                &json!({"content": "Ready for review?", "mentions": [to], "caller_agent_id": from}),
            );
            text(&sent["message_id"])
        };
        let ids =
            [(TO_ANN, send("bob", "@ann")), (FROM_ANN, send("ann", "@bob")), (SESSION, text(&started["session_id"]))];
        Self { repo, ids, peer: None, on_remote: None }
    }

    /// Returns the other machine, and pairs it on first use.
    fn peer(&mut self) -> &TestRepo {
        self.peer.get_or_insert_with(|| {
            let desk = TestRepo::with_agent("desk", "dan");
            pair(&self.repo, &desk);
            desk
        })
    }

    /// Returns the fingerprint of the daemon `desk` on the git remote. On first use, makes this repository, `desk` and
    /// `attic` share the remote.
    fn on_remote(&mut self) -> String {
        let (_, fingerprint) = self.on_remote.get_or_insert_with(|| {
            let remote = self.repo.above().join("remote.git");
            self.repo.git_done(&["init", "--quiet", "--bare", &remote.to_string_lossy()]);
            let share = |repo: &TestRepo| {
                repo.git_done(&["remote", "add", "origin", &remote.to_string_lossy()]);
                repo.thrum(&["sync", "git", "on"]).ok();
            };
            let others = ["desk", "attic"].map(|name| {
                let repo = TestRepo::git(name).with_variable("THRUM_TS_HOSTNAME", name);
                repo.agent("dan", "implementer");
                share(&repo);
                repo
            });
            share(&self.repo);
            let fingerprint = text(&others[0].json(&["sync", "git", "status"])["own_fingerprint"]);
            (others, fingerprint)
        });
        fingerprint.clone()
    }

    fn run(&mut self, example: &str) {
        let line = self.ids.iter().fold(example.to_owned(), |line, (shown, real)| line.replace(shown, real));
        let words: Vec<_> = line.split_whitespace().skip(1).collect();
        match words.as_slice() {
            ["peer", "add", ..] => {
                let adding = self.repo.begin(&[words.as_slice(), &["--json"]].concat());
                let desk = TestRepo::with_agent("desk", "dan");
                peer_joins(adding, &desk);
            }
            [.., "peer", "join", "127.0.0.1:9100"] => {
                let desk = TestRepo::with_agent("desk", "dan");
                let mut adding = desk.begin(&["peer", "add", "--via", "local", "--json"]);
                let shown: Value = serde_json::from_str(&adding.line()).unwrap();
                let line =
                    line.replace("127.0.0.1:9100", &text(&shown["address"])).replace("7392", &text(&shown["code"]));
                // In an example that does not pipe the code in, a person would type it.
                let piped = if line.contains('|') { line } else { format!("echo {} | {line}", text(&shown["code"])) };
                self.shell(example, &piped);
                adding.end().ok();
            }
            ["restore", file, ..] => {
                let backup = self.repo.path(file);
                if !backup.exists() {
                    self.repo.thrum(&["backup", "--to", file]).ok();
                }
                self.shell(example, &line);
            }
            ["daemon", "run", ..] => {
                self.repo.thrum(&["daemon", "stop"]).ok();
                let mut running = self.repo.begin(&words);
                // `daemon start` finds this daemon only once it reports that it has started.
                while let said = running.talk()
                    && !said.contains(" started: ")
                {
                    assert!(!said.is_empty(), "{example} ended");
                }
                self.repo.thrum(&["daemon", "start"]).ok();
                self.repo.thrum(&["daemon", "stop"]).ok();
                running.end().ok();
            }
            ["daemon", "logs", rest @ ..] if rest.iter().any(|word| matches!(*word, "-f" | "--follow")) => {
                let mut following = self.repo.begin(&words);
                assert!(!following.line().is_empty(), "{example}");
                following.kill();
            }
            ["import", "--git", ..] => {
                let (here, old) = (self.repo.root(), self.repo.above().join("old-project"));
                if !old.join(".git").exists() {
                    self.repo.git_done(&["init", "-q", "../old-project"]);
                    for (dir, branch) in [(here, "refs/heads/a-sync"), (&old, "refs/remotes/origin/a-sync")] {
                        go_branch::write(&self.repo, dir, branch, None, &go_branch::recorded());
                    }
                }
                self.shell(example, &line);
            }
            ["import", ..] => {
                let old = self.repo.above().join("old-project/.thrum");
                if !old.exists() {
                    drop(GoThrum::recorded(&old));
                }
                self.shell(example, &line);
            }
            ["sync", "git", ..] => {
                let fingerprint = self.on_remote();
                self.shell(example, &line.replace("2gx5-mkqp-4wzt-a7bd", &fingerprint));
            }
            _ => {
                if words.first().is_some_and(|word| matches!(*word, "peer" | "sync")) {
                    self.peer();
                }
                self.shell(example, &line);
                match words[..] {
                    ["peer", "remove", ..] => self.peer = None,
                    // The other examples use the former name.
                    ["peer", "rename", old, new, ..] => drop(self.repo.thrum(&["peer", "rename", new, old]).ok()),
                    _ => {}
                }
            }
        }
    }

    fn shell(&self, example: &str, line: &str) {
        let program = Path::new(env!("CARGO_BIN_EXE_thrum")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        let output = self.repo.in_surroundings(&mut shell).env("PATH", path).args(["-c", line]).output().unwrap();
        assert!(
            output.status.success(),
            "{example}\n{}\nstdout: {}\nstderr: {}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn every_example_of_docs_cli_md_runs() {
    let page = fs::read_to_string(docs::path("cli.md")).unwrap();
    let sections: Vec<_> = page.split("\n## ").skip(1).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(section) = sections.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let examples = docs::examples(section);
                    let does_something = docs::commands(section).is_empty();
                    assert!(
                        examples.len() >= 2 || !does_something,
                        "two examples for: {}",
                        section.lines().next().unwrap()
                    );
                    if !examples.is_empty() {
                        let mut stage = Stage::set();
                        examples.iter().for_each(|example| stage.run(example));
                    }
                }
            });
        }
    });
}
