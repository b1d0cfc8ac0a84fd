//! The format of the output depends on the reader: a terminal, a pipe or a program.

use std::{
    fs::OpenOptions,
    process::{Command, Stdio},
    sync::mpsc,
};

use serde_json::json;

use crate::common::{OnTerminal, Ran, TestRepo, instead_of_daemon};

/// Text with which others might control a terminal, hide text or change its direction.
const HOSTILE: &str = "x\u{1b}[2J\u{9b}K\u{1b}]0;owned\u{7}\u{202e}\u{2066}\u{61c}\u{8}\u{7f}y";

#[test]
fn a_pipe_gets_no_colours_and_exact_times() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.thrum(&["send", "hello", "--to", "bob", "--as", "ann"]).ok();
    let shown = repo.thrum(&["inbox", "--unread", "--as", "bob"]).ok().stdout;
    assert!(!shown.contains('\x1b') && !shown.contains("ago"), "{shown:?}");
    assert!(shown.contains("Z  "), "a time in UTC: {shown}");
}

#[test]
fn a_terminal_gets_colours_and_how_long_ago_unless_it_wants_no_colours() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.thrum(&["send", "hello", "--to", "bob", "--as", "ann"]).ok();
    let args = ["inbox", "--unread", "--as", "bob"];
    let (code, shown) = repo.on_terminal(80, &args);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("\x1b[") && shown.contains("ago") | shown.contains("just now"), "{shown:?}");
    for (name, value) in [("NO_COLOR", "1"), ("CLICOLOR", "0")] {
        for args in [&args[..], &["team"], &["inbox"], &["help"], &["sned"], &["status", "--as", "bob"]] {
            let mut command = repo.command(args);
            command.env(name, value);
            let (_, shown) = OnTerminal::start(command, 80).end();
            assert!(!shown.contains('\x1b'), "{name} {args:?}: {shown:?}");
        }
    }
    let forced = Ran::from(repo.command(&args).env("CLICOLOR_FORCE", "1").output().unwrap()).ok().stdout;
    assert!(forced.contains("\x1b["), "{forced:?}");
    let (_, json) = repo.on_terminal(80, &["inbox", "--unread", "--as", "bob", "--json"]);
    assert!(!json.contains('\x1b') && json.contains("Z\""), "programs read the same on a terminal: {json:?}");
}

#[test]
fn a_narrow_terminal_gets_lines_that_fit_and_a_pipe_gets_them_whole() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let words = "The login form loses its focus when the session ends. 長い日本語の文章もこの端末の幅に収まるように折り返される。";
    let body = format!("{words}\n    let code = keeps_its_indent(\"and is broken at words\", too);");
    repo.thrum(&["send", &body, "--to", "bob", "--as", "ann"]).ok();
    repo.thrum(&["quickstart", "--name", "ann", "--role", "implementer", "--module", "m-ann", "--intent", words]).ok();
    for columns in [20, 40, 80, 200] {
        for args in [
            &["inbox", "--unread", "--as", "bob"][..],
            &["team", "--all"],
            &["whoami", "--as", "ann"],
            &["status", "--as", "bob"],
            &["prime", "--as", "bob"],
        ] {
            let mut command = repo.command(args);
            command.env("NO_COLOR", "1");
            let (code, shown) = OnTerminal::start(command, columns).end();
            assert_eq!(code, 0, "{shown}");
            // A word that is longer than a line stays whole, so that people can copy it.
            let too_long = |line: &&str| {
                textwrap_width(line) > usize::from(columns) && line.trim_start_matches([' ', '│']).contains(' ')
            };
            let found = shown.lines().filter(|line| line.is_ascii() || !line.contains("repo")).find(too_long);
            assert_eq!(found, None, "{columns} {args:?}:\n{shown}");
        }
    }
    let whole = repo.thrum(&["inbox", "--unread", "--as", "bob"]).ok().stdout;
    assert!(whole.contains(words), "{whole}");
}

/// Width of a line in columns: two for each character of the East Asian scripts used here.
fn textwrap_width(line: &str) -> usize {
    line.chars().map(|c| if ('\u{2e80}'..='\u{ffef}').contains(&c) { 2 } else { 1 }).sum()
}

#[test]
fn foreign_text_controls_no_terminal_in_any_output() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let session = repo.json(&["whoami", "--as", "ann"])["session_id"].clone();
    let mut rpc = repo.connect();
    rpc.call(
        "agent.register",
        &json!({"name": "ann", "role": "implementer", "module": "m-ann", "display": HOSTILE, "worktree": HOSTILE}),
    );
    rpc.call("session.setIntent", &json!({"session_id": session, "intent": HOSTILE}));
    rpc.call("session.setTask", &json!({"session_id": session, "current_task": HOSTILE}));
    let sent = repo.json(&["send", HOSTILE, "--to", "bob", "--as", "ann"]);
    let id = sent["message_id"].as_str().unwrap();
    std::fs::write(repo.path("file\u{1b}[2J\u{202e}"), "").unwrap();
    repo.thrum(&["context", "save", HOSTILE, "--as", "ann"]).ok();
    let commands: [&[&str]; 13] = [
        &["prime", "--as", "ann", "--git-wait", "60s"],
        &["context", "show", "--raw", "--as", "ann"],
        &["config", "set", HOSTILE, HOSTILE],
        &["context", "save", "--file", HOSTILE, "--as", "ann"],
        &["team"],
        &["whoami", "--as", "ann"],
        &["inbox", "--unread", "--as", "bob"],
        &["wait", "--timeout", "1s", "--as", "bob"],
        &["status", "--as", "bob"],
        &["message", "get", id, "--as", "bob"],
        &["reply", HOSTILE, HOSTILE, "--as", "bob"],
        &["send", "hello", "--to", HOSTILE, "--as", "ann"],
        &["team", "--repo", HOSTILE],
    ];
    for args in commands {
        for json in [&[][..], &["--json"]] {
            let args = [args, json].concat();
            let mut command = repo.command(&args);
            command.env("NO_COLOR", "1");
            let (_, shown) = OnTerminal::start(command, 80).end();
            let drives = |c: &char| c.is_control() && *c != '\n' || matches!(c, '\u{202e}' | '\u{2066}' | '\u{61c}');
            assert_eq!(shown.chars().find(drives), None, "{args:?}: {shown:?}");
        }
    }
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_error() {
    let repo = TestRepo::with_agent("repo", "ann");
    for args in
        [&["team"][..], &["team", "--json"], &["help"], &["send", "--help"], &["--version"], &["daemon", "logs"]]
    {
        let mut child = repo.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_full_disk_under_standard_output_is_an_error_in_a_sentence() {
    let repo = TestRepo::with_agent("repo", "ann");
    for args in [&["team"][..], &["team", "--json"], &["help"], &["--version"], &["daemon", "logs"]] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ran = Ran::from(
            repo.command(args).stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap(),
        );
        ran.fails(1, "cannot write to standard output: No space left");
    }
}

#[test]
fn closed_streams_are_survived() {
    let repo = TestRepo::with_agent("repo", "ann");
    let run = |closed: &str, args: &[&str]| {
        let program = repo.command(args);
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(format!("exec \"$0\" \"$@\" {closed}"))
            .arg(program.get_program())
            .args(args)
            .current_dir(repo.root());
        let variables = program.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        Ran::from(shell.env_clear().envs(variables).output().unwrap())
    };
    run("<&- >&- 2>&-", &["team"]).ok();
    run("2>&-", &["message", "get", "msg_none"]).fails(3, "");
    run("<&-", &["send", "-", "--to", "@ann"]).fails(2, "the text is empty");
    run("<&-", &["peer", "join", "127.0.0.1:9"]).fails(2, "code");
}

#[test]
fn json_is_one_compact_line_and_quiet_leaves_the_notes_out() {
    let repo = TestRepo::git("repo");
    let ran = repo.thrum(&["quickstart", "--name", "ann", "--role", "r", "--module", "m", "--json"]).ok();
    assert_eq!((ran.stdout.lines().count(), ran.stderr.as_str()), (1, ""));
    for args in [
        &["team"][..],
        &["status"],
        &["whoami"],
        &["inbox"],
        &["peer", "list"],
        &["sync", "status"],
        &["daemon", "status"],
        &["version"],
    ] {
        repo.json(args);
    }
    repo.thrum(&["daemon", "stop"]).ok();
    assert_eq!(repo.thrum(&["inbox", "--quiet"]).ok().stderr, "");
}

#[test]
fn hints_are_text_for_people_and_data_in_json_and_can_be_switched_off() {
    let repo = TestRepo::git("repo");
    repo.thrum(&["init"]).ok().says("Hint: thrum quickstart");
    assert!(repo.json(&["init"])["hints"][0].as_str().unwrap().starts_with("thrum quickstart"));
    repo.thrum(&["whoami"]).fails(3, "Hint: thrum quickstart");
    let (_, shown) = repo.on_terminal(120, &["init"]);
    assert!(shown.lines().last().unwrap().contains("Hint:"), "the next command comes last: {shown}");

    let unwanted = |args: &[&str]| Ran::from(repo.command(args).env("THRUM_NO_HINTS", "1").output().unwrap());
    assert_eq!(unwanted(&["init"]).ok().stderr, "");
    assert!(unwanted(&["init", "--json"]).ok().json()["hints"].is_null());
    for ran in [unwanted(&["whoami"]), repo.thrum(&["whoami", "--quiet"])] {
        assert_eq!(ran.fails(3, "Error: ").stderr.lines().count(), 1);
    }
    let error: serde_json::Value = serde_json::from_str(&unwanted(&["whoami", "--json"]).fails(3, "").stderr).unwrap();
    assert!(error["error"]["hint"].is_null(), "{error}");
    assert_eq!(
        Ran::from(repo.command(&["init"]).env("THRUM_NO_HINTS", "0").output().unwrap()).ok().stderr.lines().count(),
        1
    );
}

#[test]
fn a_progress_line_appears_on_a_terminal_and_leaves_no_trace() {
    let repo = TestRepo::with_agent("repo", "ann");
    let (shown, was_shown) = mpsc::channel();
    let daemon = instead_of_daemon(&repo, 1, move |_| {
        was_shown.recv().unwrap();
        Some(json!({"jsonrpc": "2.0", "id": 1, "result": {"triggered": false, "results": []}}))
    });
    let mut run = OnTerminal::start(repo.command(&["sync", "force"]), 80);
    run.until("Pulling from peers");
    shown.send(()).unwrap();
    let (code, screen) = run.end();
    daemon.join().unwrap();
    assert_eq!(code, 0, "{screen}");
    let (_, after) = screen.rsplit_once("Pulling from peers").unwrap();
    assert!(
        after.contains("\x1b[2K") && after.trim_end().ends_with("No peers to pull from"),
        "the line is wiped: {after:?}"
    );
}

#[test]
fn errors_hints_and_notes_break_between_words_on_a_terminal() {
    let repo = TestRepo::with_agent("repo", "ann").with_variable("NO_COLOR", "1");
    for args in [
        &["send", "x"][..],
        &["send", "x", "--to", "@nobody-of-that-name"],
        &["init", "--agent-name", "eve"],
        &["send", "x", "--jsn"],
        &["message", "delete", "msg_1", "--structured", "x"],
        &["wait", "--all", "--timeout", "1ms"],
        &["restore", "a-file-with-a-long-name-that-is-not-there.backup", "--yes"],
    ] {
        let plain = repo.thrum(args);
        let (_, shown) = repo.on_terminal(44, args);
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let fits = |line: &str| line.chars().count() <= 44 || !line.trim().contains(' ');
        assert!(shown.lines().all(fits), "{args:?}: {shown}");
        assert_eq!(words(&shown), words(&format!("{}{}", plain.stdout, plain.stderr)), "{args:?}");
    }
}

#[test]
fn findings_of_doctor_wrap_within_their_column() {
    let repo = TestRepo::with_agent("repo", "ann").with_variable("NO_COLOR", "1");
    let (_, shown) = repo.on_terminal(60, &["doctor"]);
    let (_, tailnet) = shown.split_once("tailnet      off; THRUM_TS_ENABLED or").expect("the tailnet is off");
    let next = tailnet.lines().nth(1).unwrap();
    assert!(next.starts_with(&" ".repeat(15)) && next.trim().ends_with("switches it on"), "{shown}");
}
