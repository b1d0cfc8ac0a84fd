//! `user.identify`: who sits at this machine, as git knows them.

use std::{path::Path, process::Stdio, time::Duration};

use serde::Serialize;
use thrum_core::{ErrorKind, Fault, limits};
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

use crate::daemon::Daemon;

/// Longest time git may take to read its configuration; Go's daemon gives it the same.
const GIT: Duration = Duration::from_secs(5);

/// Longest user name of Go Thrum, in characters.
const MAX_USERNAME: usize = 32;

#[derive(Serialize)]
pub(super) struct Person {
    username: String,
    email: String,
    /// The name as git has it.
    display: String,
}

pub(super) async fn identify(daemon: &Daemon) -> Result<Person, Fault> {
    let answer = timeout(GIT, configured(daemon.repo.main_root())).await;
    let late = || Fault::new(ErrorKind::TryAgain, format!("git did not answer within {} s", GIT.as_secs()));
    let (name, email) = answer.map_err(|_| late())??;
    let username: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).take(MAX_USERNAME).collect();
    if username.is_empty() {
        return Err(Fault::new(ErrorKind::NotFound, "git knows no user.name in this repository").hint("git config user.name \"YOUR NAME\""));
    }
    Ok(Person { username, email, display: name })
}

/// `user.name` and `user.email`; empty where they are not set.
async fn configured(root: &Path) -> Result<(String, String), Fault> {
    let failed = |error: std::io::Error| Fault::new(ErrorKind::Failed, format!("cannot ask git who you are: {error}"));
    let mut command = Command::new("git");
    command.args(["config", "--null", "--get-regexp", "^user\\.(name|email)$"]).current_dir(root).kill_on_drop(true);
    // Left by a hook that the daemon was started from, they would make git look at another repository.
    command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_COMMON_DIR");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(failed)?;
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(limits::MAX_SMALL_FILE_BYTES).read_to_end(&mut said).await.map_err(failed)?;
    }
    child.wait().await.map_err(failed)?;
    Ok(read(&String::from_utf8_lossy(&said)))
}

/// Of several settings the last counts, as for git.
fn read(said: &str) -> (String, String) {
    let value = |key: &str| {
        let of_key = |entry: &str| entry.split_once('\n').filter(|(name, _)| *name == key).map(|(_, value)| value.to_owned());
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
