//! The little we ask of git.
//!
//! What agents run daily waits for no git: the branch is read from a file, and `prime` looks beside its other work, for a
//! moment ([`changes`]). Setting up, and saying what one works on ([`collect`]), do wait, a bounded time, and go on without.

pub(crate) mod changes;
mod status;
mod work;

use std::{fs, path::Path, time::Duration};

use thrum_daemon::git as run;
pub(crate) use work::{Collected, collect};

/// How long setting up waits for git to say what it ignores.
const SETTING_UP: Duration = Duration::from_secs(5);

/// The branch that is checked out in the worktree at `top`. `None` outside git and on a detached head.
pub(crate) fn branch(top: &Path) -> Option<String> {
    let dot_git = top.join(".git");
    let git_dir = match fs::read_to_string(&dot_git) {
        Ok(link) => top.join(link.strip_prefix("gitdir:")?.trim()),
        Err(_) => dot_git,
    };
    let head = fs::read_to_string(git_dir.join("HEAD")).ok()?;
    head.trim().strip_prefix("ref: refs/heads/").map(str::to_owned)
}

/// Whether git ignores `name` in `top`. `None` if git is not there to say.
pub(crate) fn ignores(top: &Path, name: &str) -> Option<bool> {
    let deadline = std::time::Instant::now() + SETTING_UP;
    match run::status(top, &["check-ignore", "--quiet", "--", name], deadline)? {
        0 => Some(true),
        1 => Some(false),
        _ => None,
    }
}

/// Whether files in `top` can be committed: it is a worktree, and not the directory around a bare repository. `true` if git is not
/// there to say.
pub(crate) fn is_worktree(top: &Path) -> bool {
    let deadline = std::time::Instant::now() + SETTING_UP;
    run::output(top, &["rev-parse", "--is-inside-work-tree"], deadline).is_none_or(|answer| answer.trim_ascii() == b"true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_is_read_in_main_and_in_linked_worktrees() {
        let dir = tempfile::tempdir().unwrap();
        let (main, linked) = (dir.path().join("main"), dir.path().join("linked"));
        fs::create_dir_all(main.join(".git/worktrees/linked")).unwrap();
        fs::create_dir_all(&linked).unwrap();
        fs::write(main.join(".git/HEAD"), "ref: refs/heads/feature/login\n").unwrap();
        fs::write(main.join(".git/worktrees/linked/HEAD"), "5f0c8e1\n").unwrap();
        fs::write(linked.join(".git"), format!("gitdir: {}\n", main.join(".git/worktrees/linked").display())).unwrap();
        assert_eq!(branch(&main).as_deref(), Some("feature/login"));
        assert_eq!(branch(&linked), None, "detached");
        assert_eq!(branch(dir.path()), None);
    }
}
