//! `thrum sync`: how the exchange with peers is going, and whether anything is missing.

use serde_json::{Value, json};
use thrum_core::{ErrorKind, Fault, Stamp, limits, name::printable};

use crate::{
    cli::boxed,
    commands::peer,
    context::Context,
    render::{
        Page, Render,
        style::{GREEN, RED, YELLOW},
    },
    shapes::{Answer, Forced, SyncStatus, Verified},
    text::count,
    time,
};

/// See and prove that nothing is missing
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show when and with whom events were last exchanged
    #[command(after_help = "\
Examples:
  thrum sync status
  thrum sync status --json")]
    Status,
    /// Pull from all peers now, or from one
    #[command(after_help = "\
Examples:
  thrum sync force
  thrum sync force --from desk")]
    Force {
        /// Only from this peer, by name or daemon id
        #[arg(long, value_name = "NAME")]
        from: Option<String>,
    },
    /// Compare with all peers event by event; waits up to 10 s for agreement
    #[command(after_help = "\
Exit code 0: all hold the same. 1: something is missing, and it says what. 75: a peer cannot be asked, or a purge waits for its time.

Examples:
  thrum sync verify
  thrum sync verify --json")]
    Verify,
}

impl Command {
    pub(crate) fn run(self, cx: &Context) -> Result<Box<dyn Render>, Fault> {
        let mut client = cx.daemon()?;
        match self {
            Self::Status => boxed(client.call::<Answer<SyncStatus>>("sync.status", json!({}))),
            Self::Force { from } => {
                let _progress = cx.output.progress("Pulling from peers", None);
                boxed(client.call_within::<Answer<Forced>>(limits::FORCE, "sync.force", json!({"from": from})))
            }
            Self::Verify => {
                let _progress = cx.output.progress("Comparing with peers", None);
                let timeout_ms = u64::try_from(limits::VERIFY.as_millis()).unwrap_or(u64::MAX);
                boxed(client.call_within::<Answer<Verified>>(limits::VERIFY, "sync.verify", json!({"timeout_ms": timeout_ms})))
            }
        }
    }
}

impl Render for Answer<SyncStatus> {
    fn human(&self, page: &mut Page) {
        let SyncStatus { last_sync_at, last_error, sync_state, peers, local_only, sync_interval, .. } = &self.read;
        let last = last_sync_at.as_deref().and_then(Stamp::parse).filter(|at| *at > Stamp::ZERO);
        page.field("State", printable(sync_state));
        let reach = if *local_only { ", this machine only" } else { "" };
        page.field("Interval", format!("{}{reach}", time::brief(std::time::Duration::from_secs(*sync_interval))));
        page.field("Last sync", last.map_or_else(|| "never".to_owned(), |at| page.time(at)));
        if let Some(error) = last_error.as_deref().filter(|error| !error.is_empty()) {
            page.field("Last error", printable(error));
        }
        for one in peers {
            peer::show(one, page);
        }
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }
}

impl Render for Answer<Forced> {
    fn human(&self, page: &mut Page) {
        for peer in &self.read.results {
            let name = printable(if peer.name.is_empty() { &peer.peer } else { &peer.name });
            match peer.error.as_deref().filter(|error| !error.is_empty()) {
                Some(error) => page.line(format!("{YELLOW}●{YELLOW:#} {name}  {}", printable(error))),
                None => page.line(format!("{GREEN}●{GREEN:#} {name}  {} new, {} known", peer.applied, peer.skipped)),
            }
        }
        if self.read.results.is_empty() {
            page.line("No peers to pull from");
        }
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }

    fn code(&self) -> u8 {
        let failed = self.read.results.iter().any(|peer| peer.error.as_deref().is_some_and(|error| !error.is_empty()));
        if failed { ErrorKind::TryAgain.exit_code() } else { 0 }
    }
}

impl Render for Answer<Verified> {
    fn human(&self, page: &mut Page) {
        let Verified { status, events, peers } = &self.read;
        for peer in peers {
            let name = printable(&peer.name);
            match peer.status.as_str() {
                "equal" => {
                    let but = peer.error.as_deref().map(|but| format!(": {}", printable(but))).unwrap_or_default();
                    page.line(format!("{GREEN}●{GREEN:#} {name}  holds the same{but}"));
                }
                "differs" => {
                    let what = peer.error.as_deref().map(|what| format!(": {}", printable(what))).unwrap_or_default();
                    page.line(format!("{RED}●{RED:#} {name}  differs{what}"));
                }
                state => {
                    let why = peer.error.as_deref().map_or_else(|| state.replace('_', " "), str::to_owned);
                    let what = if state == "waiting" { "differs for now" } else { "not compared" };
                    page.line(format!("{YELLOW}●{YELLOW:#} {name}  {what}: {}", printable(&why)));
                }
            }
            for difference in &peer.differences {
                let known = peers.iter().find(|peer| peer.daemon_id == difference.origin);
                let (origin, log) = (printable(known.map_or(&difference.origin, |peer| &peer.name)), printable(&difference.log));
                let side = |held: u64, purged: u64| if purged > 0 { format!("{held} ({purged} purged)") } else { held.to_string() };
                let (here, there) = (side(difference.here, difference.purged_here), side(difference.there, difference.purged_there));
                page.line(format!("    of {origin} (log {log}): {here} here, {there} there"));
            }
        }
        page.line(match status.as_str() {
            "equal" => format!("Nothing is missing: {} on every side", count(*events, "event")),
            "differs" => "Something is missing".to_owned(),
            "waiting" => "A purge has yet to come; compare again after it".to_owned(),
            "no_peers" => "There is no peer to compare with".to_owned(),
            _ => "Not every peer could be asked".to_owned(),
        });
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }

    fn code(&self) -> u8 {
        match self.read.status.as_str() {
            "equal" => 0,
            "differs" => ErrorKind::Failed.exit_code(),
            _ => ErrorKind::TryAgain.exit_code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(raw: Value) -> (String, u8) {
        let answer: Answer<Verified> = serde_json::from_value(raw).unwrap();
        let mut page = Page::new(None, Stamp::ZERO);
        answer.human(&mut page);
        (page.plain(), answer.code())
    }

    #[test]
    fn what_is_missing_is_named_by_origin_and_is_exit_code_one() {
        let peers = json!([
            {"name": "desk", "daemon_id": "d_k", "status": "differs",
             "differences": [{"origin": "d_kabc", "log": "77", "here": 4, "there": 3}, {"origin": "d_go", "log": "78", "here": 0, "there": 9}]},
            {"name": "old", "daemon_id": "d_go", "status": "unreachable", "differences": [], "error": "it cannot be compared"},
        ]);
        let text = "\
● desk  differs
    of d_kabc (log 77): 4 here, 3 there
    of old (log 78): 0 here, 9 there
● old  not compared: it cannot be compared
Something is missing
";
        let raw = json!({"status": "differs", "events": 4, "projection": "00", "peers": peers});
        assert_eq!(verified(raw), (text.to_owned(), 1));
    }

    #[test]
    fn a_peer_that_cannot_be_asked_is_try_again_and_agreement_is_success() {
        let of = |status: &str| verified(json!({"status": status, "events": 1, "peers": []})).1;
        assert_eq!([of("equal"), of("differs"), of("unreachable"), of("waiting"), of("no_peers")], [0, 1, 75, 75, 75]);
    }

    #[test]
    fn what_was_purged_is_said_beside_what_is_held() {
        let peer = |status: &str, differences: Value| json!({"name": "desk", "daemon_id": "d_k", "status": status, "differences": differences, "error": "a purge waits there"});
        let difference = json!([{"origin": "d_k", "log": "77", "here": 4, "there": 9, "purged_here": 6}]);
        let raw = json!({"status": "waiting", "events": 4, "peers": [peer("waiting", difference), peer("equal", json!([]))]});
        let text = "\
● desk  differs for now: a purge waits there
    of desk (log 77): 4 (6 purged) here, 9 there
● desk  holds the same: a purge waits there
A purge has yet to come; compare again after it
";
        assert_eq!(verified(raw), (text.to_owned(), 75));
    }
}
