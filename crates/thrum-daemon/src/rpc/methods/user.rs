//! `user.identify`: returns the user of this machine, as configured in git.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde::Serialize;
use thrum_core::{Error, ErrorKind};
use thrum_sync::blocking::blocking;

use crate::{daemon::Daemon, git};

/// Maximum time for git to read its configuration, as in Go's daemon.
const GIT: Duration = Duration::from_secs(5);

/// Maximum length of a user name in Go Thrum, in characters.
const MAX_USERNAME: usize = 32;

#[derive(Serialize)]
pub(super) struct Person {
    username: String,
    email: String,
    /// The name as configured in git.
    display: String,
}

pub(super) async fn identify(daemon: &Daemon) -> Result<Person, Error> {
    let root = daemon.repo.main_root().to_owned();
    let (name, email) = blocking(move || configured(&root)).await?;
    let username: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .take(MAX_USERNAME)
        .collect();
    if username.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "git knows no user.name in this repository")
            .hint("git config user.name \"YOUR NAME\""));
    }
    Ok(Person { username, email, display: name })
}

/// Returns `user.name` and `user.email`; empty if not set.
fn configured(root: &Path) -> Result<(String, String), Error> {
    let (args, deadline) = (["config", "--null", "--get-regexp", "^user\\.(name|email)$"], Instant::now() + GIT);
    match git::output(root, &args, deadline) {
        Some(said) => Ok(read(&String::from_utf8_lossy(&said))),
        None if Instant::now() >= deadline => {
            Err(Error::new(ErrorKind::TryAgain, format!("git did not answer within {} s", GIT.as_secs())))
        }
        // Git exits with an error if neither is set.
        None => Ok((String::new(), String::new())),
    }
}

/// Parses git's output. If a setting occurs several times, the last value counts, as in git.
fn read(said: &str) -> (String, String) {
    let value = |key: &str| {
        let of_key =
            |entry: &str| entry.split_once('\n').filter(|(name, _)| *name == key).map(|(_, value)| value.to_owned());
        said.split('\0').filter_map(of_key).next_back().unwrap_or_default()
    };
    (value("user.name"), value("user.email"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_setting_counts() {
        let said = "user.name\nGlobal\0user.email\ng@example.org\0user.name\nAnn of\nTwo Lines\0user.name";
        assert_eq!(read(said), ("Ann of\nTwo Lines".to_owned(), "g@example.org".to_owned()));
        assert_eq!(read(""), (String::new(), String::new()));
    }
}
