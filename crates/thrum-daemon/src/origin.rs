//! Checks where a `.thrum` came from. The directory contains a key, the tokens of peers and the settings for a tailnet:
//! a `.thrum` that came with somebody else's code would put this daemon under that person's control.
//!
//! Git knows which files came with a repository. In addition, a legitimate `.thrum` lies at the top of a git worktree,
//! inside git's own directory, or outside both. One further down came with a package, an example or a vendored tree.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use thrum_core::{Error, ErrorKind};

use crate::{git, layout, paths::Repo};

/// Maximum time for git to report what it tracks.
const PATIENCE: Duration = Duration::from_secs(5);

/// Paths that must not come with a repository: the daemon's state, and the redirect to another `.thrum`.
const OURS: [&str; 2] = [".thrum/var", ".thrum/redirect"];

/// Checks that the state of `repo` did not come with its code.
///
/// # Errors
/// `refused`, naming what to remove. Retrying does not help.
pub(crate) fn check(repo: &Repo) -> Result<(), Error> {
    let root = repo.main_root();
    let top = layout::git_top(root);
    if !top.join(".git").exists() || layout::is_inside_git_dir(root) {
        return Ok(());
    }
    if top != root {
        let shown = repo.thrum_dir().display();
        return Err(Error::new(
            ErrorKind::Refused,
            format!(
                "{shown} lies inside the git repository {}, not at its top: it may have come with somebody's code",
                top.display()
            ),
        )
        .hint(format!("Remove it if you did not make it; `thrum init` makes one at {}.", top.display())));
    }
    // If git gives no answer, the daemon starts nevertheless. That lets no hostile clone through, because a user who
    // can clone a repository has a git that answers.
    if OURS.iter().any(|path| is_tracked(root, path) == Some(true)) {
        return Err(Error::new(
            ErrorKind::Refused,
            format!(
                "git tracks files in {}: keys, peers and tokens that came with the repository are not used",
                repo.thrum_dir().display()
            ),
        )
        .hint("If they are yours: git rm -r --cached .thrum && echo .thrum/ >> .gitignore. If not: remove .thrum."));
    }
    Ok(())
}

/// Returns `true` if the file at `path`, or a file below it, belongs to the git repository around `dir`. Ignores upper
/// and lower case, as some file systems do. `None` if there is a repository but git gives no answer.
pub(crate) fn is_tracked(dir: &Path, path: &str) -> Option<bool> {
    let pathspec = format!(":(icase){path}");
    // Reading the index runs nothing from the repository, so its owner does not matter.
    let args = ["-c", "safe.directory=*", "ls-files", "--error-unmatch", "--", &pathspec];
    match git::status(dir, &args, Instant::now() + PATIENCE) {
        Some(0) => Some(true),
        Some(1) => Some(false),
        _ => has_no_worktree(dir).then_some(false),
    }
}

/// Returns `true` if `dir` certainly lies in no worktree: outside git, in git's own directory, or beside a bare
/// repository.
fn has_no_worktree(dir: &Path) -> bool {
    let args = ["-c", "safe.directory=*", "rev-parse", "--is-inside-work-tree"];
    !dir.ancestors().any(|dir| dir.join(".git").exists())
        || layout::is_inside_git_dir(dir)
        || git::output(dir, &args, Instant::now() + PATIENCE).is_some_and(|answer| answer.trim_ascii() == b"false")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn git(dir: &Path, args: &[&str]) {
        assert_eq!(git::status(dir, args, Instant::now() + PATIENCE), Some(0), "{args:?}");
    }

    fn repository() -> (tempfile::TempDir, PathBuf, Repo) {
        let guard = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(guard.path()).unwrap();
        git(&root, &["init", "--quiet"]);
        let repo = Repo::create(&root, None).unwrap();
        (guard, root, repo)
    }

    /// Hostile input (C28 in docs/security.md): a clone that contains a `.thrum`.
    #[test]
    fn state_that_came_with_the_repository_is_refused_whatever_its_case() {
        for name in ["var/peers.json", "var/tsnet/tailscaled.state", "VAR/daemon.json", "redirect"] {
            let (_guard, root, repo) = repository();
            let file = repo.thrum_dir().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "theirs").unwrap();
            assert_eq!(check(&repo), Ok(()), "{name}: nobody sent it");
            git(&root, &["add", "--force", &format!(".thrum/{name}")]);
            let error = check(&repo).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Refused, "{name}");
            assert!(error.hint.unwrap().contains("git rm -r --cached .thrum"), "{name}");
        }
    }

    #[test]
    fn beside_and_inside_a_bare_repository_nothing_is_tracked() {
        let guard = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(guard.path()).unwrap();
        git(&root, &["init", "--quiet", "--bare", ".bare"]);
        fs::write(root.join(".git"), "gitdir: ./.bare\n").unwrap();
        for dir in [root.clone(), root.join(".bare")] {
            assert_eq!(check(&Repo::create(&dir, None).unwrap()), Ok(()), "{}", dir.display());
            assert_eq!(is_tracked(&dir, ".env"), Some(false), "{}", dir.display());
        }
    }

    /// Hostile input (C28 in docs/security.md): a clone that contains a database.
    #[test]
    fn a_database_that_came_with_a_worktree_inside_a_bare_repository_is_refused() {
        let (_guard, root, repo) = repository();
        fs::write(repo.thrum_dir().join("var/messages.db"), "theirs").unwrap();
        git(&root, &["add", "--force", ".thrum/var/messages.db"]);
        git(&root, &["-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--no-gpg-sign", "-m", "one"]);
        let elsewhere = tempfile::tempdir().unwrap();
        let bare = fs::canonicalize(elsewhere.path()).unwrap().join("store");
        fs::rename(root.join(".git"), &bare).unwrap();
        git(&bare, &["config", "core.bare", "true"]);
        git(&bare, &["worktree", "add", "--quiet", "-b", "work", "work"]);
        let work = bare.join("work");
        assert!(check(&Repo::discover(&work).unwrap()).unwrap_err().message.contains("git tracks files"));
        fs::create_dir_all(work.join("vendor/pkg")).unwrap();
        let package = Repo::create(&work.join("vendor/pkg"), None).unwrap();
        assert!(check(&package).unwrap_err().message.contains("not at its top"));
        assert_eq!(check(&Repo::create(&bare, None).unwrap()), Ok(()), "the bare repository itself");
    }

    /// Hostile input (C28 in docs/security.md): a clone that contains a bare repository.
    #[test]
    fn a_directory_in_a_bare_repository_that_came_with_the_code_is_refused() {
        let (_guard, root, _) = repository();
        git(&root, &["init", "--quiet", "--bare", "vendor/evil.git"]);
        let evil = Repo::create(&root.join("vendor/evil.git"), None).unwrap();
        assert!(check(&evil).unwrap_err().message.contains("not at its top"));
    }

    #[test]
    fn a_directory_below_the_top_of_a_repository_is_refused_and_one_outside_git_is_not() {
        let (_guard, root, repo) = repository();
        assert_eq!(check(&repo), Ok(()));
        let below = root.join("node_modules/pkg");
        fs::create_dir_all(&below).unwrap();
        let package = Repo::create(&below, None).unwrap();
        let error = check(&package).unwrap_err();
        assert!(error.message.contains("not at its top") && error.hint.unwrap().contains("thrum init"));
        let guard = tempfile::tempdir().unwrap();
        assert_eq!(check(&Repo::create(guard.path(), None).unwrap()), Ok(()));
    }
}
