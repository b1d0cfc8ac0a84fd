//! Finds the `tailscaled` program.

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{Config, State, state::Verdict};

/// The directories used by Linux packages, NixOS, Homebrew and static builds.
const USUAL: [&str; 7] = [
    "/usr/sbin",
    "/usr/bin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
    "/home/linuxbrew/.linuxbrew/bin",
    "/run/current-system/sw/bin",
];

/// The `tailscaled` to run: the configured one, otherwise the first on `PATH` or in a usual directory.
///
/// # Errors
/// A verdict of [`State::BinaryMissing`] if there is no such program.
pub(crate) fn find(config: &Config) -> Result<PathBuf, Verdict> {
    if let Some(named) = &config.tailscaled {
        return if is_executable(named) {
            Ok(named.clone())
        } else {
            Err(Verdict::new(
                State::BinaryMissing,
                format!("THRUM_TS_TAILSCALED names {}, which is no program", named.display()),
                "Correct it, or remove it to have tailscaled looked for.",
            ))
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = env::split_paths(&path).chain(USUAL.map(PathBuf::from)).collect();
    first_in(&places).ok_or_else(|| {
        Verdict::new(
            State::BinaryMissing,
            "there is no tailscaled on PATH or in the usual places, and a node of this daemon's own needs it",
            "Install Tailscale (the app for macOS has none: `brew install tailscale`), name it in THRUM_TS_TAILSCALED, or use the machine's \
             node with THRUM_TS_MODE=host.",
        )
    })
}

fn first_in(places: &[PathBuf]) -> Option<PathBuf> {
    // Relative entries of PATH depend on the working directory.
    places.iter().filter(|dir| dir.is_absolute()).map(|dir| dir.join("tailscaled")).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_first_program_of_that_name_is_taken_and_what_is_no_program_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let places: Vec<_> =
            ["missing", "directory", "plain", "right", "later"].map(|name| dir.path().join(name)).to_vec();
        fs::create_dir_all(places[1].join("tailscaled")).unwrap();
        for (place, mode) in [(2, 0o644), (3, 0o755), (4, 0o755)] {
            fs::create_dir(&places[place]).unwrap();
            let file = places[place].join("tailscaled");
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(first_in(&places), Some(places[3].join("tailscaled")));
        assert_eq!(first_in(&places[..3]), None);
    }
}
