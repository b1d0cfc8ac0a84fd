//! A repository that an attacker has prepared: git configuration, symbolic links and files.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use crate::common::{TestRepo, go::GoThrum};

/// Creates a program that leaves a mark when it runs. Returns the path of the mark and the program.
fn trap(repo: &TestRepo, name: &str) -> (PathBuf, String) {
    let mark = repo.above().join("marks").join(name);
    fs::create_dir_all(mark.parent().unwrap()).unwrap();
    let program = repo.above().join(format!("trap-{name}"));
    fs::write(&program, format!("#!/bin/sh\ntouch '{}'\nexit 0\n", mark.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (mark, program.display().to_string())
}

fn marks(repo: &TestRepo) -> Vec<String> {
    let entries = fs::read_dir(repo.above().join("marks")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn configure(repo: &TestRepo, dir: &Path, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        repo.git_done(&["-C", dir.to_str().unwrap(), "config", name, value]);
    }
}

/// Runs every command that asks git.
fn every_question(repo: &TestRepo) {
    repo.thrum(&["init"]).ok();
    repo.thrum(&["quickstart", "--name", "ann", "--role", "implementer", "--module", "m"]).ok();
    for args in [
        &["session", "start"][..],
        &["session", "heartbeat"],
        &["prime", "--git-wait", "60s"],
        &["who-has", "file"],
        &["doctor"],
        &["team"],
    ] {
        // The results of these commands do not matter here.
        repo.thrum(args);
    }
    fs::write(repo.path(".env"), "THRUM_TS_AUTHKEY=k\n").unwrap();
    repo.thrum(&["daemon", "restart"]).ok();
}

/// C32: git runs programs that its configuration names. None of them runs because Thrum asks git something.
#[test]
fn c32_no_program_that_a_repository_configures_is_run() {
    let repo = TestRepo::git("repo");
    fs::write(repo.path("file"), "one\n").unwrap();
    let inner = repo.above().join("inner");
    fs::create_dir(&inner).unwrap();
    repo.git_done(&["-C", inner.to_str().unwrap(), "init", "-q"]);
    fs::write(inner.join("file"), "one\n").unwrap();
    repo.git_done(&["-C", inner.to_str().unwrap(), "add", "."]);
    repo.git_done(&["-C", inner.to_str().unwrap(), "commit", "-q", "-m", "one"]);
    repo.git_done(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.to_str().unwrap(), "sub"]);
    repo.git_done(&["add", "."]);
    repo.git_done(&["commit", "-q", "-m", "one"]);
    repo.git_done(&["checkout", "-q", "-b", "work"]);
    fs::write(repo.path("file"), "two\n").unwrap();
    // The commit counts as signed until git asks the program that verifies signatures.
    let signer = repo.above().join("signer");
    fs::write(&signer, "#!/bin/sh\ncat >/dev/null\nprintf '\\n[GNUPG:] SIG_CREATED \\n' >&2\nprintf -- '-----BEGIN PGP SIGNATURE-----\\n\\nx\\n-----END PGP SIGNATURE-----\\n'\n").unwrap();
    fs::set_permissions(&signer, fs::Permissions::from_mode(0o755)).unwrap();
    repo.git_done(&["-c", &format!("gpg.program={}", signer.display()), "commit", "-q", "-S", "-a", "-m", "two"]);
    fs::write(repo.path("file"), "three\n").unwrap();
    fs::write(repo.path("sub/file"), "two\n").unwrap();
    let names = [
        "fsmonitor",
        "hook",
        "pager",
        "ssh",
        "alias",
        "diff",
        "textconv",
        "editor",
        "gpg",
        "askpass",
        "submodule",
        "helper",
    ];
    let traps: Vec<String> = names.iter().map(|name| trap(&repo, name).1).collect();
    let program = |name: &str| traps[names.iter().position(|known| *known == name).unwrap()].as_str();
    let hooks = repo.path(".git/hooks");
    fs::create_dir_all(&hooks).unwrap();
    for hook in [
        "post-checkout",
        "post-index-change",
        "pre-commit",
        "reference-transaction",
        "fsmonitor-watchman",
        "query-watchman",
        "post-rewrite",
    ] {
        fs::copy(program("hook"), hooks.join(hook)).unwrap();
    }
    let shell = |name: &str| format!("!{}", program(name));
    configure(
        &repo,
        repo.root(),
        &[
            ("core.fsmonitor", program("fsmonitor")),
            ("core.hooksPath", hooks.to_str().unwrap()),
            ("core.pager", program("pager")),
            ("pager.status", program("pager")),
            ("pager.log", program("pager")),
            ("pager.diff", program("pager")),
            ("core.sshCommand", program("ssh")),
            ("core.editor", program("editor")),
            ("core.askPass", program("askpass")),
            ("credential.helper", &shell("helper")),
            ("alias.status", &shell("alias")),
            ("alias.log", &shell("alias")),
            ("alias.diff", &shell("alias")),
            ("alias.ls-files", &shell("alias")),
            ("alias.check-ignore", &shell("alias")),
            ("alias.for-each-ref", &shell("alias")),
            ("diff.external", program("diff")),
            ("diff.trap.textconv", program("textconv")),
            ("diff.trap.command", program("diff")),
            ("log.showSignature", "true"),
            ("gpg.program", program("gpg")),
            // A promisor remote, from which git would fetch missing objects over ssh.
            ("remote.origin.url", "ssh://nowhere.invalid/repo"),
            ("remote.origin.promisor", "true"),
            ("extensions.partialClone", "origin"),
        ],
    );
    fs::write(repo.path(".git/info/attributes"), "* diff=trap\n").unwrap();
    // A submodule has its own configuration, which git reads with another git process.
    configure(&repo, &repo.path("sub"), &[("core.fsmonitor", program("submodule"))]);
    // Removes an object of the base branch, which git would fetch for a comparison.
    let blob = repo.git_says(&["rev-parse", "main:file"]);
    fs::remove_file(repo.path(".git/objects").join(&blob[..2]).join(blob[2..].trim())).unwrap();
    every_question(&repo);
    assert_eq!(marks(&repo), Vec::<String>::new());
}

/// C32: when a git hook or tool runs Thrum, its environment may name another repository, or programs.
#[test]
fn c32_gits_environment_is_not_obeyed() {
    let repo = TestRepo::git("repo");
    repo.git_done(&["commit", "-q", "--allow-empty", "-m", "one"]);
    fs::write(repo.path("mine.txt"), "x").unwrap();
    let other = repo.above().join("other");
    fs::create_dir(&other).unwrap();
    repo.git_done(&["-C", other.to_str().unwrap(), "init", "-q"]);
    fs::write(other.join("theirs.txt"), "x").unwrap();
    let (_, program) = trap(&repo, "environment");
    let other_git = other.join(".git").display().to_string();
    let other = other.display().to_string();
    repo.thrum(&["quickstart", "--name", "ann", "--role", "implementer", "--module", "m"]).ok();
    let mut command = repo.command(&["prime", "--git-wait", "60s", "--json"]);
    for (name, value) in [
        ("GIT_DIR", other_git.as_str()),
        ("GIT_WORK_TREE", &other),
        ("GIT_COMMON_DIR", &other_git),
        ("GIT_OBJECT_DIRECTORY", &other_git),
        ("GIT_ALTERNATE_OBJECT_DIRECTORIES", &other_git),
        ("GIT_INDEX_FILE", "/nonexistent/index"),
        ("GIT_NAMESPACE", "theirs"),
        ("GIT_CEILING_DIRECTORIES", "/"),
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "core.fsmonitor"),
        ("GIT_CONFIG_VALUE_0", &program),
        ("GIT_CONFIG_PARAMETERS", "'core.fsmonitor'='true'"),
        ("GIT_EXTERNAL_DIFF", &program),
        ("GIT_PAGER", &program),
        ("GIT_EDITOR", &program),
        ("GIT_SSH_COMMAND", &program),
        ("GIT_ASKPASS", &program),
        ("GIT_EXEC_PATH", "/nonexistent"),
        ("GIT_TRACE", &format!("{other}/trace")),
    ] {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    let prime: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let files = prime["work_context"]["uncommitted_files"].to_string();
    assert!(files.contains("mine.txt") && !files.contains("theirs.txt"), "{prime}");
    assert_eq!(marks(&repo), Vec::<String>::new());
    assert!(!Path::new(&other).join("trace").exists());
}

/// C14: a repository may contain symbolic links in place of the files that Thrum writes.
#[test]
fn c14_no_link_makes_a_command_read_or_write_outside_the_worktree() {
    let outside = |repo: &TestRepo| {
        let dir = repo.above().join("outside");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("ann.json"), r#"{"version":3,"agent":{"name":"ann","role":"boss","module":"m"}}"#).unwrap();
        dir
    };
    let quickstart = ["quickstart", "--name", "ann", "--role", "implementer", "--module", "m"];
    // The directory of identities is a link.
    let repo = TestRepo::git("repo");
    repo.thrum(&["init"]).ok();
    let dir = outside(&repo);
    fs::remove_dir(repo.path(".thrum/identities")).unwrap();
    symlink(&dir, repo.path(".thrum/identities")).unwrap();
    let ran = repo.thrum(&quickstart);
    assert!(ran.code != 0 && ran.stderr.contains("symbolic link"), "{ran:?}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    assert!(fs::read_to_string(dir.join("ann.json")).unwrap().contains("boss"));
    // One identity file is a link.
    let repo = TestRepo::git("repo");
    repo.thrum(&["init"]).ok();
    let dir = outside(&repo);
    symlink(dir.join("ann.json"), repo.path(".thrum/identities/ann.json")).unwrap();
    let ran = repo.thrum(&["whoami"]);
    assert!(ran.code != 0 && !ran.stdout.contains("boss"), "{ran:?}");
    // The target of a backup is a link.
    let repo = TestRepo::git("repo");
    repo.thrum(&["init"]).ok();
    repo.thrum(&quickstart).ok();
    let dir = outside(&repo);
    fs::write(dir.join("precious"), "precious").unwrap();
    symlink(dir.join("precious"), repo.path("there.backup")).unwrap();
    symlink(dir.join("new"), repo.path("new.backup")).unwrap();
    for name in ["there.backup", "new.backup"] {
        let ran = repo.thrum(&["backup", "--to", name]);
        assert!(ran.code != 0, "{ran:?}");
    }
    symlink(&dir, repo.path(".thrum/backup")).unwrap();
    repo.thrum(&["backup"]).fails(4, "symbolic link");
    assert_eq!(fs::read_to_string(dir.join("precious")).unwrap(), "precious");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
    assert!(!dir.join("new").exists());
}

/// C31: `import` without `--git` reads nothing but the database. What it makes of a branch is in `import_git.rs`.
#[test]
fn c31_shards_of_go_thrum_are_never_read() {
    let repo = TestRepo::git("repo");
    repo.thrum(&["init"]).ok();
    let go = GoThrum::recorded(&repo.above().join("old/.thrum"));
    drop(go);
    let event = r#"{"event_id":"evt_evil","type":"message.create","message_id":"msg_evil","agent_id":"a1","timestamp":"2026-01-01T00:00:00Z","body":{"format":"markdown","content":"evil"}}"#;
    let hostile = [
        format!("<<<<<<< HEAD\n{event}\n=======\n{event}\n>>>>>>> theirs\n"),
        event[..event.len() / 2].to_owned(),
        format!("{}\n{event}\n", "x".repeat(200_000)),
        "\u{0}\u{feff}\n[[[[[[".to_owned(),
    ];
    for (n, text) in hostile.iter().enumerate() {
        for place in
            ["old/.thrum/sync", "old/.git/thrum-sync/a-sync/messages", "old/.thrum/var", "repo/.git/thrum-sync/a-sync"]
        {
            let dir = repo.above().join(place);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(format!("events{n}.jsonl")), text).unwrap();
        }
    }
    fs::write(repo.above().join("old/.thrum/var/events.jsonl"), event).unwrap();
    let done = repo.json(&["import", "../old"]);
    assert_eq!(
        (&done["applied"], &done["rejected"]),
        (&18.into(), &0.into()),
        "what the database holds, and nothing else"
    );
    let health = repo.connect().call("health", &serde_json::json!({}));
    assert!(health["events"].as_u64().is_some_and(|events| events < 30), "{health}");
    let all = repo.connect().call("message.list", &serde_json::json!({"page_size": 100}));
    assert!(!all.to_string().contains("msg_evil"), "{all}");
}

/// C40: removing Thrum means stopping the daemon and deleting one directory. This test lists everything else that
/// remains.
#[test]
fn c40_removing_thrum_leaves_nothing_harmful_behind() {
    let repo = TestRepo::git("repo");
    let git = || {
        crate::common::go::files(&repo.path(".git"))
            .into_iter()
            .filter(|(path, _)| !path.ends_with("index"))
            .collect::<Vec<_>>()
    };
    let home = || crate::common::go::files(&repo.above().join("home"));
    fs::write(repo.path("file"), "x").unwrap();
    repo.git_done(&["add", "."]);
    repo.git_done(&["commit", "-q", "-m", "one"]);
    let (git_before, home_before) = (git(), home());
    repo.thrum(&["init", "--stealth"]).ok();
    repo.thrum(&["quickstart", "--name", "ann", "--role", "implementer", "--module", "m"]).ok();
    repo.thrum(&["send", "x", "--to", "ann"]).ok();
    repo.thrum(&["prime"]).ok();
    repo.thrum(&["session", "heartbeat"]).ok();
    let pid = repo.daemon_pid().unwrap();
    repo.thrum(&["daemon", "stop"]).ok();
    // A process that has ended but has not been reaped has an empty command line.
    assert_eq!(fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(), b"", "no process");
    fs::remove_dir_all(repo.path(".thrum")).unwrap();
    // Git keeps one line in a file of this clone only; no configuration, hook, branch, tag or note.
    let exclude = repo.path(".git/info/exclude");
    let text = fs::read_to_string(&exclude).unwrap();
    fs::write(&exclude, text.strip_suffix(".thrum/\n").unwrap()).unwrap();
    assert_eq!(git(), git_before);
    assert_eq!(home(), home_before, "nothing in the user's home, nor in the runtime directory");
    repo.git_done(&["diff", "--exit-code"]);
    // Without --stealth, the line is in `.gitignore` instead.
    repo.thrum(&["init"]).ok();
    repo.thrum(&["daemon", "stop"]);
    fs::remove_dir_all(repo.path(".thrum")).unwrap();
    assert_eq!(fs::read_to_string(repo.path(".gitignore")).unwrap(), ".thrum/\n");
    fs::remove_file(repo.path(".gitignore")).unwrap();
    assert_eq!(git(), git_before);
    assert_eq!(repo.git_says(&["status", "--porcelain"]), "");
}
