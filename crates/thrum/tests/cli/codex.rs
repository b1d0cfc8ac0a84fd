//! Waking idle Codex sessions. A script stands in for Codex and behaves as Codex 0.171.0 was observed: sessions run in
//! a background process that outlives the terminal, and `codex queue` accepts a text. `tests/runtimes/run` tests the
//! real Codex.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
};

use serde_json::{Value, json};

use crate::common::{
    OnTerminal, TestRepo,
    plain::{WAIT, until},
};

const SCRIPT: &str = r#"#!/bin/sh
case "$1" in
app-server)
    # A hook for each line: its event and its payload.
    while read -r event payload; do
        printf '%s' "$payload" | "$THRUM" hook "$event" --host codex
        echo .
    done ;;
queue)
    printf '%s\n' "$@" > "$QUEUED"
    exit "$(cat "$STATUS")" ;;
*)
    echo ready
    read -r line ;;
esac
"#;

/// Codex in a repository, with its background process.
struct Codex {
    repo: TestRepo,
    dir: PathBuf,
    server: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Codex {
    /// Starts Codex in the repository of `bob`, to whom `ann` can write.
    fn start() -> Self {
        let repo = TestRepo::with_reader_and_writer();
        let dir = repo.above().join("bin");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("codex"), SCRIPT).unwrap();
        fs::set_permissions(dir.join("codex"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.join("status"), "0").unwrap();
        assert!(Command::new("mkfifo").arg(dir.join("queued")).status().unwrap().success());
        let mut command = Self::command(&repo, &dir);
        let mut server = command.arg("app-server").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (server.stdin.take().unwrap(), BufReader::new(server.stdout.take().unwrap()));
        Self { repo, dir, server, input, output }
    }

    /// Starts Codex for a user who has enabled waking.
    fn that_wakes() -> Self {
        let codex = Self::start();
        codex.repo.thrum(&["setup", "codex", "--wake"]).ok();
        codex
    }

    fn command(repo: &TestRepo, dir: &Path) -> Command {
        let mut command = Command::new(dir.join("codex"));
        let path = std::env::var("PATH").unwrap();
        repo.in_surroundings(&mut command)
            .env("PATH", format!("{}:{path}", dir.display()))
            .env("THRUM", env!("CARGO_BIN_EXE_thrum"))
            .env("QUEUED", dir.join("queued"))
            .env("STATUS", dir.join("status"));
        command
    }

    /// Starts the program on a terminal, as a person does.
    fn on_terminal(&self) -> OnTerminal {
        let mut terminal = OnTerminal::start(Self::command(&self.repo, &self.dir), 80);
        terminal.until("ready");
        terminal
    }

    /// Runs a hook of a session in the background process and returns its output.
    fn hook(&mut self, event: &str, session: &str, more: Value) -> String {
        let mut payload = json!({"session_id": session, "turn_id": "t1", "cwd": self.repo.root()});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        writeln!(self.input, "{event} {payload}").unwrap();
        let mut said = String::new();
        while !said.ends_with(".\n") {
            assert_ne!(self.output.read_line(&mut said).unwrap(), 0, "{said}");
        }
        said.trim_end_matches(".\n").to_owned()
    }

    /// Runs one turn of a session, from a prompt to its end.
    fn turn(&mut self, session: &str) {
        self.hook("start", session, json!({"source": "startup"}));
        self.hook("prompt", session, json!({"prompt": "go"}));
        assert_eq!(self.hook("stop", session, json!({})), "");
    }

    /// Waits for the next call of `codex queue`, and returns its session and text.
    fn queued(&self) -> (String, String) {
        let (sender, receiver) = mpsc::channel();
        let queued = self.dir.join("queued");
        thread::spawn(move || sender.send(fs::read_to_string(queued).unwrap()));
        let said = receiver.recv_timeout(WAIT).expect("codex queue");
        let rest = said.strip_prefix("queue\n--thread\n").unwrap();
        let (session, text) = rest.split_once("\n--message\n").unwrap();
        (session.to_owned(), text.strip_suffix('\n').unwrap().to_owned())
    }

    /// The record that the hooks keep of a session.
    fn record(&self, session: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.repo.path(&format!(".thrum/var/hooks/{session}.json"))).unwrap())
            .unwrap()
    }

    /// The process id of the session's waiter.
    fn waiter(&self, session: &str) -> u64 {
        self.record(session)["waiter"].as_u64().expect("a waiter")
    }
}

impl Drop for Codex {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Waits until a process has ended that is not a child of this one.
fn ended(pid: u64) {
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    until(|| state().rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z')));
}

#[test]
fn an_idle_codex_session_is_woken_once_for_each_message() {
    let mut codex = Codex::that_wakes();
    let _person = codex.on_terminal();
    codex.turn("s1");
    codex.repo.thrum(&["send", "my own", "--to", "@everyone", "--as", "bob"]).ok();
    let long = format!("wake up\n{}", "x".repeat(2000));
    let id = codex.repo.write_to_bob(&long);
    let (session, text) = codex.queued();
    assert_eq!(session, "s1");
    assert!(
        text.starts_with("[thrum] 1 new message for @bob. It is what others wrote, not your user:\n@ann, "),
        "{text}"
    );
    assert!(
        text.contains("  │ wake up\n") && text.contains(&format!("all: thrum message get {id}")) && text.len() < 2048,
        "{text}"
    );
    assert!(!text.contains("my own"), "nobody is woken by their own mail: {text}");
    let short = codex.repo.write_to_bob("one more");
    assert_eq!(codex.repo.unread("bob"), 2, "queued is not shown");
    // The turn that the queued text started: its text is already known, and mail that arrived since then is shown now.
    let told = codex.hook("prompt", "s1", json!({"prompt": text}));
    assert!(told.contains(&short) && !told.contains("wake up"), "{told}");
    let kept = codex.hook("stop", "s1", json!({}));
    assert!(kept.contains(&id) && !kept.contains(&short), "only the beginning of it was shown: {kept}");
    assert_eq!(
        (codex.hook("stop", "s1", json!({"stop_hook_active": true})), codex.repo.unread("bob")),
        (String::new(), 0)
    );
    codex.repo.write_to_bob("and again");
    let (_, again) = codex.queued();
    assert!(again.contains("and again") && !again.contains("one more"), "{again}");
    assert_eq!(codex.record("s1")["wakes"].as_array().unwrap().len(), 2, "they are counted");
}

#[test]
fn a_codex_session_is_woken_only_with_consent_and_a_terminal() {
    let mut codex = Codex::start();
    let person = codex.on_terminal();
    codex.turn("s1");
    assert_eq!(codex.record("s1")["waiter"], Value::Null, "nobody asked for it");
    codex.repo.thrum(&["config", "set", "codex.wake", "true"]).ok();
    codex.turn("s1");
    let waiter = codex.waiter("s1");
    drop(person);
    ended(waiter);
    // The session continues in the background, without a terminal that shows it.
    codex.turn("s1");
    ended(codex.waiter("s1"));
    let person = codex.on_terminal();
    codex.turn("s1");
    let waiter = codex.waiter("s1");
    // The user continues in another session, which is working when mail arrives: that session gets the mail.
    codex.hook("start", "s2", json!({"source": "clear"}));
    codex.hook("prompt", "s2", json!({"prompt": "go"}));
    codex.repo.write_to_bob("for the one that is seen");
    ended(waiter);
    assert_eq!(codex.record("s1")["wakes"], json!([]));
    assert!(codex.hook("stop", "s2", json!({})).contains("for the one that is seen"));
    // After the end of a session, the next mail ends its waiter.
    codex.hook("stop", "s2", json!({}));
    let waiter = codex.waiter("s2");
    codex.hook("end", "s2", json!({"reason": "other"}));
    codex.repo.write_to_bob("for nobody");
    ended(waiter);
    drop(person);
}

#[test]
fn a_busy_codex_session_is_not_woken_and_gets_its_mail_with_the_next_prompt() {
    let mut codex = Codex::that_wakes();
    let _person = codex.on_terminal();
    codex.turn("s1");
    let waiter = codex.waiter("s1");
    codex.hook("prompt", "s1", json!({"prompt": "go"}));
    codex.repo.write_to_bob("while it works");
    ended(waiter);
    assert_eq!(codex.record("s1")["wakes"], json!([]));
    assert!(codex.hook("stop", "s1", json!({})).contains("while it works"));
    fs::write(codex.dir.join("status"), "1").unwrap();
    assert_eq!(codex.hook("stop", "s1", json!({})), "");
    let waiter = codex.waiter("s1");
    codex.repo.write_to_bob("which session?");
    codex.queued();
    ended(waiter);
    assert!(codex.hook("prompt", "s1", json!({"prompt": "go"})).contains("which session?"));
}

#[test]
fn a_codex_session_outlives_the_daemon_and_is_woken_after_it() {
    let mut codex = Codex::that_wakes();
    let _person = codex.on_terminal();
    codex.turn("s1");
    codex.repo.thrum(&["daemon", "restart"]).ok();
    codex.repo.write_to_bob("after all");
    assert!(codex.queued().1.contains("after all"));
}
