//! Who may read what, and what git would take along.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use thrum_core::{ErrorKind, Fault};
use thrum_daemon::{backup, layout, paths::Repo};

use super::{
    Check,
    Verdict::{Ok as Fine, Problem, Skipped, Warning},
};
use crate::{git, setup, text::count};

pub(super) fn checks(repo: &Repo) -> Vec<Check> {
    vec![permissions(repo), gitignore(repo)]
}

/// Keys, tokens and mail are for their owner only.
fn permissions(repo: &Repo) -> Check {
    let mut open: Vec<(PathBuf, u32)> = Vec::new();
    let mut foreign: Vec<PathBuf> = Vec::new();
    let mut look = |path: &Path, mode: u32| {
        // Others may look into a directory's name, not into the files.
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
    // They hold all of that.
    let backups = backup::directory(repo);
    look(&backups, 0o700);
    for entry in fs::read_dir(backups).into_iter().flatten().flatten() {
        look(&entry.path(), 0o600);
    }
    look(&repo.env_files()[0], 0o600);
    if let Some(first) = foreign.first() {
        let text =
            format!("{} {} to another user, {} among them", count(foreign.len() as u64, "file"), belong(foreign.len()), first.display());
        return Check::new("permissions", Problem, text).fix(format!("sudo chown -R $(id -u) {}", repo.thrum_dir().display()));
    }
    let Some((first, _)) = open.first() else { return Check::new("permissions", Fine, "only you can read keys, tokens and mail") };
    let text = format!("{} can be used by others, {} among them", count(open.len() as u64, "file"), first.display());
    Check::new("permissions", Problem, text).mend(move || {
        for (path, mode) in &open {
            match fs::set_permissions(path, fs::Permissions::from_mode(*mode)) {
                // A file of SQLite's may go at any time.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Fault::new(ErrorKind::Failed, format!("cannot protect {}: {error}", path.display())));
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

/// Whatever git takes along, everybody with the repository reads.
fn gitignore(repo: &Repo) -> Check {
    let top = layout::git_top(repo.root());
    if !top.join(".git").exists() {
        return Check::new("gitignore", Skipped, "this is no git repository");
    }
    match git::ignores(&top, ".thrum/var") {
        None => return Check::new("gitignore", Skipped, "git cannot be asked"),
        Some(true) => {}
        Some(false) => {
            return Check::new("gitignore", Problem, format!("git would take {} along", repo.local_dir().display())).mend(move || {
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
