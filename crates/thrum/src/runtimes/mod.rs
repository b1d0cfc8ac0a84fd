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
    RUNTIMES.iter().filter(|runtime| is_detected(runtime, top)).map(|runtime| runtime.host).collect()
}

/// Returns `true` if the program is installed on this machine or has its directory in the worktree at `top`.
fn is_detected(runtime: &Runtime, top: &Path) -> bool {
    let has_directory = !runtime.directory.is_empty() && top.join(runtime.directory).is_dir();
    has_directory || installed(runtime.programs).is_some()
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

fn runtime(host: Host) -> &'static Runtime {
    // A test checks that the table lists every program.
    RUNTIMES.iter().find(|runtime| runtime.host == host).expect("the table lists every program")
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_program_is_in_the_table() {
        for host in Host::value_variants() {
            assert_eq!(runtime(*host).host, *host);
        }
    }
}
