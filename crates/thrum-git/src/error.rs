//! Errors of the exchange through git.

use std::{io, time::Duration};

use thrum_core::{Error, ErrorKind};

use crate::{limits, process::Output};

/// The reason why an exchange, or a part of it, failed. A later exchange may succeed, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// `git` could not be started or watched.
    #[error("cannot run git: {0}")]
    NotRun(io::Error),
    /// `git` is too old. A retry helps only once another one is installed.
    #[error("git {found} is too old for sync through git, which needs {oldest}")]
    TooOld {
        /// The version of git.
        found: String,
        /// The oldest version that will do.
        oldest: String,
    },
    /// The daemon is stopping.
    #[error("stopped")]
    Stopped,
    /// `git` took too long, or made no progress.
    #[error("`git {what}` made no progress for {} seconds and was ended", time.as_secs())]
    Late {
        /// The git command.
        what: String,
        /// The time that it was given.
        time: Duration,
    },
    /// The remote sent more than a fetch may bring.
    #[error("the remote sent more than {} MB at once, and was cut off", limits::MAX_FETCH_BYTES >> 20)]
    TooMuch,
    /// `git` printed more than anything that it was asked for.
    #[error("`git {what}` printed too much")]
    TooLong {
        /// The git command.
        what: String,
    },
    /// `git` failed.
    #[error("`git {what}` failed: {why}")]
    Failed {
        /// The git command.
        what: String,
        /// The last line that says something of standard error.
        why: String,
    },
    /// The remote does not take our ref.
    #[error("the remote does not take {reference}: {why}")]
    Rejected {
        /// The ref.
        reference: String,
        /// The remote's reason.
        why: String,
    },
    /// Somebody else changed our ref after it was read.
    #[error("the ref of this daemon was changed or locked by somebody else meanwhile; it is tried again")]
    LostLease,
    /// An error of the log or of our files.
    #[error("{0}")]
    Log(#[from] Error),
}

impl GitError {
    pub(crate) fn failed(args: &[&str], output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;

        let what = args.first().copied().unwrap_or_default().to_owned();
        let why = match output.status.signal() {
            Some(signal) => format!("it was ended by signal {signal}"),
            None => reason(&output.stderr),
        };
        Self::Failed { what, why }
    }
}

impl From<GitError> for Error {
    fn from(error: GitError) -> Self {
        match error {
            GitError::Log(error) => error,
            // The remote has no room, or takes less at once. The name of the ref does not matter then.
            GitError::Rejected { ref why, .. } if why.contains("unpacker error") => {
                Self::new(ErrorKind::TryAgain, error.to_string())
            }
            GitError::Rejected { .. } => Self::new(ErrorKind::Refused, error.to_string())
                .hint("thrum config set git.ref_prefix refs/heads/thrum/"),
            GitError::TooOld { .. } => Self::new(ErrorKind::Failed, error.to_string())
                .hint("Install a newer git where the daemon finds it first, then: thrum daemon restart"),
            GitError::Stopped => Self::new(ErrorKind::Unavailable, "the daemon is stopping"),
            other => {
                let text = other.to_string();
                let wants = ["could not read Username", "could not read Password", "Authentication failed"];
                let hint = if wants.iter().any(|one| text.contains(one)) {
                    Some("`git fetch` must work without asking: set up a credential helper for this host.")
                } else if text.contains("Permission denied (publickey") {
                    Some("`git fetch` must work without asking: ssh-add, then thrum daemon restart.")
                } else if text.contains("does not appear to be a git repository") || text.contains("not found") {
                    Some("git remote -v")
                } else {
                    None
                };
                let error = Self::new(ErrorKind::TryAgain, text);
                match hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }
        }
    }
}

/// Beginnings of lines that say nothing about a failure: progress, and what a push says of every ref.
const NO_REASON: [&str; 13] = [
    "Enumerating objects",
    "Counting objects",
    "Delta compression",
    "Compressing objects",
    "Writing objects",
    "Receiving objects",
    "Resolving deltas",
    "Unpacking objects",
    "Total ",
    "POST git-",
    "To ",
    "! [",
    "error: failed to push some refs",
];

/// The line of git's standard error that says what went wrong: the first that begins as an error, or the one before it
/// if that was printed by ssh, or else the first that the remote says, or else the last line.
pub(crate) fn reason(stderr: &str) -> String {
    let says = |line: &&str| {
        let of_remote = line.strip_prefix("remote: ").unwrap_or(line);
        !line.is_empty() && *line != "remote:" && !NO_REASON.iter().any(|begin| of_remote.starts_with(begin))
    };
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(says).collect();
    let begins =
        |line: &&str| ["fatal:", "error:", "remote: fatal:", "remote: error:"].iter().any(|one| line.starts_with(one));
    let line = match lines.iter().position(begins) {
        Some(at) if at > 0 && lines[at].ends_with("Could not read from remote repository.") => lines[at - 1],
        Some(at) => lines[at],
        None => {
            let of_remote = lines.iter().find(|line| line.starts_with("remote: "));
            of_remote.or(lines.last()).copied().unwrap_or("it does not say why")
        }
    };
    without_passwords(line.trim_start_matches("fatal: ").trim_start_matches("error: "))
}

/// Replaces the passwords of URLs in a text. Git leaves them out itself, but ssh and remote helpers print what they were
/// given.
fn without_passwords(text: &str) -> String {
    let shown = |word: &str| {
        let begin = word.find("://").map_or(0, |at| at + "://".len());
        let end = word[begin..].find('/').map_or(word.len(), |at| begin + at);
        let credentials = word[begin..end].rsplit_once('@').and_then(|(credentials, _)| credentials.split_once(':'));
        match credentials {
            Some((name, password)) => {
                let at = begin + name.len() + 1;
                format!("{}***{}", &word[..at], &word[at + password.len()..])
            }
            None => word.to_owned(),
        }
    };
    text.split_inclusive([' ', '\'', '"']).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_has_the_password_of_a_url() {
        for (stderr, said) in [
            (
                "fatal: unable to access 'https://ann:s3cret@example.com/a.git/': no",
                "unable to access 'https://ann:***@example.com/a.git/': no",
            ),
            ("ann:s3cr@t@example.com: Permission denied", "ann:***@example.com: Permission denied"),
            ("fatal: https://:token@[::1]:80/a@b:c", "https://:***@[::1]:80/a@b:c"),
            ("git@example.com:a/b.git: no \u{e4}:\u{f6}@\u{fc}", "git@example.com:a/b.git: no \u{e4}:***@\u{fc}"),
            ("fatal: 'ssh://git@example.com:22/a:b@c' is gone", "'ssh://git@example.com:22/a:b@c' is gone"),
        ] {
            assert_eq!(reason(stderr), said);
        }
    }

    #[test]
    fn the_reason_is_the_line_that_says_most() {
        for (stderr, said) in [
            (
                "fatal: '/srv/x.git' does not appear to be a git repository\nfatal: Could not read from remote repository.\n",
                "'/srv/x.git' does not appear to be a git repository",
            ),
            (
                "git@example.com: Permission denied (publickey).\nfatal: Could not read from remote repository.\n\nPlease",
                "git@example.com: Permission denied (publickey).",
            ),
            ("Enumerating objects: 3\nremote: error: no room\nTo x", "remote: error: no room"),
            (
                "Writing objects: 100% (3/3), done.\nTotal 3 (delta 0), reused 0 (delta 0), pack-reused 0\nremote: no pushes on Sundays\nTo /srv/a.git\n ! [remote rejected] a -> b (pre-receive hook declined)\nerror: failed to push some refs to '/srv/a.git'",
                "remote: no pushes on Sundays",
            ),
            ("Counting objects: 3\nTotal 3 (delta 0)", "it does not say why"),
            ("something", "something"),
            ("", "it does not say why"),
        ] {
            assert_eq!(reason(stderr), said);
        }
    }
}
