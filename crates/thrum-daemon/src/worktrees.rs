//! The worktrees of a repository, and the agents that have an identity in one of them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use thrum_core::{limits, name};

use crate::{disk, paths::Repo};

/// Most worktrees looked at: git keeps one directory for each, and nobody works in a thousand.
const MOST: usize = 1000;

/// The top levels of the worktrees of `repo` that are still there: the main one, and those git knows of. Git is not started.
pub fn of(repo: &Repo) -> Vec<PathBuf> {
    let mut found = vec![repo.main_root().to_owned()];
    let links = fs::read_dir(repo.main_root().join(".git/worktrees")).into_iter().flatten().flatten().take(MOST);
    found.extend(links.filter_map(|entry| linked(&entry.path())));
    found
}

/// The worktree that git's directory for it points to: the directory of the `.git` file named in `gitdir`.
fn linked(git_dir: &Path) -> Option<PathBuf> {
    let bytes = disk::read_private(&git_dir.join("gitdir"), limits::MAX_SMALL_FILE_BYTES).ok()??;
    let text = String::from_utf8(bytes).ok()?;
    let top = git_dir.join(text.trim()).parent()?.to_owned();
    top.is_dir().then_some(top)
}

/// The names of all agents with an identity file in one of the worktrees of `repo`.
pub fn identities(repo: &Repo) -> BTreeSet<String> {
    let files = of(repo).into_iter().filter_map(|top| fs::read_dir(top.join(".thrum/identities")).ok()).flatten().flatten();
    let names = files.filter_map(|entry| entry.file_name().into_string().ok()?.strip_suffix(".json").map(str::to_owned));
    names.filter(|name| name::check_agent(name).is_ok()).collect()
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
