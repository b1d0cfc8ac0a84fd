//! `thrum backup`: the mailbox and the files that belong to it, in one file.

use std::{fs, os::unix::fs::DirBuilderExt, path::PathBuf};

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind};
use thrum_daemon::backup::{self, Made};

use crate::{
    context::Context,
    new_file,
    render::{Page, Render},
    text::count,
};

/// Back up the mailbox to a file; the daemon may be running
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The backup contains all mail, the agents' identities and notes in the worktree that has the daemon, the settings, \
the daemon's key and the tokens of its peers. Keep it as private as .thrum itself; its mode is 0600. It does not \
contain .env files, logs and other worktrees.

Examples:
  thrum backup
  thrum backup --to mail.backup")]
pub(crate) struct Args {
    /// Write to this new file
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Write to a new file in this directory, named after the time [default: .thrum/backup]
    #[arg(long, value_name = "DIR", conflicts_with = "to")]
    dir: Option<PathBuf>,
    /// Omit the daemon's key and its peers; a backup restored elsewhere becomes another daemon
    #[arg(long)]
    no_keys: bool,
}

/// A backup that was written; `secret` is `true` if it holds keys.
pub(crate) struct Written {
    made: Made,
    secret: bool,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Written, Error> {
    let repo = cx.repo()?;
    let to =
        match (&args.to, &args.dir) {
            (Some(file), _) => file.clone(),
            (None, Some(dir)) => dir.join(backup::file_name(repo)),
            (None, None) => {
                let dir = backup::directory(repo);
                fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|error| {
                    Error::new(ErrorKind::Failed, format!("cannot make {}: {error}", dir.display()))
                })?;
                // The backup may hold keys, so do not follow a link, which may have come with the repository. A user
                // who wants the backup elsewhere can name a directory.
                if fs::symlink_metadata(&dir).is_ok_and(|about| about.is_symlink()) {
                    return Err(Error::new(ErrorKind::Refused, format!("{} is a symbolic link", dir.display()))
                        .hint("Say where the backup goes: thrum backup --dir DIR"));
                }
                dir.join(backup::file_name(repo))
            }
        };
    new_file::has_directory(&to)?;
    let progress = cx.output.progress("Copying the mailbox", Some(100));
    let made = backup::make(repo, &to, !args.no_keys, env!("CARGO_PKG_VERSION"), &mut |done, all| {
        progress.at(done * 100 / all.max(1))
    })?;
    drop(progress);
    if !args.no_keys {
        if new_file::git_would_take(&made.file) {
            cx.output.warn(&format!("git does not ignore {}: do not commit it", made.file.display()));
        }
        cx.output.note("It holds this daemon's key and the tokens of its peers: keep it as private as .thrum.");
    }
    Ok(Written { made, secret: !args.no_keys })
}

impl Render for Written {
    fn human(&self, page: &mut Page) {
        let Made { file, manifest, bytes } = &self.made;
        let size = bytes.div_ceil(1024);
        page.line(format!(
            "Wrote {} ({}, {}, {size} KiB)",
            file.display(),
            count(manifest.messages, "message"),
            count(manifest.events, "event")
        ));
    }

    fn json(&self) -> Value {
        let Made { file, manifest, bytes } = &self.made;
        json!({
            "file": file, "bytes": bytes, "events": manifest.events, "messages": manifest.messages, "made_at": manifest.made_at,
            "daemon_id": manifest.daemon_id, "holds_keys": self.secret,
        })
    }
}
