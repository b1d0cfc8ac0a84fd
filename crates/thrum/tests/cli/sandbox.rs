//! What a command says in the sandbox of a coding agent: the system forbids calls, and gives no reason.

use std::process::Command;

use crate::{
    common::{Ran, TestRepo},
    disk::strace::possible,
};

/// Runs the program while these calls fail with `EPERM`, as they do under a system call filter.
fn forbidden(repo: &TestRepo, calls: &str, variable: Option<&str>, args: &[&str]) -> Ran {
    let mut strace = Command::new("strace");
    repo.in_surroundings(&mut strace).args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={calls}"));
    strace.args(["-e", &format!("inject={calls}:error=EPERM")]).arg(env!("CARGO_BIN_EXE_thrum")).args(args);
    strace.envs(variable.map(|name| (name, "1"))).output().unwrap().into()
}

#[test]
fn a_socket_that_is_forbidden_is_explained_by_the_sandbox_with_the_way_out() {
    if !possible() {
        return;
    }
    let repo = TestRepo::with_agent("repo", "ann");
    for (variable, named, way_out) in [
        (Some("CODEX_SANDBOX_NETWORK_DISABLED"), "Codex's sandbox", "prefix_rule(pattern=[\"thrum\"], decision=\"allow\")"),
        (Some("SANDBOX_RUNTIME"), "Claude Code's sandbox", "sandbox.excludedCommands"),
        (None, "seccomp", "outside the sandbox"),
    ] {
        for command in [&["inbox"][..], &["wait", "--timeout", "1ms"], &["team"]] {
            forbidden(&repo, "connect", variable, command).fails(4, "Operation not permitted").fails(4, named).fails(4, way_out);
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
    // A first command in a fresh repository writes there.
    let fresh = TestRepo::git("fresh");
    let args = ["quickstart", "--name", "ann", "--role", "r", "--module", "m"];
    forbidden(&fresh, "mkdir,mkdirat", Some("SANDBOX_RUNTIME"), &args).fails(4, "Claude Code's sandbox");
}
