//! Determines the layout of a git repository and the location of its `.thrum`. Everything is read from files; git is
//! not run.
//!
//! All worktrees of a repository share its *common directory*: `.git` in an ordinary clone, the bare repository of `git
//! clone --bare`, a directory elsewhere (`git init --separate-git-dir`), `.git/modules/NAME` of the outer repository
//! for a submodule. The shared `.thrum` lies inside or beside the common directory ([`shared_dir`]); the first rule
//! that applies decides:
//!
//! * inside the common directory, if a `.thrum` is there already;
//! * beside the common directory, if that is called `.git`, or if its parent directory has a `.git` file that leads to
//!   it (an ordinary clone, and `project/.bare` with `project/.git`);
//! * inside the common directory otherwise, because the directory around `/srv/project.git` may not belong to that
//!   project alone.
//!
//! The variables `GIT_DIR` and `GIT_WORK_TREE` are ignored. Git sets them for its hooks, where they may refer to
//! another repository than the current directory does. Two commands in one directory must find the same `.thrum`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use thrum_core::limits;

use crate::private_files;

/// Returns the top level of the git worktree that contains `start`, or `start` itself outside git. A directory that
/// contains only a bare repository and a `.git` file leading to it counts as a worktree.
pub fn git_top(start: &Path) -> PathBuf {
    nearest_git(start).unwrap_or(start).to_owned()
}

/// Returns the nearest directory, `start` or above, that has a `.git`.
pub(crate) fn nearest_git(start: &Path) -> Option<&Path> {
    start.ancestors().find(|dir| dir.join(".git").exists())
}

/// Returns the common directory of the worktree with the top level `top`, or of `top` if it is a git directory itself,
/// with links resolved. `None` outside git.
pub fn common_dir(top: &Path) -> Option<PathBuf> {
    let dir = git_dir(top)?;
    let common = small_text(&dir.join("commondir")).map_or_else(|| dir.clone(), |common| dir.join(common.trim()));
    fs::canonicalize(common).ok()
}

/// Returns `true` if `top` is a linked worktree (`git worktree add`).
pub fn is_linked(top: &Path) -> bool {
    git_dir(top).is_some_and(|dir| dir.join("commondir").exists())
}

/// Returns the parent of the common directory of the linked worktree at `top` if that parent has a `.git`: usually the
/// main checkout. `None` if `top` is not a linked worktree, and if the parent has no `.git` (bare repository,
/// submodule, separate git directory).
pub fn parent_with_git(top: &Path) -> Option<PathBuf> {
    let common = common_dir(top).filter(|_| is_linked(top))?;
    common.parent().filter(|dir| dir.join(".git").exists()).map(Path::to_owned)
}

/// Returns the directory in which the layout places the shared `.thrum` of the worktree at `top`. `None` if that is
/// `top` itself, and outside git. A redirect, or a database that the worktree already has, takes precedence
/// (`Repo::at`).
pub fn shared_dir(top: &Path) -> Option<PathBuf> {
    if !top.join(".git").exists() {
        return None;
    }
    let common = common_dir(top)?;
    let beside = common.parent().filter(|parent| {
        let belongs = common.ends_with(".git")
            || git_dir(parent).and_then(|dir| fs::canonicalize(dir).ok()).as_deref() == Some(&common);
        // A `.thrum` inside the common directory keeps being used, for example one made before somebody added
        // `project/.git`.
        belongs && !common.join(".thrum").is_dir()
    });
    let shared = beside.unwrap_or(&common);
    (shared != top).then(|| shared.to_owned())
}

/// Returns `true` if `dir` lies in the git directory of the enclosing repository, and in no worktree that was added
/// inside that directory (`git worktree add` in a bare repository). Such a `dir` contains no checked-out code.
pub(crate) fn is_inside_git_dir(dir: &Path) -> bool {
    let Some(top) = nearest_git(dir) else { return false };
    common_dir(top).is_some_and(|common| dir.starts_with(&common) && !top.starts_with(&common))
}

/// Returns the git directory of the worktree at `top`: `.git`, the target of the file `.git`, or `top` if it is a git
/// directory.
fn git_dir(top: &Path) -> Option<PathBuf> {
    let dot_git = top.join(".git");
    if dot_git.is_dir() {
        return Some(dot_git);
    }
    if let Some(link) = small_text(&dot_git) {
        return Some(top.join(link.strip_prefix("gitdir:")?.trim()));
    }
    let is_one = top.join("HEAD").is_file() && top.join("objects").is_dir() && top.join("refs").is_dir();
    is_one.then(|| top.to_owned())
}

fn small_text(path: &Path) -> Option<String> {
    let bytes = private_files::read_private(path, limits::MAX_SMALL_FILE_BYTES).ok()??;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::git;

    fn run(dir: &Path, args: &[&str]) {
        let identity = [
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "-c",
            "commit.gpgsign=false",
            "-c",
            "protocol.file.allow=always",
        ];
        let mut command = git::command(dir, &[&identity[..], args].concat());
        command.env("GIT_ALLOW_PROTOCOL", "file");
        assert!(command.status().unwrap().success(), "{args:?}");
    }

    /// Creates a directory with a repository `main` that has one commit.
    fn with_repository() -> (tempfile::TempDir, PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(guard.path()).unwrap();
        fs::create_dir(dir.join("main")).unwrap();
        run(&dir.join("main"), &["init", "-q", "-b", "main"]);
        run(&dir.join("main"), &["commit", "-q", "--allow-empty", "-m", "one"]);
        (guard, dir)
    }

    #[test]
    fn worktrees_of_an_ordinary_clone_share_what_lies_in_the_main_one() {
        let (_guard, dir) = with_repository();
        let main = dir.join("main");
        run(&main, &["worktree", "add", "-q", "-b", "feature", "../feature"]);
        run(&main, &["worktree", "add", "-q", "-b", "inner", ".worktrees/inner"]);
        fs::create_dir(dir.join("feature/src")).unwrap();
        assert_eq!(git_top(&dir.join("feature/src")), dir.join("feature"));
        assert_eq!((shared_dir(&main), shared_dir(&dir.join("feature"))), (None, Some(main.clone())));
        assert_eq!(shared_dir(&main.join(".worktrees/inner")), Some(main.clone()));
        assert_eq!((is_linked(&main), is_linked(&dir.join("feature"))), (false, true));
        assert_eq!((parent_with_git(&main), parent_with_git(&dir.join("feature"))), (None, Some(main.clone())));
        assert_eq!(common_dir(&dir.join("feature")), Some(main.join(".git")));
        assert_eq!((shared_dir(&dir), common_dir(&dir), git_top(&dir)), (None, None, dir.clone()));
        // Git itself writes a relative path if `worktree.useRelativePaths` is set.
        fs::write(dir.join("feature/.git"), "gitdir: ../main/.git/worktrees/feature\n").unwrap();
        assert_eq!(shared_dir(&dir.join("feature")), Some(main));
    }

    #[test]
    fn worktrees_of_a_bare_repository_share_whatever_it_is_called() {
        let (_guard, dir) = with_repository();
        for (bare, home_of_all) in [("p/.bare", "p"), ("q/.git", "q"), ("r/store", "r/store"), ("s.git", "s.git")] {
            let bare = dir.join(bare);
            let parent = bare.parent().unwrap().to_owned();
            fs::create_dir_all(&parent).unwrap();
            run(&dir, &["clone", "-q", "--bare", "main", bare.to_str().unwrap()]);
            if home_of_all == "p" {
                fs::write(dir.join("p/.git"), "gitdir: ./.bare\n").unwrap();
            }
            let shared = Some(dir.join(home_of_all));
            for name in ["one", "two"] {
                let top = dir.join(format!("{}-{name}", bare.file_name().unwrap().to_str().unwrap()));
                run(&bare, &["worktree", "add", "-q", "-b", name, top.to_str().unwrap()]);
                assert_eq!(shared_dir(&top), shared, "{}", bare.display());
            }
        }
        assert_eq!(shared_dir(&dir.join("p")), None, "its own .thrum is the shared one");
        assert!(is_inside_git_dir(&dir.join("p/.bare")) && !is_inside_git_dir(&dir.join("p")));
        assert_eq!(common_dir(&dir.join("s.git")), Some(dir.join("s.git")));
    }

    #[test]
    fn a_mailbox_in_a_bare_repository_stays_when_a_git_file_is_added_beside_it() {
        let (_guard, dir) = with_repository();
        run(&dir, &["clone", "-q", "--bare", "main", "p/.bare"]);
        run(&dir.join("p/.bare"), &["worktree", "add", "-q", "-b", "one", "../one"]);
        fs::create_dir(dir.join("p/.bare/.thrum")).unwrap();
        fs::write(dir.join("p/.git"), "gitdir: ./.bare\n").unwrap();
        for top in ["p/one", "p"] {
            assert_eq!(shared_dir(&dir.join(top)), Some(dir.join("p/.bare")), "{top}");
        }
    }

    #[test]
    fn submodules_and_separate_git_directories_share_with_their_own_worktrees() {
        let (_guard, dir) = with_repository();
        fs::create_dir(dir.join("outer")).unwrap();
        run(&dir.join("outer"), &["init", "-q", "-b", "main"]);
        run(&dir.join("outer"), &["submodule", "--quiet", "add", "../main", "sub"]);
        run(&dir.join("outer/sub"), &["worktree", "add", "-q", "-b", "feature", "../../sub-feature"]);
        let module = dir.join("outer/.git/modules/sub");
        assert_eq!(
            (shared_dir(&dir.join("outer/sub")), shared_dir(&dir.join("sub-feature"))),
            (Some(module.clone()), Some(module.clone()))
        );
        assert_eq!((is_linked(&dir.join("outer/sub")), shared_dir(&dir.join("outer"))), (false, None));
        assert!(is_inside_git_dir(&module));

        run(&dir, &["init", "-q", "-b", "main", "--separate-git-dir", "store", "work"]);
        run(&dir.join("work"), &["commit", "-q", "--allow-empty", "-m", "one"]);
        run(&dir.join("work"), &["worktree", "add", "-q", "-b", "feature", "../work-feature"]);
        let store = Some(dir.join("store"));
        assert_eq!((shared_dir(&dir.join("work")), shared_dir(&dir.join("work-feature"))), (store.clone(), store));
    }

    #[test]
    fn a_bare_repository_that_came_inside_a_clone_is_not_in_its_git_directory() {
        let (_guard, dir) = with_repository();
        run(&dir, &["clone", "-q", "--bare", "main", "main/vendor/evil.git"]);
        assert!(!is_inside_git_dir(&dir.join("main/vendor/evil.git")));
        assert_eq!(git::status(&dir.join("main"), &["status"], Instant::now() + Duration::from_secs(5)), Some(0));
    }
}
