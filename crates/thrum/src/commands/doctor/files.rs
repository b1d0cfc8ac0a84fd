//! File permissions, what git would commit, and whether the worktrees share one mailbox.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use thrum_core::{Error, ErrorKind};
use thrum_daemon::{backup, env, layout, paths::Repo, worktrees};

use super::{
    Check,
    Verdict::{Ok as Fine, Problem, Skipped, Warning},
};
use crate::{git, setup, text::count};

pub(super) fn checks(repo: &Repo) -> Vec<Check> {
    vec![permissions(repo), gitignore(repo), mailboxes(repo)]
}

/// Checks that the files belong to this user, and that keys, tokens and mail are accessible to this user only.
fn permissions(repo: &Repo) -> Check {
    let mut open: Vec<(PathBuf, u32)> = Vec::new();
    let mut foreign: Vec<PathBuf> = Vec::new();
    let mut look = |path: &Path, mode: u32| {
        let Ok(about) = fs::symlink_metadata(path) else { return };
        if about.uid() != rustix::process::geteuid().as_raw() {
            foreign.push(path.to_owned());
        } else if !about.is_symlink() && about.mode() & 0o777 & !mode != 0 {
            open.push((path.to_owned(), mode));
        }
    };
    look(&repo.var(), 0o700);
    for entry in fs::read_dir(repo.var()).into_iter().flatten().flatten() {
        look(&entry.path(), if entry.file_type().is_ok_and(|kind| kind.is_dir()) { 0o700 } else { 0o600 });
    }
    for entry in fs::read_dir(repo.identities()).into_iter().flatten().flatten() {
        look(&entry.path(), 0o644);
    }
    // Backups contain keys, tokens and mail as well.
    let backups = backup::directory(repo);
    look(&backups, 0o700);
    for entry in fs::read_dir(backups).into_iter().flatten().flatten() {
        look(&entry.path(), 0o600);
    }
    // A settings file without a secret may be readable by others: it is often written by `echo`, with default
    // permissions.
    let [settings, _] = &repo.env_files();
    look(settings, if env::may_hold_secret(settings) { 0o600 } else { 0o644 });
    if let Some(first) = foreign.first() {
        let text = format!(
            "{} {} to another user, {} among them",
            count(foreign.len() as u64, "file"),
            belong(foreign.len()),
            first.display()
        );
        return Check::new("permissions", Problem, text)
            .fix(format!("sudo chown -R $(id -u) {}", repo.thrum_dir().display()));
    }
    let Some((first, _)) = open.first() else {
        return Check::new("permissions", Fine, "only you can read keys, tokens and mail");
    };
    let text = format!("{} can be used by others, {} among them", count(open.len() as u64, "file"), first.display());
    Check::new("permissions", Problem, text).repair(move || {
        for (path, mode) in &open {
            match fs::set_permissions(path, fs::Permissions::from_mode(*mode)) {
                // SQLite may remove one of its files at any time.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::new(ErrorKind::Failed, format!("cannot protect {}: {error}", path.display())));
                }
                _ => {}
            }
        }
        Ok(format!("protected {}", count(open.len() as u64, "file")).into())
    })
}

fn belong(files: usize) -> &'static str {
    if files == 1 { "belongs" } else { "belong" }
}

/// Checks that the worktrees of this repository share a mailbox. Worktrees that were set up before sharing existed keep
/// their own mailbox and its contents.
fn mailboxes(repo: &Repo) -> Check {
    let found = worktrees::mailboxes(repo);
    if found.len() < 2 {
        return Check::new("mailboxes", Fine, "the worktrees of this repository share one");
    }
    let shown = |dir: &PathBuf| {
        let agents = dir.parent().map(worktrees::identities_in).unwrap_or_default();
        let agents = agents.iter().map(|name| format!("@{name}")).collect::<Vec<_>>().join(", ");
        let agents = if agents.is_empty() { String::new() } else { format!(" ({agents})") };
        let unused = if dir.join("redirect").exists() { ", which no command uses because it redirects" } else { "" };
        format!("{}{agents}{unused}", dir.display())
    };
    let each: Vec<String> = found.iter().map(shown).collect();
    let text = format!(
        "worktrees of this repository have {} mailboxes, which do not see each other: {}",
        found.len(),
        each.join("; ")
    );
    let shared = worktrees::of(repo)
        .iter()
        .find_map(|top| layout::shared_dir(top))
        .unwrap_or_else(|| repo.main_root().to_owned());
    Check::new("mailboxes", Warning, text).fix(format!(
        "To exchange mail, pair them: thrum peer add --via local in one worktree, thrum peer join in the other. To have one only: in \
         each worktree named, thrum daemon stop, move its .thrum away (its old mail stays there), thrum quickstart; that uses {}",
        shared.join(".thrum").display(),
    ))
}

/// Checks that git ignores `.thrum/var` and `.env`: everyone with the repository can read what is committed.
fn gitignore(repo: &Repo) -> Check {
    let top = layout::git_top(repo.root());
    if !top.join(".git").exists() {
        return Check::new("gitignore", Skipped, "this is no git repository");
    }
    match git::ignores(&top, ".thrum/var") {
        None => return Check::new("gitignore", Skipped, "git cannot be asked"),
        Some(true) => {}
        Some(false) => {
            return Check::new("gitignore", Problem, format!("git would take {} along", repo.local_dir().display()))
                .repair(move || {
                    let added = setup::ignore(&top, false)?.unwrap_or_else(|| top.join(".gitignore"));
                    Ok(format!("added .thrum/ to {}", added.display()).into())
                });
        }
    }
    if top.join(".env").exists() && git::ignores(&top, ".env") == Some(false) {
        let text = format!("git would take {} along; it may hold auth keys", top.join(".env").display());
        return Check::new("gitignore", Warning, text).fix("echo .env >> .gitignore");
    }
    Check::new("gitignore", Fine, "git leaves .thrum out")
}
