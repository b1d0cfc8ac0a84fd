//! Error messages in the sandbox of a coding agent, where the system forbids calls without giving a reason.

use std::process::Command;

use crate::{
    common::{Ran, TestRepo, skip},
    disk::strace::possible,
};

/// Runs the program while these system calls fail with `EPERM`, as under a system call filter.
fn forbidden(repo: &TestRepo, calls: &str, variable: Option<&str>, args: &[&str]) -> Ran {
    let mut strace = Command::new("strace");
    repo.in_surroundings(&mut strace).args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={calls}"));
    strace.args(["-e", &format!("inject={calls}:error=EPERM")]).arg(env!("CARGO_BIN_EXE_thrum")).args(args);
    strace.envs(variable.map(|name| (name, "1"))).output().unwrap().into()
}

#[test]
fn a_forbidden_socket_is_explained_by_the_sandbox_with_a_hint() {
    if !possible() {
        return;
    }
    let repo = TestRepo::with_agent("repo", "ann");
    for (variable, named, way_out) in [
        (
            Some("CODEX_SANDBOX_NETWORK_DISABLED"),
            "Codex's sandbox",
            "prefix_rule(pattern=[\"thrum\"], decision=\"allow\")",
        ),
        (Some("SANDBOX_RUNTIME"), "Claude Code's sandbox", "sandbox.excludedCommands"),
        (None, "seccomp", "outside the sandbox"),
    ] {
        for command in [&["inbox"][..], &["wait", "--timeout", "1ms"], &["team"]] {
            forbidden(&repo, "connect", variable, command)
                .fails(4, "Operation not permitted")
                .fails(4, named)
                .fails(4, way_out);
        }
        let prime = forbidden(&repo, "connect", variable, &["prime"]).ok().stdout;
        assert!(prime.contains(named) && prime.contains(way_out), "{prime}");
    }
}

#[test]
fn a_first_command_that_may_not_start_the_daemon_names_the_sandbox() {
    if !possible() {
        return;
    }
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    for calls in ["bind", "vfork,clone3,clone"] {
        let ran = forbidden(&repo, calls, Some("CODEX_SANDBOX"), &["inbox"]);
        assert!(ran.code != 0 && ran.stderr.contains("Codex's sandbox"), "{calls}: {}", ran.stderr);
    }
    // The first command in a fresh repository writes there.
    let fresh = TestRepo::git("fresh");
    let args = ["quickstart", "--name", "ann", "--role", "r", "--module", "m"];
    forbidden(&fresh, "mkdir,mkdirat", Some("SANDBOX_RUNTIME"), &args).fails(4, "Claude Code's sandbox");
}

#[test]
fn a_sandbox_that_cannot_start_a_daemon_keeps_the_running_one() {
    if !possible() {
        return;
    }
    let repo = TestRepo::with_agent("repo", "ann");
    for calls in ["socket", "connect", "bind"] {
        forbidden(&repo, calls, Some("CODEX_SANDBOX"), &["daemon", "restart"]).fails(4, "Codex's sandbox");
        repo.thrum(&["inbox", "--no-start"]).ok();
    }
    // `doctor` proposes the way out of the sandbox, not to restart the daemon.
    let found = forbidden(&repo, "connect", Some("CODEX_SANDBOX"), &["doctor"]);
    assert!(found.stdout.contains("Codex's sandbox") && !found.stdout.contains("daemon restart"), "{}", found.stdout);
}

#[test]
fn a_daemon_without_network_access_is_reported() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    let mut alone = Command::new("unshare");
    repo.in_surroundings(&mut alone).args(["--net", env!("CARGO_BIN_EXE_thrum"), "inbox"]);
    // Only root can create a network namespace.
    match alone.output().map(Ran::from) {
        Err(error) => return skip("a daemon without a network", &format!("unshare: {error}")),
        Ok(ran) if ran.stderr.starts_with("unshare: ") => return skip("a daemon without a network", &ran.stderr),
        Ok(ran) => _ = ran.ok(),
    }
    let found = repo.thrum(&["doctor"]).ok().stdout;
    assert!(
        found.contains("! listening    the daemon has another network") && found.contains("outside the sandbox"),
        "{found}"
    );
    repo.thrum(&["daemon", "restart"]).ok();
    assert!(repo.thrum(&["doctor"]).ok().stdout.contains("✓ listening"));
}
