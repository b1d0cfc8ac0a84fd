//! `thrum sync git`: sync through a git remote.

mod log;

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, Timestamp, limits, name::printable};

use crate::{
    answers::{Answer, GitDaemon, GitStatus},
    client::Client,
    context::Context,
    render::{
        Page, Render, boxed,
        style::{GREEN, YELLOW},
    },
    text::{count, quote},
    time,
};

/// Sync through a git remote: no server, no port
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Share events through a git remote of this repository, from now on
    #[command(after_help = "\
Every clone that does this shares one mailbox through the remote. Each daemon has one ref there, refs/thrum/ID; \
branches, tags and the working tree stay as they are. Push access is no identity: the events of a daemon are stored \
once its user is trusted (thrum sync git trust). Paired daemons are trusted.

Without --remote, the remote of the current branch is used, else origin, else the only one. A remote that can be read \
without credentials is refused, unless --encrypt is given.

Examples:
  thrum sync git on
  thrum sync git on --remote origin --encrypt")]
    On {
        /// The git remote, by name or URL
        #[arg(long, value_name = "NAME")]
        remote: Option<String>,
        /// Encrypt what is published, so that only trusted daemons read it
        #[arg(long)]
        encrypt: bool,
    },
    /// Stop sharing events through git
    #[command(after_help = "\
What was published stays on the remote, where others may not have read it yet, unless --remove is given.

Examples:
  thrum sync git off
  thrum sync git off --remove")]
    Off {
        /// Remove what this daemon published from the remote
        #[arg(long)]
        remove: bool,
    },
    /// Show the remote, the last exchange, and the daemons on it
    #[command(after_help = "\
Exit code 0: sync through git works, or is off. 75: the last exchange failed.

Examples:
  thrum sync git status
  thrum sync git status --json")]
    Status,
    /// Show what happened in the exchanges, newest last; exchanges without news are left out
    #[command(after_help = "\
Shown are events that were stored and published, failures and their ends, daemons that were seen for the first time, \
trusted, distrusted or are gone, and when it was switched on and off. A failure that repeats is one entry. The newest \
500 entries are kept.

Examples:
  thrum sync git log
  thrum sync git log --limit 100 --json")]
    Log {
        /// Maximum number of entries
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=500))]
        limit: u64,
    },
    /// Store the events of daemons that were seen on the remote
    #[command(after_help = "\
Compare the fingerprint with the one that `thrum sync git status` shows there. Who trusts this daemon trusts those \
that it trusts, too. If one of several names is unknown or ambiguous, nothing is changed.

Examples:
  thrum sync git trust desk attic
  thrum sync git trust 2gx5-mkqp-4wzt-a7bd")]
    Trust {
        /// The daemons' names, fingerprints or IDs
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Store no more events of daemons on the remote, whoever vouches for them
    #[command(after_help = "\
Events that are stored already stay. Without --encrypt, that daemon can still read what this one publishes; with it, \
everything is published again with another key, which that daemon does not get. If one of several names is unknown or \
ambiguous, nothing is changed.

Examples:
  thrum sync git untrust desk attic
  thrum sync git untrust 2gx5-mkqp-4wzt-a7bd")]
    Untrust {
        /// The daemons' names, fingerprints or IDs
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

impl Command {
    pub(crate) fn run(self, cx: &Context, client: &mut Client) -> Result<Box<dyn Render>, Error> {
        let (method, params) = match self {
            Self::Log { limit } => {
                return boxed(client.call::<Answer<log::GitLog>>("git.log", json!({"limit": limit})));
            }
            Self::Status => ("git.status", json!({})),
            Self::On { remote, encrypt } => ("git.on", json!({"remote": remote, "encrypt": encrypt})),
            Self::Off { remove } => ("git.off", json!({"remove": remove})),
            Self::Trust { names } => ("git.trust", json!({"names": names})),
            Self::Untrust { names } => ("git.untrust", json!({"names": names})),
        };
        let _progress = cx.output.progress("Exchanging events with the remote", None);
        boxed(client.call_within::<Answer<GitStatus>>(limits::GIT_EXCHANGE, method, params))
    }
}

impl Render for Answer<GitStatus> {
    fn human(&self, page: &mut Page) {
        show(&self.read, page);
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }

    fn code(&self) -> u8 {
        if self.read.state == "failing" { ErrorKind::TryAgain.exit_code() } else { 0 }
    }
}

/// Maximum number of daemons that are named in one line.
const NAMED: usize = 8;

/// Lists names, the first ones if there are many.
fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names[..names.len().min(NAMED)].join(", "))
}

/// Returns `true` for a trusted daemon that publishes in clear, although this one encrypts.
fn is_in_clear(status: &GitStatus, one: &GitDaemon) -> bool {
    status.encrypted && one.state == "trusted" && one.encrypted == Some(false)
}

/// Shows the refs of this daemon where it published before.
fn show_left_behind(status: &GitStatus, page: &mut Page) {
    for left in &status.left_behind {
        let (reference, remote) = (printable(&left.reference), quote(&left.remote));
        let reason = left.reason.as_deref().map(|reason| format!(": {}", printable(reason))).unwrap_or_default();
        page.line(format!("{YELLOW}Still published:{YELLOW:#} {reference} at {remote}{reason}"));
    }
}

/// Shows the state of sync through git.
pub(crate) fn show(status: &GitStatus, page: &mut Page) {
    let Some(remote) = &status.remote else {
        match &status.last_error {
            Some(error) => page.field("Git", format!("failing: {}", printable(error))),
            None => page.field("Git", "off"),
        }
        return show_left_behind(status, page);
    };
    let encrypted = if status.encrypted { ", encrypted" } else { "" };
    page.field("Git", format!("{} through {}{encrypted}", printable(&status.state), quote(remote)));
    page.field("This daemon", printable(&status.own_fingerprint));
    let time = |at: Option<Timestamp>, page: &Page| at.map_or_else(|| "never".to_owned(), |at| page.time(at));
    let (exchanged, published) = (time(status.last_exchange_at, page), time(status.last_published_at, page));
    page.field("Exchanged", format!("{exchanged}, published {published}"));
    if let Some(error) = &status.last_error {
        page.field("Last error", printable(error));
    }
    if let Some(next) = status.next_exchange_at {
        page.field("Next", time::exact(next));
    }
    for one in &status.daemons {
        let is_fine = one.state == "trusted" && one.reason.is_none() && !is_in_clear(status, one);
        let color = if is_fine { GREEN } else { YELLOW };
        let mut about = vec![printable(&one.state)];
        if let Some(at) = one.published_at {
            about.push(format!("published {}", page.time(at)));
        }
        if is_in_clear(status, one) {
            about.push("not encrypted".to_owned());
        }
        for (number, what) in [
            (one.missing_here, "missing here"),
            (one.missing_there, "missing there"),
            (one.purged, "published there although purged here"),
        ] {
            if number > 0 {
                about.push(format!("{} {what}", count(number, "event")));
            }
        }
        about.extend(one.reason.as_deref().map(printable));
        page.line(format!("{color}●{color:#} {}  {}  {}", quote(&one.name), one.fingerprint, about.join(", ")));
    }
    let in_clear = status.daemons.iter().filter(|one| is_in_clear(status, one));
    let in_clear: Vec<String> = in_clear.map(|one| quote(&one.name)).collect();
    if !in_clear.is_empty() {
        let (names, are) = (listed(&in_clear), if in_clear.len() == 1 { "publishes" } else { "publish" });
        page.line(format!(
            "{YELLOW}Not encrypted:{YELLOW:#} {names} still {are} in clear; there: thrum sync git on --encrypt"
        ));
    }
    if status.left_out > 0 {
        let (daemons, what) =
            (count(status.left_out, "daemon"), "that nobody trusts here: together they publish too much");
        page.line(format!("{YELLOW}Not looked at:{YELLOW:#} {daemons} {what}"));
    }
    show_left_behind(status, page);
    for one in &status.waiting {
        let seen = one.first_seen.map(|at| format!(", first seen {}", page.time(at))).unwrap_or_default();
        page.line(format!("{YELLOW}●{YELLOW:#} {}  {}  wants in{seen}", quote(&one.name), one.fingerprint));
    }
    if let Some(one) = status.waiting.first() {
        page.line(format!("After comparing the fingerprint: thrum sync git trust {}", one.fingerprint));
    }
}
