//! Lists the worktrees of a repository, and the agents that have an identity in one of them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use thrum_core::{limits, name};

use crate::{
    layout,
    paths::{self, Repo},
    private_files,
};

/// Maximum number of worktrees to read. Git keeps one directory for each, and nobody works in a thousand.
const MOST: usize = 1000;

/// Returns the top levels of the existing worktrees of `repo`: the one with the daemon, the one in which `repo` was
/// found, and those that git knows. Git is not run. If the git directory of a repository lies elsewhere, git does not
/// list the main worktree, which is then missing unless it is one of the first two.
pub fn of(repo: &Repo) -> Vec<PathBuf> {
    let mut found = vec![repo.main_root().to_owned()];
    if repo.root() != repo.main_root() {
        found.push(repo.root().to_owned());
    }
    let known = layout::common_dir(repo.main_root()).and_then(|common| fs::read_dir(common.join("worktrees")).ok());
    let links = known.into_iter().flatten().flatten().take(MOST).filter_map(|entry| linked(&entry.path()));
    for top in links {
        if !found.contains(&top) {
            found.push(top);
        }
    }
    found
}

/// Returns the worktree that belongs to one of git's worktree directories: the parent of the `.git` file named in
/// `gitdir`.
fn linked(git_dir: &Path) -> Option<PathBuf> {
    let bytes = private_files::read_private(&git_dir.join("gitdir"), limits::MAX_SMALL_FILE_BYTES).ok()??;
    let text = String::from_utf8(bytes).ok()?;
    let top = fs::canonicalize(git_dir.join(text.trim()).parent()?).ok()?;
    top.is_dir().then_some(top)
}

/// Returns the `.thrum` directories with a mailbox, in the worktrees of this repository and in the directory of
/// [`layout::shared_dir`]. There are several only if worktrees got mailboxes of their own before they shared one.
pub fn mailboxes(repo: &Repo) -> Vec<PathBuf> {
    let tops = of(repo);
    let shared = tops.iter().filter_map(|top| layout::shared_dir(top)).next();
    let dirs = tops.into_iter().chain(shared).filter_map(|top| fs::canonicalize(top.join(".thrum")).ok());
    let dirs: BTreeSet<PathBuf> = dirs.filter(|dir| paths::has_mailbox(dir)).collect();
    dirs.into_iter().collect()
}

/// Returns the names of all agents with an identity file in one of the worktrees of `repo`.
pub fn identities(repo: &Repo) -> BTreeSet<String> {
    of(repo).iter().flat_map(|top| identities_in(top)).collect()
}

/// Returns the names of the agents with an identity file in the worktree with this top level.
pub fn identities_in(top: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(top.join(".thrum/identities")).into_iter().flatten().flatten();
    let names =
        files.filter_map(|entry| entry.file_name().into_string().ok()?.strip_suffix(".json").map(str::to_owned));
    names.filter(|name| name::check_agent(name).is_ok()).collect()
}

/// Returns `true` if the agent `name`, which must be a valid name, has an identity file in the worktree at `top`, and
/// that worktree shares the daemon of `repo`.
pub fn has_identity(repo: &Repo, top: &Path, name: &str) -> bool {
    repo.worktree(top).is_ok_and(|worktree| worktree.identities().join(format!("{name}.json")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_of_every_worktree_count_and_worktrees_that_are_gone_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(dir.path()).unwrap();
        let main = dir.join("main");
        for (link, top) in [("feature", dir.join("feature")), ("gone", dir.join("gone"))] {
            let git_dir = main.join(".git/worktrees").join(link);
            fs::create_dir_all(&git_dir).unwrap();
            fs::write(git_dir.join("gitdir"), format!("{}\n", top.join(".git").display())).unwrap();
        }
        fs::create_dir_all(dir.join("feature")).unwrap();
        let repo = Repo::create(&main, None).unwrap();
        Repo::create(&dir.join("feature"), Some(repo.thrum_dir())).unwrap();
        for file in [
            "main/.thrum/identities/ann.json",
            "feature/.thrum/identities/fay.json",
            "feature/.thrum/identities/No Name.json",
        ] {
            fs::write(dir.join(file), "{}").unwrap();
        }
        let mut tops = of(&repo);
        tops.sort();
        assert_eq!(tops, [dir.join("feature"), main]);
        assert_eq!(identities(&repo).into_iter().collect::<Vec<_>>(), ["ann", "fay"]);
    }
}
