//! Arguments on the command line: texts that begin with a dash, texts from standard input, and options known only to Go
//! Thrum.

use std::process::Stdio;

use crate::common::{Ran, TestRepo, contents};

fn two_agents() -> TestRepo {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.with_variable("THRUM_NAME", "ann")
}

fn texts_of_bob(repo: &TestRepo) -> Vec<String> {
    let inbox = repo.json(&["inbox", "--as", "bob", "--oldest", "--limit", "100"]);
    contents(&inbox).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_text_that_begins_with_a_dash_is_a_text_for_every_command_that_takes_one() {
    let repo = two_agents();
    let id = repo.json(&["send", "- done: login", "--to", "bob"])["message_id"].as_str().unwrap().to_owned();
    repo.thrum(&["send", "--all green", "--to", "bob"]).ok();
    repo.thrum(&["send", "--to", "bob", "-5 degrees"]).ok();
    repo.thrum(&["send", "--to", "bob", "--", "--json"]).ok();
    repo.thrum(&["reply", &id, "-> again", "--as", "bob"]).ok();
    repo.thrum(&["message", "edit", &id, "- done: login, logout"]).ok();
    assert_eq!(texts_of_bob(&repo), ["- done: login, logout", "--all green", "-5 degrees", "--json"]);
    assert_eq!(repo.json(&["inbox"])["messages"][0]["body"]["content"], "-> again");
    repo.thrum(&["message", "delete", &id, "--reason", "- a mistake", "--force"]).ok();

    repo.thrum(&["session", "set-intent", "- the login"]).ok();
    repo.thrum(&["agent", "set-task", "--- AUTH-17 ---"]).ok();
    assert_eq!(repo.json(&["whoami"])["intent"], "- the login");
    assert_eq!(repo.json(&["session", "list", "--agent", "ann"])["sessions"][0]["current_task"], "--- AUTH-17 ---");
    assert_eq!(repo.json(&["quickstart", "--intent", "- more", "--display", "- Ann"])["intent"], "- more");
    repo.thrum(&["session", "start", "--intent", "--all of it"]).ok();
    repo.thrum(&["context", "save", "- notes"]).ok();
    repo.thrum(&["context", "preamble", "- before"]).ok();
    let kept = repo.json(&["context", "show"]);
    assert_eq!((&kept["content"], &kept["preamble"]), (&"- notes".into(), &"- before".into()));
}

#[test]
fn a_mistyped_option_is_an_error_and_says_how_to_send_it_as_a_text() {
    let repo = two_agents();
    for args in
        [&["send", "x", "--jsn", "--to", "bob"][..], &["send", "--jsn", "--to", "bob"], &["context", "save", "--jsn"]]
    {
        repo.thrum(args).fails(2, "unexpected argument '--jsn'");
    }
    repo.thrum(&["send", "-done", "--to", "bob"]).fails(2, "unexpected argument").says("-- -done");
    repo.thrum(&["session", "start", "--intent", "-done"]).fails(2, "use '--intent=-done'");
    assert_eq!(texts_of_bob(&repo), [""; 0]);
}

#[test]
fn where_no_text_is_given_standard_input_is_read() {
    let repo = two_agents();
    let id = repo.json(&["send", "first", "--to", "bob"])["message_id"].as_str().unwrap().to_owned();
    repo.thrum_with_input(b"piped\n", &["send", "--to", "bob"]).ok();
    repo.thrum_with_input(b"with the flag", &["send", "--stdin", "--to", "bob"]).ok();
    repo.thrum_with_input(b"as a file", &["send", "--body-file", "-", "--to", "bob"]).ok();
    repo.thrum_with_input(b"edited", &["message", "edit", &id]).ok();
    repo.thrum_with_input(b"answer", &["reply", &id, "--as", "bob"]).ok();
    assert_eq!(texts_of_bob(&repo), ["edited", "piped\n", "with the flag", "as a file"]);
    repo.thrum_with_input(b"notes\n", &["context", "save"]).ok();
    repo.thrum_with_input(b"before", &["context", "preamble", "--stdin"]).ok();
    assert_eq!(repo.json(&["context", "show"])["content"], "notes\n");
    repo.thrum_with_input(b"The login\n", &["session", "set-intent"]).ok();
    assert_eq!(repo.json(&["whoami"])["intent"], "The login");

    // An agent's shell often provides an empty standard input.
    for args in [
        &["send", "--to", "bob"][..],
        &["reply", &id],
        &["message", "edit", &id],
        &["context", "save"],
        &["session", "set-task"],
    ] {
        repo.thrum(args).fails(2, "the text is empty");
    }
    let (code, shown) = repo.on_terminal(80, &["send", "--to", "bob"]);
    assert_eq!(code, 2, "{shown}");
    assert!(shown.contains("no text was given") && shown.contains("--body-file FILE"), "{shown}");
}

#[test]
fn a_command_waits_for_text_that_arrives_late() {
    let repo = two_agents();
    let mut command = repo.command(&["send", "--to", "bob"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stderr.take().unwrap()), &mut said).unwrap();
    assert!(said.contains("from standard input"), "{said}");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"late").unwrap();
    Ran::from(child.wait_with_output().unwrap()).ok();
    assert_eq!(texts_of_bob(&repo), ["late"]);
}

#[test]
fn options_of_go_thrum_do_what_they_did_or_name_what_to_use() {
    let repo = two_agents();
    repo.thrum(&["wait", "--all", "--timeout", "50ms"]).fails(1, "--all is ignored: every message for you");
    repo.thrum(&["send", "x", "--to", "bob", "--role", "tester", "--module=y", "--verbose"])
        .ok()
        .says("--role is ignored");
    repo.thrum(&["init", "--force", "--runtime", "claude", "--skills"]).ok().says("--runtime is ignored");
    repo.thrum(&["daemon", "status", "--local"]).ok().says("--local is ignored");
    for (args, instead) in [
        (&["init", "--agent-name", "eve"][..], "thrum quickstart --name"),
        (&["init", "--dry-run"], "thrum doctor"),
        (&["quickstart", "--preamble-file", "x.md"], "thrum context preamble --file FILE"),
        (&["daemon", "start", "--local"], "thrum config set daemon.local_only true"),
        (&["group", "create", "devs"], "--to @ROLE"),
        (&["subscribe", "--all"], "thrum wait"),
        (&["mcp", "serve", "--agent-id", "x"], "--as NAME"),
        (&["agent", "context", "--agent", "bob"], "thrum agent context @NAME"),
        (&["context", "sync"], "thrum send"),
        (&["backup", "restore"], "thrum restore FILE"),
    ] {
        repo.thrum(args).fails(2, "of Go Thrum").fails(2, instead);
        let error: serde_json::Value =
            serde_json::from_str(&repo.thrum(&[args, &["--json"]].concat()).fails(2, "").stderr)
                .expect("one line of JSON");
        assert!(error["error"]["hint"].as_str().unwrap().contains(instead), "{error}");
    }
    assert_eq!(texts_of_bob(&repo).len(), 1);
}

#[test]
fn a_number_alone_is_seconds() {
    let repo = two_agents();
    repo.thrum(&["send", "x", "--to", "bob"]).ok();
    repo.thrum(&["wait", "--timeout", "30", "--as", "bob"]).ok();
    repo.thrum(&["wait", "--timeout", "30", "--after", "-60", "--as", "bob"]).ok();
    repo.thrum(&["wait", "--timeout", "0"]).fails(1, "within 0s");
}
