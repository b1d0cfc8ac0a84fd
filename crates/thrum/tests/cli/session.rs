use std::fs;

use crate::common::{TestRepo, paired};

#[test]
fn a_session_begins_announces_its_intent_and_ends() {
    let repo = TestRepo::git("repo");
    repo.thrum(&["register", "--name", "ann", "--role", "implementer", "--module", "auth"]).ok();
    repo.thrum(&["session", "set-intent", "early"]).fails(3, "no open session").fails(3, "thrum session start");
    let started = repo.json(&["session", "start", "--intent", "Fix the login"]);
    let me = repo.json(&["whoami"]);
    assert_eq!((&me["session_id"], &me["intent"]), (&started["session_id"], &"Fix the login".into()));
    repo.thrum(&["session", "set-intent", "Fix the logout"]).ok();
    assert_eq!(repo.json(&["session", "set-task", "AUTH-17"])["current_task"], "AUTH-17");
    let member = &repo.json(&["team"])["members"][0];
    assert_eq!(
        (&member["intent"], &member["current_task"], &member["branch"]),
        (&"Fix the logout".into(), &"AUTH-17".into(), &"main".into())
    );
    repo.thrum(&["agent", "set-intent", ""]).ok();
    assert!(repo.json(&["team"])["members"][0].get("intent").is_none());

    let ended = repo.json(&["session", "end", "--reason", "crash"]);
    assert_eq!(ended["session_id"], started["session_id"]);
    repo.thrum(&["session", "end"]).fails(3, "no open session");
    repo.thrum(&["session", "heartbeat", "--session-id", started["session_id"].as_str().unwrap()])
        .fails(4, "has ended");
    let all = repo.json(&["session", "list"]);
    assert_eq!(
        (&all["sessions"][0]["status"], &all["sessions"][0]["end_reason"]),
        (&"ended".into(), &"crash".into()),
        "{all}"
    );
    assert_eq!(repo.json(&["session", "list", "--active"])["sessions"].as_array().unwrap().len(), 0);
    assert!(!fs::read_to_string(repo.path(".thrum/identities/ann.json")).unwrap().contains("session_id"));
}

#[test]
fn a_new_session_replaces_an_abandoned_one() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["session", "start"]).ok();
    let listed = repo.json(&["session", "list", "--agent", "@ann"]);
    let states: Vec<_> = listed["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["status"].as_str(), s["end_reason"].as_str()))
        .collect();
    assert_eq!(states, [(Some("active"), None), (Some("ended"), Some("crash_recovered"))]);
    assert!(repo.thrum(&["session", "list"]).ok().stdout.contains("ended (replaced by a new session)"));
}

#[test]
fn a_heartbeat_reports_the_git_state_for_any_file_names() {
    let repo = TestRepo::git("repo");
    let write = |name: &str, text: &str| {
        fs::create_dir_all(repo.path(name).parent().unwrap()).unwrap();
        fs::write(repo.path(name), text).unwrap();
    };
    for name in ["foo.go", "src/old name.rs", "gone", "staged.rs", "quiet.rs"] {
        // The contents differ, so that git does not take one file for a renamed copy of another.
        write(name, &format!("1\n2\n3 {name}\n4\n{name}\n"));
    }
    write(".gitignore", "target/\n.thrum/\n");
    repo.git_done(&["add", "."]);
    repo.git_done(&["commit", "-q", "-m", "Begin"]);
    repo.git_done(&["checkout", "-q", "-b", "feature/x"]);
    write("committed.rs", "1\n");
    repo.git_done(&["add", "."]);
    repo.git_done(&["commit", "-q", "-m", "Add \"one\" file"]);
    // An ordinary unstaged edit, from whose name Go Thrum cuts the first letter off.
    write("foo.go", "1\n2\nthree\n4\nfoo.go\n6\n");
    write("staged.rs", "1\n2\n3 staged.rs\n4\nstaged.rs\n6\n");
    repo.git_done(&["add", "staged.rs"]);
    repo.git_done(&["mv", "src/old name.rs", "src/new name.rs"]);
    fs::remove_file(repo.path("gone")).unwrap();
    write("dir/日本 x.rs", "new\n");
    write("target/ignored", "x\n");
    repo.agent("ann", "implementer");

    let beat = repo.json(&["session", "heartbeat", "--add-scope", "module:auth"]);
    assert_eq!(
        (&beat["branch"], &beat["unmerged_commits"], &beat["scopes"][0]["value"]),
        (&"feature/x".into(), &1.into(), &"auth".into())
    );
    let context = &repo.json(&["agent", "context"])["contexts"][0];
    let mut files: Vec<_> =
        context["uncommitted_files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    files.sort_unstable();
    assert_eq!(files, ["dir/日本 x.rs", "foo.go", "gone", "src/new name.rs", "src/old name.rs", "staged.rs"]);
    let commit = &context["unmerged_commits"][0];
    assert_eq!((&commit["message"], &commit["files"][0]), (&"Add \"one\" file".into(), &"committed.rs".into()));
    let change = |path: &str| {
        let all = context["file_changes"].as_array().unwrap();
        let found = all.iter().find(|change| change["path"] == path).unwrap_or_else(|| panic!("no {path} in {all:?}"));
        (found["additions"].as_u64().unwrap(), found["deletions"].as_u64().unwrap(), found["status"].as_str().unwrap())
    };
    assert_eq!(change("foo.go"), (2, 1, "modified"));
    assert_eq!(change("committed.rs"), (1, 0, "added"));
    assert_eq!(change("src/new name.rs"), (0, 0, "renamed"));
    assert_eq!(change("gone"), (0, 5, "deleted"));
    assert_eq!(change("dir/日本 x.rs"), (0, 0, "added"));
    assert_eq!(context["worktree_path"], repo.root().to_str().unwrap());
    repo.thrum(&["session", "heartbeat", "--add-ref", "nothing"]).fails(2, "TYPE:VALUE");
}

#[test]
fn without_git_sessions_and_heartbeats_work_and_report_no_branch() {
    let repo = TestRepo::plain("repo");
    repo.agent("ann", "implementer");
    let beat = repo.json(&["session", "heartbeat"]);
    assert_eq!((beat.get("branch"), beat.get("unmerged_commits")), (None, None), "{beat}");
}

#[test]
fn a_hanging_git_delays_no_command_and_the_branch_is_still_reported() {
    let repo = TestRepo::git("repo");
    // A git that never ends, ahead of the real one on the PATH.
    let bin = repo.above().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("git"), "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::process::Command::new("chmod").args(["+x", bin.join("git").to_str().unwrap()]).status().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    repo.agent("ann", "implementer");
    let output = repo.command(&["session", "heartbeat", "--json"]).env("PATH", path).output().unwrap();
    let beat: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(beat["branch"], "main");
}

#[test]
fn a_git_that_does_not_answer_in_time_leaves_the_last_known_files_with_their_time() {
    let mut repo = TestRepo::with_agent("repo", "ann");
    fs::write(repo.path("new.rs"), "x\n").unwrap();
    let known = repo.json(&["session", "heartbeat"]);
    assert_eq!((&known["uncommitted_files"], known.get("git_answered")), (&2.into(), None), "{known}");
    // A git ahead of the real one on the PATH, also for the daemon. It hangs always, or on every question except `git
    // status`.
    let bin = repo.above().join("bin");
    fs::create_dir(&bin).unwrap();
    repo.thrum(&["daemon", "stop"]).ok();
    repo.set_variable("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    repo.thrum(&["daemon", "start"]).ok();
    let hangs = [
        "exec sleep 600",
        "case \"$*\" in *status*) exec /usr/bin/env PATH=\"${PATH#*:}\" git \"$@\";; *) exec sleep 600;; esac",
    ];
    for hang in hangs {
        fs::write(bin.join("git"), format!("#!/bin/sh\n{hang}\n")).unwrap();
        fs::set_permissions(bin.join("git"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::write(repo.path("newer.rs"), "x\n").unwrap();
        let told = repo.json(&["session", "heartbeat"]);
        assert_eq!((&told["branch"], &told["git_answered"]), (&"main".into(), &false.into()), "{told}");
        for name in ["uncommitted_files", "file_changes", "git_updated_at"] {
            assert_eq!(told[name], known[name], "{told}");
        }
        let said = repo.thrum(&["session", "heartbeat"]).ok().stdout;
        assert!(said.contains("git did not answer, so commits and files are those of 20"), "{said}");
        assert_eq!(repo.json(&["who-has", "new.rs"])["agents"][0]["agent_id"], "ann");
    }
}

#[test]
fn a_long_wait_reports_the_callers_work() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let mut watcher = repo.connect();
    let mut waiting = repo.begin(&["wait", "--timeout", "60s", "--as", "ann"]);
    waiting.talk();
    fs::write(repo.path("new.rs"), "x\n").unwrap();
    watcher.call("events.watch", &serde_json::json!({}));
    let update = watcher.notification();
    assert_eq!(update["type"], "agent.update", "{update}");
    assert_eq!(repo.json(&["who-has", "new.rs"])["agents"][0]["agent_id"], "ann");
    repo.thrum(&["send", "enough", "--to", "@ann", "--as", "bob"]).ok();
    waiting.end().ok();
}

#[test]
fn every_call_of_an_agent_is_a_sign_of_life() {
    let repo = TestRepo::with_agent("repo", "ann");
    let seen = || repo.json(&["team"])["members"][0]["last_seen"].as_str().unwrap().to_owned();
    let (before, events) = (seen(), repo.json(&["status"])["health"]["events"].clone());
    repo.thrum(&["inbox"]).ok();
    let after = seen();
    assert!(after > before, "{before} {after}");
    assert_eq!(repo.json(&["status"])["health"]["events"], events, "and is no event");
    let waiting = repo.begin(&["wait", "--timeout", "60s"]);
    let then = seen();
    repo.thrum(&["send", "x", "--to", "@ann"]).ok();
    assert!(then > after);
    waiting.kill();
}

#[test]
fn intent_and_task_of_a_session_reach_other_machines() {
    let (left, right) = paired();
    left.thrum(&["session", "set-task", "AUTH-17"]).ok();
    left.thrum(&["sync", "verify"]).ok();
    let team = right.json(&["team"]);
    let ann = team["members"].as_array().unwrap().iter().find(|member| member["agent_id"] == "ann").unwrap();
    assert_eq!(
        (&ann["current_task"], &ann["branch"], &ann["local"]),
        (&"AUTH-17".into(), &"main".into(), &false.into()),
        "{ann}"
    );
    let session = ann["session_id"].as_str().unwrap();
    right.thrum(&["session", "end", "--session-id", session]).fails(4, "another machine");
}

#[test]
fn a_list_of_sessions_has_the_requested_length_and_reports_more() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.json(&["session", "start"]);
    let newest = repo.json(&["session", "start"]);
    let listed = repo.json(&["session", "list", "--limit", "1"]);
    let ids: Vec<_> = listed["sessions"].as_array().unwrap().iter().map(|session| &session["session_id"]).collect();
    assert_eq!((ids, &listed["more"]), (vec![&newest["session_id"]], &true.into()));
    assert!(repo.thrum(&["session", "list", "--limit", "2"]).ok().stdout.contains("older ones"));
    assert!(repo.json(&["session", "list", "--limit", "3"])["more"].is_null());
    repo.thrum(&["session", "list", "--limit", "0"]).fails(2, "--limit");
}

#[test]
fn without_an_answer_of_git_commits_and_files_are_unknown_and_not_empty() {
    let repo = TestRepo::git("repo");
    let run =
        |args: &[&str]| -> crate::common::Ran { repo.command(args).env("PATH", "/nowhere").output().unwrap().into() };
    run(&["quickstart", "--name", "ann", "--role", "implementer", "--module", "m"]).ok();
    let said = run(&["session", "heartbeat"]).ok().stdout;
    assert!(
        said.contains("main, commits and files unknown: git did not answer") && !said.contains("0 unmerged"),
        "{said}"
    );
    let told = run(&["session", "heartbeat", "--json"]).ok().json();
    assert_eq!((&told["branch"], &told["unmerged_commits"]), (&"main".into(), &serde_json::Value::Null), "{told}");
    assert!(repo.thrum(&["session", "heartbeat"]).ok().stdout.contains("main, 0 unmerged commits"));
}
