//! The worktrees of a repository, and the agents that have an identity in one of them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use thrum_core::{limits, name};

use crate::{disk, layout, paths::Repo};

/// Most worktrees looked at: git keeps one directory for each, and nobody works in a thousand.
const MOST: usize = 1000;

/// The top levels of the worktrees of `repo` that are still there: the one with the daemon, the one that `repo` was found in, and
/// those git knows of. Git is not started. The main worktree of a repository whose git directory lies elsewhere is in none of
/// git's lists.
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

/// The worktree that git's directory for it points to: the directory of the `.git` file named in `gitdir`.
fn linked(git_dir: &Path) -> Option<PathBuf> {
    let bytes = disk::read_private(&git_dir.join("gitdir"), limits::MAX_SMALL_FILE_BYTES).ok()??;
    let text = String::from_utf8(bytes).ok()?;
    let top = fs::canonicalize(git_dir.join(text.trim()).parent()?).ok()?;
    top.is_dir().then_some(top)
}

/// The names of all agents with an identity file in one of the worktrees of `repo`.
pub fn identities(repo: &Repo) -> BTreeSet<String> {
    of(repo).iter().flat_map(|top| identities_in(top)).collect()
}

/// The names of the agents with an identity file in the worktree with this top level.
pub fn identities_in(top: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(top.join(".thrum/identities")).into_iter().flatten().flatten();
    let names = files.filter_map(|entry| entry.file_name().into_string().ok()?.strip_suffix(".json").map(str::to_owned));
    names.filter(|name| name::check_agent(name).is_ok()).collect()
}

/// Whether the agent `name`, a name that was checked, has an identity file in the worktree at `top`, and that one shares the daemon
/// of `repo`.
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
        for file in ["main/.thrum/identities/ann.json", "feature/.thrum/identities/fay.json", "feature/.thrum/identities/No Name.json"] {
            fs::write(dir.join(file), "{}").unwrap();
        }
        let mut tops = of(&repo);
        tops.sort();
        assert_eq!(tops, [dir.join("feature"), main]);
        assert_eq!(identities(&repo).into_iter().collect::<Vec<_>>(), ["ann", "fay"]);
    }
}
