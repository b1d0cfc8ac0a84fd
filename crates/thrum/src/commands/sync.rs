//! `thrum sync`: how replication with peers is going, and whether events are missing.

pub(crate) mod git;
mod verify;

use serde::Deserialize;
use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, Timestamp, limits, name::printable};

use crate::{
    answers::{Answer, SyncStatus},
    catch_up,
    commands::peer,
    context::Context,
    render::{
        Page, Render, boxed,
        style::{GREEN, YELLOW},
    },
    text::{count, quote},
    time,
};
use verify::Verified;

/// Show the state of replication, and verify that no events are missing
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show the last exchange of events with each peer
    #[command(after_help = "\
Examples:
  thrum sync status
  thrum sync status --json")]
    Status,
    /// Pull from all peers now, or from one of them
    #[command(after_help = "\
Examples:
  thrum sync force
  thrum sync force --from desk")]
    Force {
        /// Pull only from this peer, by name or daemon ID
        #[arg(long, value_name = "NAME")]
        from: Option<String>,
    },
    /// Compare all events with all peers, and fetch missing ones; waits up to 10 s for agreement
    #[command(after_help = "\
Missing events are listed by origin and number, and fetched from the peer that has them. Events that are missing on \
the peer are fetched by the peer. A Go Thrum peer cannot be compared.

Exit code 0: all daemons have the same events, possibly after fetching some. 1: events are still missing. 75: a peer \
cannot be asked, a purge is not due yet, or a daemon takes something with its next exchange through git.

Examples:
  thrum sync verify
  thrum sync verify --json")]
    Verify,
    /// List parked events, which have no effect yet, by peer and reason
    #[command(after_help = "\
For example, an event that changes a message is parked until the message arrives. Parked events are in the log and \
are replicated to other peers like all others.

Examples:
  thrum sync parked
  thrum sync parked --json")]
    Parked,
    /// Sync through a git remote: no server, no port
    #[command(subcommand)]
    Git(git::Command),
}

/// The answer to `sync.force`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Forced {
    results: Vec<ForcedPeer>,
    git: Option<ForcedGit>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ForcedGit {
    stored: u64,
    published: u64,
    waiting: u64,
    error: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ForcedPeer {
    peer: String,
    name: String,
    applied: u64,
    skipped: u64,
    error: Option<String>,
}

/// The answer to `sync.parked`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ParkedList {
    groups: Vec<Parked>,
    more: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Parked {
    /// The name of the peer that served these events; `None` if they were written or imported here.
    peer: Option<String>,
    reason: String,
    events: u64,
    waits: bool,
    last: ParkedEvent,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ParkedEvent {
    event_id: String,
    #[serde(rename = "type")]
    kind: String,
    origin_name: String,
    at: Option<Timestamp>,
    target: Option<String>,
    due: Option<Timestamp>,
}

impl Command {
    pub(crate) fn run(self, cx: &Context) -> Result<Box<dyn Render>, Error> {
        let mut client = cx.daemon()?;
        match self {
            Self::Git(command) => command.run(cx, &mut client),
            Self::Status => boxed(client.call::<Answer<SyncStatus>>("sync.status", json!({}))),
            Self::Force { from } => {
                let force = || client.call_within(limits::FORCE, "sync.force", json!({"from": from}));
                boxed(catch_up::with_progress::<Answer<Forced>>(cx, "Pulling from peers", force))
            }
            Self::Parked => boxed(client.call::<Answer<ParkedList>>("sync.parked", json!({}))),
            Self::Verify => {
                let _progress = cx.output.progress("Comparing with peers", None);
                let timeout_ms = u64::try_from(limits::VERIFY.as_millis()).unwrap_or(u64::MAX);
                boxed(client.call_within::<Answer<Verified>>(
                    limits::VERIFY,
                    "sync.verify",
                    json!({"timeout_ms": timeout_ms}),
                ))
            }
        }
    }
}

/// When events were last exchanged with a peer or through git, for people.
pub(crate) fn last_sync(status: &SyncStatus, page: &Page) -> String {
    let last = status.last_sync_at.as_deref().and_then(Timestamp::parse).filter(|at| *at > Timestamp::ZERO);
    let Some(last) = last else { return "never".to_owned() };
    let is_through_git = status.git.as_ref().is_some_and(|git| git.last_exchange_at == Some(last));
    format!("{}{}", page.time(last), if is_through_git { ", through git" } else { "" })
}

impl Render for Answer<SyncStatus> {
    fn human(&self, page: &mut Page) {
        let SyncStatus { last_error, sync_state, peers, local_only, sync_interval, git, .. } = &self.read;
        page.field("State", printable(sync_state));
        let reach = if *local_only { ", this machine only" } else { "" };
        page.field("Interval", format!("{}{reach}", time::brief(std::time::Duration::from_secs(*sync_interval))));
        page.field("Last sync", last_sync(&self.read, page));
        if let Some(error) = last_error.as_deref().filter(|error| !error.is_empty()) {
            page.field("Last error", printable(error));
        }
        if let Some(git) = git {
            git::show(git, page);
        }
        for one in peers {
            peer::show(one, page);
        }
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }
}

impl Render for Answer<ParkedList> {
    fn human(&self, page: &mut Page) {
        if self.read.groups.is_empty() {
            return page.line("Nothing is parked: every event has its effect");
        }
        for group in &self.read.groups {
            let ParkedEvent { event_id, kind, origin_name, at, target, due } = &group.last;
            let from =
                group.peer.as_deref().map_or_else(|| "written here".to_owned(), |peer| format!("from {}", quote(peer)));
            let mark = if group.waits { format!("{YELLOW}●{YELLOW:#}") } else { " ".to_owned() };
            let kept = match (group.waits, group.events) {
                (true, 1) => "waits",
                (true, _) => "wait",
                (false, 1) => "stays without effect",
                (false, _) => "stay without effect",
            };
            page.line(format!("{mark} {} {from} {kept}: {}", count(group.events, "event"), printable(&group.reason)));
            let at = at.map(|at| format!(", {}", page.time(at))).unwrap_or_default();
            let target = target.as_deref().map(|target| format!(" for {}", quote(target))).unwrap_or_default();
            let due = due.map(|due| format!("; due {}", time::exact(due))).unwrap_or_default();
            let last = if group.events == 1 { "" } else { "last: " };
            page.line(format!(
                "    {last}{} {}{target}, by {}{at}{due}",
                quote(kind),
                quote(event_id),
                quote(origin_name)
            ));
        }
        if self.read.more {
            page.line("More is parked than is listed");
        }
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }
}

impl Render for Answer<Forced> {
    fn human(&self, page: &mut Page) {
        for peer in &self.read.results {
            let name = quote(if peer.name.is_empty() { &peer.peer } else { &peer.name });
            match peer.error.as_deref().filter(|error| !error.is_empty()) {
                Some(error) => page.line(format!("{YELLOW}●{YELLOW:#} {name}  {}", printable(error))),
                None => page.line(format!("{GREEN}●{GREEN:#} {name}  {} new, {} known", peer.applied, peer.skipped)),
            }
        }
        if let Some(git) = &self.read.git {
            match &git.error {
                Some(error) => page.line(format!("{YELLOW}●{YELLOW:#} git  {}", printable(error))),
                None => page.line(format!("{GREEN}●{GREEN:#} git  {} new, {} published", git.stored, git.published)),
            }
            if git.waiting > 0 {
                let want = if git.waiting == 1 { "wants" } else { "want" };
                page.line(format!("{} {want} in: thrum sync git status", count(git.waiting, "daemon")));
            }
        }
        if self.read.results.is_empty() && self.read.git.is_none() {
            page.line("No peers to pull from");
        }
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }

    fn code(&self) -> u8 {
        let failed = self.read.results.iter().any(|peer| peer.error.as_deref().is_some_and(|error| !error.is_empty()))
            || self.read.git.as_ref().is_some_and(|git| git.error.is_some());
        if failed { ErrorKind::TryAgain.exit_code() } else { 0 }
    }
}
