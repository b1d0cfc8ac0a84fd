//! `thrum doctor agents` runs hooks and servers exactly as they are configured, and changes nothing.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::common::{AGENT_PROGRAMS, Ran, TestRepo};

/// A repository of the agent `bob`. Its PATH contains only `thrum`, git, `sh` and `cat`.
fn with_own_path() -> TestRepo {
    let repo = TestRepo::git("repo");
    let bin = repo.above().join("bin");
    fs::create_dir(&bin).unwrap();
    symlink(env!("CARGO_BIN_EXE_thrum"), bin.join("thrum")).unwrap();
    for name in ["git", "sh", "cat"] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|dir| dir.join(name))
            .find(|path| path.is_file());
        symlink(found.unwrap(), bin.join(name)).unwrap();
    }
    let repo = repo.with_variable("PATH", bin.as_os_str());
    repo.agent("bob", "implementer");
    repo
}

/// Installs a program on the PATH whose body is this shell script.
fn install(repo: &TestRepo, name: &str, script: &str) {
    let path = repo.above().join("bin").join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn examined(repo: &TestRepo, args: &[&str]) -> Value {
    let ran = repo.thrum(&[&["doctor", "agents", "--json"], args].concat());
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"))
}

/// Returns verdict and evidence of a program's checks whose name begins with `name`; several hooks may share a name.
fn checks(found: &Value, runtime: &str, name: &str) -> Vec<(String, String)> {
    let runtimes = found["runtimes"].as_array().unwrap();
    let of = runtimes.iter().find(|it| it["runtime"] == runtime).unwrap_or_else(|| panic!("no {runtime} in {found}"));
    let named =
        of["checks"].as_array().unwrap().iter().filter(|check| check["name"].as_str().unwrap().starts_with(name));
    named.map(|check| ["verdict", "evidence"].map(|key| check[key].as_str().unwrap().to_owned()).into()).collect()
}

/// Returns `true` for a check that is ok, or only slow, as on a busy machine.
fn is_well((verdict, evidence): &(String, String)) -> bool {
    verdict == "ok" || (verdict == "warning" && evidence.starts_with("answers, but takes"))
}

#[test]
fn every_configured_program_is_probed_without_changing_anything() {
    let repo = with_own_path();
    repo.agent("ann", "implementer");
    fs::remove_file(repo.path(".thrum/identities/ann.json")).unwrap();
    repo.thrum(&["send", "for bob", "--to", "@bob", "--as", "ann"]).ok();
    repo.thrum(&[&["setup"], AGENT_PROGRAMS.as_slice()].concat()).ok();
    let session = |repo: &TestRepo| repo.json(&["whoami"])["session_id"].clone();
    let before = (session(&repo), repo.json(&["inbox", "--unread"])["total"].clone());
    let found = examined(&repo, &AGENT_PROGRAMS);
    for runtime in AGENT_PROGRAMS {
        let hooks = checks(&found, runtime, "hook");
        assert!(hooks.len() >= 3 && hooks.iter().all(is_well), "{runtime}: {hooks:?}");
        let (verdict, said) = checks(&found, runtime, "mcp").remove(0);
        assert!(verdict == "ok" && said.contains("8 tools"), "{runtime}: {said}");
        assert_eq!(checks(&found, runtime, "settings")[0].0, "ok");
        assert_eq!(checks(&found, runtime, "sessions")[0].0, "skipped", "a try is no session");
    }
    assert_eq!(checks(&found, "claude", "hook").len(), 6, "the waiter stands at two events and is tried once");
    assert_eq!(
        (&found["problems"], &found["runtimes"][0]["wakes"], &found["runtimes"][1]["wakes"]),
        (&0.into(), &true.into(), &false.into())
    );
    let wakes = |words: &str| {
        let shown = repo.thrum(&["doctor", "agents", "codex"]).ok().stdout;
        assert!(shown.lines().any(|line| line.starts_with("· wakes") && line.contains(words)), "{shown}");
    };
    wakes("no: mail comes with the next prompt, or keeps a turn from ending; to change that: thrum setup codex --wake");
    repo.thrum(&["config", "set", "codex.wake", "true"]).ok();
    assert_eq!(examined(&repo, &["codex"])["runtimes"][0]["wakes"], true, "its user wants that");
    wakes("yes, on a terminal, as `codex.wake` is set");
    assert_eq!((session(&repo), repo.json(&["inbox", "--unread"])["total"].clone()), before);
    assert!(!repo.path(".thrum/var/hooks").exists(), "nothing is remembered of it");
    let mail = repo
        .thrum_with_input(b"{\"session_id\":\"s1\",\"prompt\":\"go\"}", &["hook", "prompt", "--host", "claude"])
        .ok();
    assert!(mail.stdout.contains("for bob"), "it is still to be told: {mail:?}");
    let (verdict, said) = checks(&examined(&repo, &["claude"]), "claude", "sessions").remove(0);
    assert!(verdict == "ok" && said.starts_with("1 session open"), "{said}");
}

#[test]
fn steps_that_are_proven_done_are_not_listed_as_open() {
    let repo = with_own_path();
    install(&repo, "claude", "echo 'Status: Pending approval 1.0'");
    install(&repo, "codex", "echo 1.2.3");
    install(&repo, "gemini", "echo 1.2.3");
    repo.thrum(&["setup", "claude", "codex", "gemini"]).ok();
    let left = || {
        let found = examined(&repo, &["claude", "codex", "gemini"]);
        [0, 1, 2].map(|number| found["runtimes"][number]["left"].as_array().unwrap().len())
    };
    assert_eq!(left(), [1, 1, 1], "neither an approval nor a hook that ran is known");
    assert_eq!(repo.thrum(&["doctor", "agents"]).ok().stdout.matches("· by hand").count(), 3);
    install(&repo, "claude", "echo 'Status: Connected 1.0'");
    assert_eq!(left(), [1, 1, 1], "in its first session it asks for the server");
    for (host, payload) in [
        ("codex", "{\"session_id\":\"s1\",\"prompt\":\"go\"}"),
        ("claude", "{\"session_id\":\"s2\",\"prompt\":\"go\"}"),
    ] {
        repo.thrum_with_input(payload.as_bytes(), &["hook", "prompt", "--host", host]).ok();
    }
    assert_eq!(left(), [0, 0, 1]);
    assert_eq!(repo.thrum(&["doctor", "agents"]).ok().stdout.matches("· by hand").count(), 1);
}

#[test]
fn a_broken_settings_file_is_reported_with_its_error() {
    let repo = with_own_path();
    install(&repo, "claude", "echo 1.2.3");
    let settings = repo.path(".claude/settings.json");
    fs::create_dir(settings.parent().unwrap()).unwrap();
    fs::write(&settings, "{ \"model\": }").unwrap();
    // Before the first `setup`, a broken file is the user's own and only a warning; `setup` refuses to write it.
    assert_eq!(checks(&examined(&repo, &[]), "claude", "settings")[0].0, "warning");
    repo.thrum(&["setup", "claude"]).fails(1, "");
    let found = examined(&repo, &[]);
    let (verdict, said) = checks(&found, "claude", "settings").remove(0);
    assert!(verdict == "problem" && said.starts_with(".claude/settings.json: it is no JSON object"), "{said}");
    let shown = repo.thrum(&["doctor", "agents"]).fails(1, "").stdout;
    assert!(
        shown.contains("try: repair .claude/settings.json, then: thrum setup claude")
            && !shown.contains("not set up here"),
        "{shown}"
    );
    fs::write(&settings, "{ \"model\": 1 }").unwrap();
    repo.thrum(&["setup", "claude"]).ok();
    assert_eq!(checks(&examined(&repo, &[]), "claude", "settings")[0].0, "ok");
    // A file that broke after `setup` is a problem, too.
    fs::write(&settings, fs::read_to_string(&settings).unwrap().replacen('{', "", 1)).unwrap();
    assert_eq!(
        (examined(&repo, &[])["runtimes"][0]["set_up"].as_str(), examined(&repo, &[])["problems"].as_u64()),
        (Some("partly"), Some(1))
    );
}

/// Codex silently skips hooks that the user has not reviewed.
#[test]
fn hooks_that_are_not_known_to_have_run_here_are_a_warning() {
    let repo = with_own_path();
    install(&repo, "codex", "echo 1.2.3");
    repo.thrum(&["setup", "codex"]).ok();
    let shown = repo.thrum(&["doctor", "agents", "codex"]).ok().stdout;
    let expected = "! sessions     no hook of Codex is known to have run here: it may skip them\n               try: run codex here once, and approve";
    assert!(shown.contains(expected) && shown.contains("No problem, 1 warning"), "{shown}");
    repo.thrum_with_input(b"{\"session_id\":\"s1\",\"prompt\":\"go\"}", &["hook", "prompt", "--host", "codex"]).ok();
    assert_eq!(checks(&examined(&repo, &["codex"]), "codex", "sessions")[0].0, "ok");
    // Codex asks for a new review of hooks that have changed.
    let file = fs::File::options().append(true).open(repo.path(".codex/hooks.json")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
    let (verdict, said) = checks(&examined(&repo, &["codex"]), "codex", "sessions").remove(0);
    assert_eq!(
        (&verdict[..], &said[..]),
        ("warning", "its hooks were changed since one last ran: Codex may skip them")
    );
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    assert_eq!(checks(&examined(&repo, &["codex"]), "codex", "sessions")[0].0, "ok");
}

#[test]
fn sessions_are_those_of_this_worktree_that_are_open() {
    let repo = with_own_path();
    repo.git_done(&["commit", "-q", "--allow-empty", "-m", "first"]);
    repo.git_done(&["worktree", "add", "-q", "-b", "feature", "../feature"]);
    let there = repo.above().join("feature");
    let in_feature = |args: &[&str]| Ran::from(repo.command(args).current_dir(&there).output().unwrap()).ok();
    in_feature(&["quickstart", "--name", "fay", "--role", "implementer", "--module", "x"]);
    in_feature(&["setup", "claude"]);
    repo.thrum(&["setup", "claude"]).ok();
    repo.thrum_with_input(b"{\"session_id\":\"s1\",\"prompt\":\"go\"}", &["hook", "prompt", "--host", "claude"]).ok();
    let found = in_feature(&["doctor", "agents", "claude", "--json"]).json();
    assert_eq!(
        (&checks(&found, "claude", "sessions")[0].0[..], &found["runtimes"][0]["sessions"]),
        ("skipped", &0.into()),
        "{found}"
    );
    assert_eq!(examined(&repo, &["claude"])["runtimes"][0]["sessions"], 1);
    repo.thrum_with_input(b"{\"session_id\":\"s1\",\"reason\":\"other\"}", &["hook", "end", "--host", "claude"]).ok();
    let found = examined(&repo, &["claude"]);
    let (verdict, said) = checks(&found, "claude", "sessions").remove(0);
    assert!(verdict == "ok" && said.starts_with("no session is open; the last hook ran "), "{said}");
    assert_eq!(found["runtimes"][0]["sessions"], 0);
}

/// Claude Code 2.1.332 runs the session end hook after `claude mcp get` in a trusted folder.
#[test]
fn hooks_that_a_program_runs_because_it_is_asked_change_nothing() {
    let repo = with_own_path();
    let ends = r#"{"session_id":"fresh","hook_event_name":"SessionEnd","reason":"other"}"#;
    let starts = r#"{"session_id":"fresh","hook_event_name":"SessionStart","source":"startup"}"#;
    let run =
        |event: &str, payload: &str| format!("echo '{payload}' | thrum hook {event} --host claude >> {}", "$0.said");
    install(&repo, "claude", &format!("{}; {}; echo 'Status: Connected 1.0'", run("start", starts), run("end", ends)));
    repo.thrum(&["setup", "claude"]).ok();
    repo.thrum(&["claim", "src/login.rs"]).ok();
    let before =
        (repo.json(&["whoami"])["session_id"].clone(), repo.json(&["who-has", "src/login.rs"])["claims"].clone());
    assert!(before.0.is_string() && before.1[0].is_object(), "{before:?}");
    assert_eq!(checks(&examined(&repo, &["claude"]), "claude", "loaded")[0].0, "ok");
    let said = fs::read_to_string(repo.above().join("bin/claude.said")).unwrap();
    assert!(said.contains("You are @bob"), "its hooks have run: {said}");
    let after =
        (repo.json(&["whoami"])["session_id"].clone(), repo.json(&["who-has", "src/login.rs"])["claims"].clone());
    assert_eq!(after, before);
    assert!(!repo.path(".thrum/var/hooks").exists(), "nothing is remembered of it");
}

#[test]
fn answers_that_a_program_would_reject_or_has_not_loaded_are_reported() {
    let repo = with_own_path();
    install(
        &repo,
        "claude",
        "case $1 in --version) echo '9.8.7 (Claude Code)';; *) echo '  Status: Pending approval';; esac",
    );
    install(&repo, "codex", "case $1 in --version) echo 'codex-cli 1.2.3';; *) exit 1;; esac");
    install(&repo, "qwen", "");
    repo.thrum(&["setup", "claude", "codex"]).ok();
    let found = examined(&repo, &[]);
    assert_eq!(found["runtimes"].as_array().unwrap().len(), 3, "{found}");
    assert_eq!(
        (&found["runtimes"][0]["version"], &found["runtimes"][1]["version"]),
        (&"9.8.7".into(), &"1.2.3".into())
    );
    let (verdict, said) = checks(&found, "claude", "loaded").remove(0);
    assert!(verdict == "warning" && said.ends_with("claude mcp get thrum: Status: Pending approval"), "{said}");
    let (verdict, said) = checks(&found, "codex", "loaded").remove(0);
    assert!(verdict == "warning" && said.contains("does not know the server"), "{said}");
    assert_eq!(
        (checks(&found, "qwen", "settings")[0].0.as_str(), checks(&found, "qwen", "hook").len()),
        ("skipped", 0)
    );
    assert_eq!(found["problems"], 0);
    let named = repo.thrum(&["doctor", "agents", "qwen"]).fails(1, "");
    assert!(named.stdout.contains("not set up here") && named.stdout.contains("thrum setup qwen"), "{named:?}");

    // The user may edit the files: here a hook also runs another command, and another program is configured as the
    // server.
    let settings = repo.path(".codex/hooks.json");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(
        &settings,
        text.replace("thrum hook stop --host codex", "thrum hook stop --host codex; echo more; exit 7"),
    )
    .unwrap();
    fs::write(repo.path(".mcp.json"), r#"{"mcpServers":{"thrum":{"command":"sh","args":["-c","cat >/dev/null"]}}}"#)
        .unwrap();
    let found = examined(&repo, &["claude", "codex"]);
    let (verdict, said) = checks(&found, "codex", "hook stop").remove(0);
    assert!(verdict == "problem" && said.contains("echo more; exit 7 in .codex/hooks.json"), "{said}");
    assert_eq!(checks(&found, "codex", "settings")[0].0, "ok", "setup would leave it as it is");
    let (verdict, said) = checks(&found, "claude", "mcp").remove(0);
    assert!(verdict == "problem" && said.contains("(sh -c cat >/dev/null in .mcp.json)"), "{said}");
    fs::write(repo.path(".mcp.json"), r#"{"mcpServers":{"thrum":{"command":"thrum","args":["mcp","serve"]}}}"#)
        .unwrap();
    fs::remove_file(repo.above().join("bin/thrum")).unwrap();
    let found = examined(&repo, &["claude"]);
    let (verdict, said) = checks(&found, "claude", "hook stop").remove(0);
    assert!(verdict == "problem" && said.contains("127"), "{said}");
    assert!(checks(&found, "claude", "mcp")[0].1.contains("not on the PATH"), "{found}");
}

#[test]
fn a_missing_daemon_or_agent_is_reported_once_and_dependent_checks_are_skipped() {
    let repo = with_own_path();
    repo.thrum(&["setup", "claude", "gemini"]).ok();
    repo.thrum(&["daemon", "stop"]).ok();
    let found = examined(&repo, &["claude", "gemini"]);
    for runtime in ["claude", "gemini"] {
        for (verdict, said) in checks(&found, runtime, "hook") {
            assert!(verdict == "skipped" && said.starts_with("it runs"), "{runtime}: {said}");
        }
        assert_eq!(checks(&found, runtime, "mcp")[0].0, "ok", "it waits for a call");
    }
    assert!(repo.daemon_pid().is_none(), "none is started for it");
    assert_eq!((&found["problems"], &found["checks"][1]["fix"]), (&1.into(), &"thrum daemon start".into()), "{found}");
    let shown = repo.thrum(&["doctor", "agents", "claude"]).fails(1, "").stdout;
    assert!(shown.contains("✗ daemon") && shown.contains("try: thrum daemon start"), "{shown}");
    // A hook that is broken for another reason is still reported.
    let thrum = repo.above().join("bin/thrum");
    fs::rename(&thrum, repo.above().join("elsewhere")).unwrap();
    assert!(checks(&examined(&repo, &["claude"]), "claude", "hook stop")[0].1.contains("it ended with 127"));
    fs::rename(repo.above().join("elsewhere"), &thrum).unwrap();
    repo.thrum(&["daemon", "start"]).ok();
    fs::remove_file(repo.path(".thrum/identities/bob.json")).unwrap();
    let found = examined(&repo, &["claude"]);
    assert_eq!(found["checks"][0]["verdict"], "warning", "{found}");
    assert_eq!(checks(&found, "claude", "hook start")[0].0, "skipped", "{found}");
}

#[test]
fn a_program_that_has_the_plugin_needs_no_set_up() {
    let repo = with_own_path();
    let plugins = r#"[{"id": "thrum@thrum", "enabled": true}]"#;
    install(
        &repo,
        "claude",
        &format!("case $1 in --version) echo 9.8.7;; plugin) echo '{plugins}';; *) exit 1;; esac"),
    );
    let ran = repo.thrum(&["doctor", "agents", "claude", "--json"]).ok();
    let found = ran.json();
    assert_eq!((&found["runtimes"][0]["set_up"], &found["problems"]), (&"plugin".into(), &0.into()), "{found}");
    install(&repo, "claude", "case $1 in --version) echo 9.8.7;; *) exit 1;; esac");
    repo.thrum(&["doctor", "agents", "claude"]).fails(1, "");
}
