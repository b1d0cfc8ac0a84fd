//! Names the sandbox that a command runs in, if the system forbids something that every command needs: a Unix socket, a
//! process, a file in `.thrum`.
//!
//! Coding agents run commands in sandboxes that answer `EPERM`, `EACCES` or "read-only file system" without a reason,
//! and an agent takes this for a defect of the command. Codex, Claude Code, Gemini CLI and Qwen Code set a variable; a
//! system call filter is visible in `/proc`. Landlock, AppArmor and SELinux leave no trace, so `EPERM` is then
//! explained without a name.

use std::{env, fs, io};

/// A sandbox, as far as it can be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sandbox {
    Codex,
    Claude,
    /// The sandbox of Gemini CLI or Qwen Code: a container, or Apple's sandbox.
    Named,
    /// An unidentified system call filter.
    Filter,
    None,
}

/// Returns advice about a system error that a sandbox may have caused, in one or two sentences that name the sandbox if
/// it is known. `None` if the error is of another kind, or has a more likely cause.
pub fn hint(error: &io::Error) -> Option<String> {
    let filter = || {
        fs::read_to_string("/proc/self/status")
            .is_ok_and(|status| status.lines().any(|line| line.trim_end() == "Seccomp:\t2"))
    };
    explain(error, find(|name| env::var_os(name).is_some(), filter))
}

fn find(is_set: impl Fn(&str) -> bool, filter: impl Fn() -> bool) -> Sandbox {
    if ["CODEX_SANDBOX", "CODEX_SANDBOX_NETWORK_DISABLED"].into_iter().any(&is_set) {
        Sandbox::Codex
    } else if is_set("SANDBOX_RUNTIME") {
        Sandbox::Claude
    } else if is_set("SANDBOX") {
        Sandbox::Named
    } else if filter() {
        Sandbox::Filter
    } else {
        Sandbox::None
    }
}

fn explain(error: &io::Error, sandbox: Sandbox) -> Option<String> {
    let forbidden = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
    let is_eperm = error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error());
    Some(
        match sandbox {
            _ if !forbidden => return None,
            Sandbox::Codex => {
                "This command runs in Codex's sandbox, which forbids it. Let Codex run thrum outside: put prefix_rule(pattern=[\"thrum\"], \
                 decision=\"allow\") into .codex/rules/thrum.rules, and use `thrum …` alone, not in a pipe."
            }
            Sandbox::Claude => {
                "This command runs in Claude Code's sandbox, which forbids it. Let thrum run outside: add \"thrum\" to \
                 sandbox.excludedCommands in .claude/settings.json, or ask for this command to be run without the sandbox."
            }
            Sandbox::Named => {
                "This command runs in a sandbox, as the variable SANDBOX says, which forbids it. Run thrum outside, or let the sandbox \
                 use Unix sockets and write to .thrum."
            }
            // `EACCES` may come from ordinary permissions, even in a container that filters other calls.
            Sandbox::Filter if is_eperm => {
                "This process has a system call filter (seccomp), as in a sandbox, which forbids it. Run thrum outside the sandbox, or \
                 let it use Unix sockets and write to .thrum."
            }
            _ if is_eperm => {
                "The system forbids it to this process, as a sandbox does (seccomp, Landlock, AppArmor, SELinux). Run thrum outside the \
                 sandbox, or let it use Unix sockets and write to .thrum."
            }
            Sandbox::Filter | Sandbox::None => return None,
        }
        .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn the_sandbox_is_detected_by_its_variable_or_its_system_call_filter() {
        let of = |set: &'static str, filter: bool| find(|name| name == set, || filter);
        assert_eq!(of("CODEX_SANDBOX_NETWORK_DISABLED", true), Sandbox::Codex);
        assert_eq!(of("SANDBOX_RUNTIME", true), Sandbox::Claude);
        assert_eq!(
            (of("SANDBOX", false), of("", true), of("", false)),
            (Sandbox::Named, Sandbox::Filter, Sandbox::None)
        );
    }

    #[test]
    fn only_errors_that_a_sandbox_causes_mention_it() {
        let said = |errno: Errno, sandbox| explain(&errno.into(), sandbox);
        for errno in [Errno::PERM, Errno::ACCESS, Errno::ROFS] {
            assert!(said(errno, Sandbox::Codex).unwrap().contains("Codex"), "{errno:?}");
            assert_eq!(
                said(errno, Sandbox::None).is_some(),
                errno == Errno::PERM,
                "ordinary permissions have their own hint"
            );
            assert_eq!(said(errno, Sandbox::Filter).is_some(), errno == Errno::PERM);
        }
        assert_eq!(said(Errno::NOENT, Sandbox::Codex), None);
    }
}
