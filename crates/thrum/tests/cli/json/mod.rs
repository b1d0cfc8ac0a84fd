//! `docs/json.md` shows what every command prints with `--json`, the contract with programs. A test runs all commands
//! and compares.
//!
//! After a change: `UPDATE_DOCS=1 cargo test -p thrum --test cli json::`

mod mask;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use mask::Mask;
use serde_json::{Value, json};

use crate::common::{
    Ran, TestRepo, docs,
    go::{self, GoThrum},
    go_branch, instead_of_daemon,
    plain::{PlainPeer, until},
};

const INTRODUCTION: &str = "\
# JSON

What `--json` prints. Each command below was run by a test in a repository where `ann` is the agent of this worktree, `bob` and `carol` are registered, too,
and `desk` is a paired machine; the test compares every key, type and value. Ids, instants, paths, ports and what a machine measures are put in afterwards,
the same one for the same thing.

* The result is one compact line on standard output (here it is broken up to be read), and nothing else is there. Commands that follow something print one
  line for each thing. What is said beside it goes to standard error.
* Fields are added, never renamed or removed, and keep their type; their order says nothing. A reader passes over fields that it does not know.
* `hints` in a result are next steps, for people. A warning is a line `{\"warning\":{\"message\":…}}` on standard error.
* A field that has nothing to say is absent, unless a `null` is shown here.
* Instants are RFC 3339 in UTC. Texts of others stand there as they came, control characters escaped as JSON does.
* Words for a state (`state`, `status`, `kind`, a verdict) may become more; a reader treats a new one as unknown, not as an error.
* Where an answer of the daemon is the result, it has the daemon's fields (see [compatibility.md](compatibility.md)).
* An error is one line on standard error: `{\"error\":{\"kind\":…,\"message\":…,\"hint\":…,\"retryable\":…}}`; `hint` may be `null`. The exit code follows from `kind`:
  `failed` 1, `invalid` 2, `not_found` 3, `refused` 4, `unavailable` 69, `try_again` 75. The words of a message are for people and may change.
";

/// The repository that the page describes, and the page itself.
struct Stage {
    repo: TestRepo,
    mask: Mask,
    page: String,
    /// Ids that later commands need, by the placeholder that stands for them in a command line.
    ids: Vec<(&'static str, String)>,
}

impl Stage {
    fn new() -> Self {
        let repo = TestRepo::git("laptop");
        for (name, text) in [("notes.md", "# Notes\n"), ("src/login.rs", "fn login() {}\n")] {
            fs::create_dir_all(repo.path(name).parent().unwrap()).unwrap();
            fs::write(repo.path(name), text).unwrap();
        }
        repo.git_done(&["add", "."]);
        repo.git_done(&["commit", "-q", "-m", "Begin"]);
        let above = repo.above().display().to_string();
        let mask = Mask::new(vec![(format!("{above}/home"), "/home/ann".to_owned()), (above, "/home/ann".to_owned())]);
        Self { repo, mask, page: INTRODUCTION.to_owned(), ids: Vec::new() }
    }

    fn section(&mut self, title: &str, text: &str) {
        self.page += &format!("\n## {title}\n");
        if !text.is_empty() {
            self.page += &format!("\n{text}\n");
        }
    }

    /// Runs a command line with `--json` and adds its output to the page.
    #[track_caller]
    fn run(&mut self, line: &str) -> Value {
        let ran = self.shell(line, &[]);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        self.show(line, "", &ran.stdout)
    }

    /// Like [`run`](Self::run), for a command that prints a result and ends with this exit code.
    #[track_caller]
    fn ends(&mut self, line: &str, code: i32) {
        let ran = self.shell(line, &[]);
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        self.show(line, &format!(" — exit code {code}"), &ran.stdout);
    }

    /// Runs a command that fails with this exit code, and adds its error to the page.
    #[track_caller]
    fn fails(&mut self, line: &str, code: i32) {
        let ran = self.shell(line, &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{line}: {ran:?}");
        let error = ran.stderr.lines().last().unwrap().to_owned();
        let shown = self.show(line, &format!(" — exit code {code}, on standard error"), &error);
        let keys: Vec<_> = shown["error"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["hint", "kind", "message", "retryable"], "{shown}");
    }

    fn shell(&self, line: &str, env: &[(&str, &str)]) -> Ran {
        let line = self.ids.iter().fold(format!("{line} --json"), |line, (shown, real)| line.replace(shown, real));
        let program = Path::new(env!("CARGO_BIN_EXE_thrum")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        let command = self
            .repo
            .in_surroundings(&mut shell)
            .env("PATH", path)
            .env("THRUM_HOSTNAME", "laptop")
            .envs(env.iter().copied());
        command.args(["-c", &line]).stdin(Stdio::null()).output().unwrap().into()
    }

    /// Adds the output of a command to the page, and returns the first line unmasked.
    #[track_caller]
    fn show(&mut self, line: &str, outcome: &str, printed: &str) -> Value {
        let values: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        self.page += &format!("\n`{line} --json`{outcome}\n\n```json\n");
        for value in &values {
            let mut shown = value.clone();
            self.mask.value(&mut shown, "");
            self.page += &format!("{}\n", serde_json::to_string_pretty(&shown).unwrap());
        }
        self.page += "```\n";
        values.into_iter().next().unwrap_or_default()
    }

    /// Calls a method of the daemon directly, for example in another agent's name.
    fn call(&self, method: &str, params: &Value) -> Value {
        self.repo.connect().call(method, params)
    }

    /// Defines the value that `name` stands for in command lines.
    fn name(&mut self, name: &'static str, value: &Value) {
        self.ids.push((name, value.as_str().unwrap().to_owned()));
    }
}

#[test]
fn docs_json_md_matches_the_output_of_the_commands() {
    let mut stage = Stage::new();
    setting_up(&mut stage);
    mail(&mut stage);
    overview(&mut stage);
    agents(&mut stage);
    peers(&mut stage);
    through_git(&mut stage);
    daemon(&mut stage);
    moving(&mut stage);
    // A restored mailbox numbers its events by the time, so this runs after every section that shows such numbers.
    keeping(&mut stage);
    errors(&mut stage);
    docs::compare("json.md", &stage.page);
}

fn setting_up(stage: &mut Stage) {
    stage.section("Setting up", "");
    stage.run("thrum init");
    let begun = stage.run("thrum quickstart --name ann --role implementer --module auth --intent 'Log in with a key'");
    stage.name("SESSION", &begun["session_id"]);
    for (name, role) in [("bob", "reviewer"), ("carol", "tester")] {
        stage.call(
            "agent.register",
            &json!({"name": name, "role": role, "module": "auth", "hostname": "laptop", "force": true}),
        );
    }
    stage.run("thrum whoami");
}

fn mail(stage: &mut Stage) {
    stage.section("Mail", "");
    let sent = stage.run("thrum send 'Ready for review?' --to @bob --to @tester");
    stage.name("MESSAGE", &sent["message_id"]);
    let answer =
        json!({"content": "On it", "mentions": ["@ann"], "reply_to": sent["message_id"], "caller_agent_id": "bob"});
    let answer = stage.call("message.send", &answer);
    stage.name("ANSWER", &answer["message_id"]);
    stage.run("thrum wait");
    stage.run("thrum message read ANSWER");
    stage.ends("thrum wait --timeout 10ms", 1);
    stage.run("thrum inbox");
    stage.run("thrum reply ANSWER 'Thank you'");
    stage.call("message.markRead", &json!({"message_ids": [sent["message_id"]], "caller_agent_id": "bob"}));
    stage.run("thrum message get MESSAGE");
    stage.run("thrum sent --limit 1 --page 2");
    stage.run("thrum sent show MESSAGE");
    stage.run("thrum message edit MESSAGE 'Ready for review, tests included?'");
    stage.run("thrum message delete MESSAGE --force --reason 'Wrong branch'");
}

fn overview(stage: &mut Stage) {
    stage.section("Overview", "");
    stage.run("thrum team --all");
    stage.run("thrum context save 'Next: the tests in src/login.rs'");
    stage.run("thrum context preamble 'You write the login.'");
    stage.run("thrum context show");
    stage.run("thrum prime");
    stage.run("thrum context clear");
    stage.run("thrum version");
}

fn agents(stage: &mut Stage) {
    stage.section("Agents and sessions", "");
    stage.run("thrum session set-intent 'Log in with a key'");
    stage.run("thrum session set-task AUTH-17");
    fs::write(stage.repo.path("src/login.rs"), "fn login(key: Key) {}\n").unwrap();
    stage.run("thrum session heartbeat --add-scope module:auth");
    stage.run("thrum claim src/login.rs --for 30m");
    stage.run("thrum who-has src/login.rs");
    stage.run("thrum who-has src/login.rs docs");
    stage.call("claim.take", &json!({"paths": ["src"], "caller_agent_id": "bob"}));
    stage.ends("thrum claim src/login.rs docs", 1);
    stage.ends("thrum wait --file src --timeout 10ms", 1);
    stage.run("thrum claim check src/login.rs");
    stage.run("thrum claim");
    stage.run("thrum release docs");
    stage.ends("thrum who-has notes.md", 3);
    stage.run("thrum agent context @ann");
    stage.run("thrum session list");
    stage.run("thrum session end");
    let begun = stage.run("thrum session start --intent 'Test it'");
    stage.name("SESSION", &begun["session_id"]);
    stage.run("thrum ping @bob");
    stage.run("thrum register --name dora --role reviewer --module docs --force");
    stage.run("thrum agent list --role reviewer");
    stage.run("thrum agent delete dora --force");
    stage.run("thrum agent cleanup --dry-run");
}

fn peers(stage: &mut Stage) {
    stage.section(
        "Peers",
        "`peer add` prints a second line when the other side has joined; wrong codes meanwhile are warnings on standard error. `pairing` is \
`spake2-1`, or `plain` where the code was sent, as to Go Thrum. `peer join` \
without an address and without input lists who waits, as `{\"daemons\":[{\"name\",\"address\",\"node\",\"version\",\"transport\"}],\"asked\",\
\"not_asked\"}`. On a tailnet a peer also has `node` and `calls_from` (`id`, `name`, `user`), `path` (`relay`, null if direct, and \
`round_trip_us`), `moved` (`from`, `to`, `at`), and `refused` and `refused_there` (`node`, `at`, `times`). \
A peer with whose key two daemons run has `same_key`: both, each with `address`, `node` and `at`. `state` is `connecting`, `connected`, `unreachable`, \
`stopped` (its daemon said that it ends, at `since`, and is not back), `removed_us` or `over_quota`.",
    );
    let desk = TestRepo::with_agent("desk", "dan");
    let mut adding = stage.repo.begin(&["peer", "add", "--via", "local", "--json"]);
    let shown = adding.line();
    let invitation: Value = serde_json::from_str(&shown).unwrap();
    let (code, address) = (invitation["code"].as_str().unwrap(), invitation["address"].as_str().unwrap());
    stage.mask.add(address, "127.0.0.1:9100");
    let joined = desk.thrum_with_input(format!("{code}\n").as_bytes(), &["peer", "join", address, "--json"]).ok();
    let added = adding.end().ok();
    let desk_address = added.json()["peer_address"].as_str().unwrap().to_owned();
    stage.mask.add(&desk_address, "127.0.0.1:9101");
    stage.show("thrum peer add", "", &format!("{shown}\n{}", added.stdout));
    stage.show("echo 7392 | thrum peer join 127.0.0.1:9100", "", &joined.stdout);
    stage.run("thrum sync verify");
    // Repeats until each side knows that the other has everything.
    let is_settled =
        |peer: &Value| peer["read_by_them"] == peer["our_latest"] && peer["read_by_us"] == peer["their_latest"];
    while !is_settled(&stage.repo.json(&["peer", "status"])[0]) {
        desk.json(&["sync", "force"]);
    }
    stage.run("thrum sync force");
    stage.run("thrum sync status");

    stage.run("thrum peer list");
    stage.run("thrum peer status");
    stage.run("thrum peer ping desk");
    stage.run("thrum status");
    stage.run("thrum peer rename desk tower");
    stage.run("thrum peer remove tower");
    let old = PlainPeer::join(&stage.repo, "tower");
    old.serve([(
        "message.edit",
        json!({"message_id": "msg_elsewhere", "body": {"format": "plain", "content": "It is fixed."}}),
    )]);
    until(|| stage.repo.json(&["sync", "parked"])["groups"] != json!([]));
    stage.run("thrum sync parked");
    stage.repo.thrum(&["peer", "remove", "tower", "--forget"]).ok();
    until(|| stage.repo.json(&["sync", "parked"])["groups"] == json!([]));
}

fn through_git(stage: &mut Stage) {
    stage.section(
        "Sync through git",
        "`state` is `off`, `starting`, `ok` or `failing` (then with `last_error`). `daemons` are those whose events are stored (`trusted`), \
and those that are `distrusted`, `unusable` or `over_quota`, with the `reason`; `waiting` are those that nobody has decided about. `missing_here` and \
`missing_there` count events by the version vectors, `purged` those that a daemon still publishes although they were purged here. \
`encrypted` says of this daemon, and of each other one whose manifest can be read, whether it encrypts what it publishes. While it is on, \
`sync status` and `status` have the same as `git`, and `sync force` has `git` with `stored`, `published` and, if it failed, `error`. A daemon that is \
no peer is compared by `sync verify`, too, whose `names` has the name of each origin of events that differ, by id. `sync git log` has the newest entries, newest last, and \
`more` if there are earlier ones; `what` is `on` (`remote`, `encrypted`), `off`, `exchanged`, `failed` (`reason`, `count`, `last_at`), `recovered` (`failed_at`), `seen`, \
`more_seen` (`count`), `trusted` (`by_person`: false for a peer, or if a trusted daemon trusts it), `distrusted`, `gone`, `returned` or `removed` (`remote`, `ref`). `left_behind` has the refs of this daemon at remotes or under prefixes where it published before, and while it is off where it published last, with the \
`reason` if one could not be removed; `left_out` counts daemons that were not looked at, because together they publish too much. While daemons wait, `prime` has `sync_state.wants_in` with the `name` and `fingerprint` of at most three.",
    );
    let remote = stage.repo.above().join("remote.git");
    let attic = TestRepo::git("attic").with_variable("THRUM_TS_HOSTNAME", "attic");
    attic.agent("eve", "implementer");
    stage.repo.git_done(&["init", "--quiet", "--bare", &remote.to_string_lossy()]);
    for repo in [&stage.repo, &attic] {
        repo.git_done(&["remote", "add", "origin", &remote.to_string_lossy()]);
    }
    attic.thrum(&["sync", "git", "on"]).ok();
    stage.run("thrum sync git on");
    stage.repo.thrum(&["sync", "git", "trust", "attic"]).ok();
    attic.thrum(&["sync", "force"]).ok();
    stage.run("thrum sync git status");
    stage.run("thrum sync git trust attic");
    stage.run("thrum sync git untrust attic");
    stage.run("thrum sync git off");
    stage.run("thrum sync git log --limit 3");
}

fn keeping(stage: &mut Stage) {
    stage.section("What is kept", "");
    stage.run("thrum backup --to mail.backup");
    stage.run("thrum restore mail.backup --yes");
    stage.run("thrum purge --before 30d");
}

fn daemon(stage: &mut Stage) {
    stage.section("The daemon and its settings", "");
    stage.run("thrum daemon status");
    stage.run("thrum daemon logs -n 1");
    stage.run("thrum daemon stop");
    stage.run("thrum daemon start");
    stage.run("thrum config set daemon.sync_interval 30s");
    stage.run("thrum config show");
    stage.run("thrum daemon restart");
    stage.run("thrum doctor");
}

fn moving(stage: &mut Stage) {
    stage.section("Moving in and out", "`thrum export --jsonl` without `--to` prints the events themselves.");
    let go = GoThrum::recorded(&stage.repo.above().join("old-project/.thrum"));
    go.insert(["evt_1", "message.create", "2024-11-23T07:00:00Z", go::GO].map(str::to_owned), "{\"half");
    let office = json!({"name": "office", "address": "100.64.2.10:9100", "daemon_id": "d_dc13ayhceh3r"});
    fs::write(go.dir.join("var/peers.json"), json!({"local": {"daemon_id": go::GO}, "peers": [office]}).to_string())
        .unwrap();
    drop(go);
    stage.repo.git_done(&["init", "-q", "../old-project"]);
    let old = stage.repo.above().join("old-project");
    let link = ("120000", "messages/b2.jsonl".to_owned(), b"../events.jsonl".to_vec());
    let mut files = [go_branch::recorded(), vec![link]].concat();
    files[1].2.extend(b"{\"half\n");
    go_branch::write(&stage.repo, &old, "refs/remotes/origin/a-sync", None, &files);
    stage.run("thrum import --git ../old-project --dry-run");
    stage.run("thrum import ../old-project");
    stage.run("thrum export --jsonl --to log.jsonl");
    fs::remove_file(stage.repo.path(".thrum/identities/a1.json")).unwrap();
}

fn errors(stage: &mut Stage) {
    stage.section("Errors", "One of each kind.");
    stage.fails("thrum send 'To nobody'", 2);
    stage.fails("thrum send --oops", 2);
    stage.fails("thrum send 'To a ghost' --to @ghost --to @bbo", 3);
    stage.fails("thrum message get msg_none", 3);
    stage.fails("thrum quickstart --name eve --role implementer --module auth", 4);
    stage.repo.thrum(&["daemon", "stop"]).ok();
    stage.fails("thrum inbox --no-start", 69);
    let busy = json!({"code": -32000, "message": "the disk is full: nothing was stored",
                      "data": {"kind": "try_again", "retryable": true, "hint": "Make room and try again."}});
    let daemon = instead_of_daemon(&stage.repo, 1, move |request| {
        Some(json!({"jsonrpc": "2.0", "error": busy, "id": request["id"]}))
    });
    stage.fails("thrum send 'To a full disk' --to @bob --idempotency-key report-1", 75);
    daemon.join().unwrap();
    fs::write(stage.repo.path(".thrum/var/messages.db"), "nonsense").unwrap();
    stage.fails("thrum daemon start", 1);
}

/// Commands that the page leaves out, each with the reason.
const WITHOUT: [(&str, &str); 10] = [
    ("completions", "a script for a shell"),
    ("help", "text for people"),
    ("demo", "a show for people"),
    ("bench", "what it measures depends on the machine"),
    ("mcp serve", "it speaks MCP"),
    ("doctor agents", "what it finds depends on what is installed; `docs/agents.md` says what it is"),
    ("setup", "it changes other programs' files; `tests/cli/setup.rs` shows it"),
    ("hook", "it answers in the form of the program that runs it"),
    ("daemon run", "it is the daemon"),
    ("context prime", "it is `prime`"),
];

#[test]
fn every_command_is_in_docs_json_md() {
    let repo = TestRepo::plain("repo");
    let page = fs::read_to_string(docs::path("json.md")).unwrap();
    let (mut left, mut missing) = (vec![String::new()], Vec::new());
    while let Some(command) = left.pop() {
        if WITHOUT.iter().any(|(name, _)| *name == command) {
            continue;
        }
        let help = repo.thrum(&command.split_whitespace().chain(["--help"]).collect::<Vec<_>>()).ok().stdout;
        let below = docs::commands(&help);
        left.extend(below.iter().map(|name| format!("{command} {name}").trim().to_owned()));
        if below.is_empty() && !page.contains(&format!("thrum {command} ")) {
            missing.push(command);
        }
    }
    assert_eq!(missing, [""; 0], "run them in tests/cli/json/mod.rs");
}
