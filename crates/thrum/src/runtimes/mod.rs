//! Writes Thrum's entries into the settings of programs that run agents, and removes them again.
//!
//! `table.rs` lists the entries per file, `places.rs` decides which files may be written, and `document` edits one file
//! without changing anything else in it. `plan.rs` combines these. A file that cannot be edited stays as it is; the
//! report then contains the text to paste.

mod copies;
mod document;
mod places;
mod plan;
#[cfg(test)]
mod plugins;
mod table;
mod written;

use std::{
    env,
    path::{Path, PathBuf},
};

use thrum_core::{Error, ErrorKind};

use crate::hook::host::Host;
pub(crate) use copies::Copies;
pub(crate) use plan::{Change, Plan, RefusedFile, to_take_out, to_write};
use table::{RUNTIMES, Runtime};
pub(crate) use written::{Hook, State, Written, written};

/// Returns the programs that are installed on this machine or have their directory in the worktree at `top`.
pub(crate) fn detected(top: &Path) -> Vec<Host> {
    let has_directory = |name: &str| !name.is_empty() && top.join(name).is_dir();
    let is_here = |runtime: &&Runtime| installed(runtime.programs).is_some() || has_directory(runtime.directory);
    RUNTIMES.iter().filter(is_here).map(|runtime| runtime.host).collect()
}

/// Returns the error for "no program detected". The hint shows `command`, which names a program.
pub(crate) fn none_found(command: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "no program that runs agents was found here, neither installed nor by its directory",
    )
    .hint(format!("Name it: {command}"))
}

/// Returns the path of the first of these programs that is in `PATH`.
fn installed(programs: &[&str]) -> Option<PathBuf> {
    let paths: Vec<PathBuf> = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    programs.iter().flat_map(|name| paths.iter().map(move |dir| dir.join(name))).find(|path| path.is_file())
}

/// Returns all programs that can be set up.
pub(crate) fn known() -> Vec<Host> {
    RUNTIMES.iter().map(|runtime| runtime.host).collect()
}

fn runtime(host: Host) -> Result<&'static Runtime, Error> {
    RUNTIMES.iter().find(|runtime| runtime.host == host).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "nothing is written for this program yet")
            .hint("docs/agents.md shows what to write by hand.")
    })
}
