//! The little we ask of git. No command that agents run daily waits for it; one does look, for a moment: see [`changes`].

pub(crate) mod changes;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

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

/// Whether git ignores the file `name` in `top`. `None` if git is not there to say.
pub(crate) fn ignores(top: &Path, name: &str) -> Option<bool> {
    let status = command(top).args(["check-ignore", "--quiet", "--", name]).status().ok()?;
    match status.code() {
        Some(0) => Some(true),
        Some(1) => Some(false),
        _ => None,
    }
}

/// Git in `top`, deaf to what a hook that we may run in has set for another repository.
fn command(top: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(top).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    command
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
