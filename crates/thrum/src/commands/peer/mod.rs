//! `thrum peer`: pairs with other machines, or other repositories on this one, and shows their state.

pub(crate) mod add;
pub(crate) mod join;
pub(crate) mod ping;
mod typed;
mod watch;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use thrum_core::{Error, Timestamp, limits::CLOCK_OFF, name::printable};

use crate::{
    answers::{self, Answer, Peer},
    context::Context,
    render::{
        OneLine, Page, Render, boxed,
        style::{BOLD, DIM, GREEN, RED, YELLOW},
    },
    text::{count, quote},
    time,
};

/// Pair with other daemons, and show and manage peers
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Add(add::Args),
    Join(join::Args),
    /// List the paired peers
    #[command(after_help = "\
Examples:
  thrum peer list
  thrum peer list --json")]
    List,
    Ping(ping::Args),
    /// Remove a peer, and notify it
    #[command(after_help = "\
With --forget, the events that came from the peer are removed from this database, except those written by this \
daemon or by a peer that is still paired. The removal runs in the background and continues after a restart of the \
daemon. If the peer is paired again, all events that it still has are fetched again. Events of Go Thrum can also \
return through another peer that has them.

Examples:
  thrum peer remove desk
  thrum peer remove desk --forget
  thrum peer remove desk --quiet")]
    Remove {
        /// The name or daemon ID of the peer
        #[arg(value_name = "NAME")]
        name: String,
        /// Also remove the peer's events to free disk space. Accepts the daemon ID of a peer that was removed before
        #[arg(long)]
        forget: bool,
    },
    /// Rename a peer on this machine; otherwise it has the name that it gives itself
    #[command(after_help = "\
Examples:
  thrum peer rename desk tower
  thrum peer rename desk tower --json")]
    Rename {
        /// The name or daemon ID of the peer
        #[arg(value_name = "NAME")]
        name: String,
        /// The new name of the peer on this machine
        #[arg(value_name = "NEW")]
        new_name: String,
    },
    /// Show for each peer whether it is reachable, what each side has read, and the backlog
    #[command(after_help = "\
With --watch, the peers are shown again whenever something changes, until Ctrl-C, with the progress of a catch-up. A \
pipe gets one block, or with --json one line, for each change.

Examples:
  thrum peer status
  thrum peer status --json")]
    Status {
        /// Go on until Ctrl-C, and show every change
        #[arg(long)]
        watch: bool,
    },
}

impl Command {
    pub(crate) fn run(self, cx: &Context) -> Result<Box<dyn Render>, Error> {
        match self {
            Self::Add(args) => boxed(add::run(&args, cx)),
            Self::Join(args) => boxed(join::run(&args, cx)),
            Self::List => boxed(list(cx)),
            Self::Ping(args) => boxed(ping::run(&args, cx)),
            Self::Remove { name, forget } => boxed(remove(&name, forget, cx)),
            Self::Rename { name, new_name } => boxed(rename(&name, &new_name, cx)),
            Self::Status { watch: true } => watch::run(cx),
            Self::Status { watch: false } => {
                let peers = cx.daemon()?.call("peer.status", json!({}));
                boxed(peers.map(|peers| Details { peers, progress: BTreeMap::new() }))
            }
        }
    }
}

/// The peers as a table.
struct List(Answer<Vec<Peer>>);

/// The peers with their details.
struct Details {
    peers: Answer<Vec<Peer>>,
    /// By daemon id: how many events of a catch-up in progress were read, and how many there are.
    progress: BTreeMap<String, (u64, u64)>,
}

fn list(cx: &Context) -> Result<List, Error> {
    cx.daemon()?.call("peer.list", json!({})).map(List)
}

fn rename(name: &str, new_name: &str, cx: &Context) -> Result<OneLine, Error> {
    let mut params = if name.starts_with("d_") { json!({"daemon_id": name}) } else { json!({"name": name}) };
    params["new_name"] = new_name.into();
    let value: Value = cx.daemon()?.call("peer.rename", params)?;
    Ok(OneLine { line: format!("{} is called {} now", quote(name), quote(new_name)), value })
}

fn remove(name: &str, forget: bool, cx: &Context) -> Result<OneLine, Error> {
    let mut params = if name.starts_with("d_") { json!({"daemon_id": name}) } else { json!({"name": name}) };
    if forget {
        params["forget"] = true.into();
    }
    let value: Value = cx.daemon()?.call("peer.remove", params)?;
    let dropped = if forget { "; its events are being removed" } else { "" };
    Ok(OneLine { line: format!("Removed {}{dropped}", quote(name)), value })
}

impl Render for List {
    fn human(&self, page: &mut Page) {
        let peers = &self.0.read;
        if peers.is_empty() {
            return none(page);
        }
        let row = |peer: &Peer| {
            vec![quote(&peer.name), quote(&peer.address), peer.state.replace('_', " "), last_sync(peer, page)]
        };
        let rows = peers.iter().map(row).collect();
        page.table(&["NAME", "ADDRESS", "STATE", "LAST SYNC"], rows);
        for peer in peers {
            over_quota(peer, "", page);
        }
    }

    fn json(&self) -> Value {
        self.0.raw.clone()
    }
}

impl Render for Details {
    fn human(&self, page: &mut Page) {
        if self.peers.read.is_empty() {
            return none(page);
        }
        for peer in &self.peers.read {
            show(peer, page);
            if let Some((read, all)) = self.progress.get(&peer.daemon_id) {
                page.line(format!("    {} {read} of {all} events read", bar(*read, *all)));
            }
            page.line(format!("    {DIM}{}{DIM:#}", quote(&peer.daemon_id)));
        }
    }

    fn json(&self) -> Value {
        self.peers.raw.clone()
    }
}

/// Draws how much of `all` is done, in 20 characters and a percentage.
fn bar(done: u64, all: u64) -> String {
    let part = |of: u64| usize::try_from(done.saturating_mul(of) / all.max(1)).unwrap_or(usize::MAX);
    let full = part(20).min(20);
    format!("{}{} {:>3}%", "█".repeat(full), "░".repeat(20 - full), part(100).min(100))
}

/// Formats the time of the last sync with a peer.
fn last_sync(peer: &Peer, page: &Page) -> String {
    peer.last_sync_at.map_or_else(|| "never".to_owned(), |at| page.time(at))
}

fn none(page: &mut Page) {
    page.line("No peers yet (thrum peer add on one machine, thrum peer join on the other)");
}

/// Shows one peer: whether it is reachable and since when, how far each side has read the other, what is waiting, what
/// went wrong, and the next attempt.
pub(crate) fn show(peer: &Peer, page: &mut Page) {
    let style = match peer.state.as_str() {
        "connected" => GREEN,
        "removed_us" => RED,
        _ => YELLOW,
    };
    let since = peer.since.map(|at| format!(" {}", page.lasting(at))).unwrap_or_default();
    let paired_by =
        peer.details.paired_by.as_deref().map(|way| format!(", paired by {}", quote(way))).unwrap_or_default();
    let transport = peer.transport.as_deref().map(|name| format!(" ({}{paired_by})", quote(name))).unwrap_or_default();
    let version =
        peer.exchange.version.as_deref().map(|version| format!("  version {}", quote(version))).unwrap_or_default();
    page.line(format!(
        "{style}●{style:#} {BOLD}{}{BOLD:#}  {}{since}  {}{transport}{version}",
        quote(&peer.name),
        printable(&peer.state.replace('_', " ")),
        quote(&peer.address),
    ));
    whereabouts(peer, page);
    if peer.details.asked_over_its_connection {
        page.line(format!(
            "    {YELLOW}It cannot be dialled there; it is asked over a connection that it opened{YELLOW:#}"
        ));
    }
    if peer.details.asks_over_our_connection {
        page.line(format!(
            "    {YELLOW}It cannot dial this daemon; it asks over a connection that was opened from here{YELLOW:#}"
        ));
    }
    page.line(format!("    {}", progress(peer)));
    over_quota(peer, "    ", page);
    if peer.details.parked + peer.details.rejected > 0 {
        page.line(format!("    {} parked, {} rejected", peer.details.parked, peer.details.rejected));
    }
    if let Some(last) = &peer.details.last_rejected {
        let at = page.time(last.at);
        let (id, reason) = (quote(&last.event_id), printable(&last.reason));
        page.line(format!("    {YELLOW}Last rejected {at}: {id}: {reason}{YELLOW:#}"));
    }
    if let Some(repaired) = &peer.details.repaired {
        let at = page.time(repaired.at);
        let note = repaired.note.as_deref().map(|note| format!(": {}", printable(note))).unwrap_or_default();
        if repaired.missing_here > 0 {
            let what = count(repaired.missing_here, "event");
            page.line(format!("    {YELLOW}It claims to hold {what} missing here{note} (thrum sync verify){YELLOW:#}"));
        } else if repaired.fetched == 0 && repaired.missing_there == 0 {
            // Nothing was reconciled, so show only a problem.
            if repaired.note.is_some() {
                page.line(format!("    {DIM}Not all could be compared with it {at}{note}{DIM:#}"));
            }
        } else {
            let (here, there) = (count(repaired.fetched, "event"), count(repaired.missing_there, "event"));
            page.line(format!("    {DIM}Repaired {at}: {here} missing here, {there} missing there{note}{DIM:#}"));
        }
    }
    for skipped in &peer.details.skipped {
        let (id, kind) = (quote(&skipped.event_id), quote(&skipped.r#type));
        page.line(format!("    {YELLOW}It refuses {id} ({kind}); that event is skipped for it{YELLOW:#}"));
    }
    for note in &peer.details.notes {
        page.line(format!("    {YELLOW}{}{YELLOW:#}", printable(note)));
    }
    if let Some(offset) =
        peer.exchange.clock_offset_ms.filter(|offset| u128::from(offset.unsigned_abs()) > CLOCK_OFF.as_millis())
    {
        let direction = if offset > 0 { "ahead" } else { "behind" };
        let by = time::brief(std::time::Duration::from_millis(offset.unsigned_abs()));
        page.line(format!("    {YELLOW}Its clock is {by} {direction}{YELLOW:#}"));
    }
    if let Some(error) =
        peer.exchange.last_error.as_deref().filter(|error| !error.is_empty() && peer.exchange.over_quota.is_none())
    {
        let next =
            peer.exchange.next_attempt.map(|at| format!("; {}", next_attempt(at, page.now()))).unwrap_or_default();
        page.line(format!("    {DIM}Last error: {}{next}{DIM:#}", printable(error)));
    }
}

/// Shows that a peer is over quota and not read any further, and what the user can do about it.
fn over_quota(peer: &Peer, indent: &str, page: &mut Page) {
    let Some(over) = peer.exchange.over_quota else { return };
    let ((what, key), name) = (answers::over_quota(over), printable(&peer.name));
    page.line(format!(
        "{indent}{YELLOW}{name} is over quota and read no further: {what}. What is left waits there{YELLOW:#}"
    ));
    page.line(format!(
        "{indent}{DIM}thrum config set {key} NUMBER reads on; thrum peer remove {name} --forget makes room{DIM:#}"
    ));
}

/// Shows the peer's node and network path, a move to another node, and other nodes that used its token.
fn whereabouts(peer: &Peer, page: &mut Page) {
    if let Some(node) = &peer.details.node {
        let path = peer.details.path.as_ref().map(|path| format!(", {}", answers::route(path))).unwrap_or_default();
        page.line(format!("    On {}{path}", answers::node(node)));
    }
    if let Some(node) = &peer.details.calls_from {
        page.line(format!("    Calls from {}", answers::node(node)));
    }
    let mut lines = Vec::new();
    if let Some(moved) = &peer.details.moved {
        let (from, to) = (answers::node(&moved.from), answers::node(&moved.to));
        lines.push(format!("    Moved from {from} to {to} {}", page.time(moved.at)));
    }
    if let Some(misuse) = &peer.details.refused {
        let times = if misuse.times == 1 { String::new() } else { format!(", the last of {} times", misuse.times) };
        let (node, at) = (answers::node(&misuse.node), page.time(misuse.at));
        lines.push(format!(
            "    {RED}Its token was used from {node} {at}{times}: refused. Pair again if it has been copied{RED:#}"
        ));
    }
    if let Some(misuse) = &peer.details.refused_there {
        let (node, at) = (answers::node(&misuse.node), page.time(misuse.at));
        lines.push(format!(
            "    {RED}It refused {node}, which used the token that it shares with us {at}. Pair again if it has been copied{RED:#}"
        ));
    }
    lines.iter().for_each(|line| page.line(line));
}

fn next_attempt(at: Timestamp, now: Timestamp) -> String {
    match at.since(now) {
        soon if soon.as_secs() == 0 => "trying again now".to_owned(),
        left => format!("next attempt in {}", time::brief(left)),
    }
}

/// Describes the progress of both sides: `read by us: all; read by them: 2 waiting`. Sequence numbers are not shown:
/// they have gaps, some of them large, so they mean nothing to users.
fn progress(peer: &Peer) -> String {
    let sides = [
        ("us", peer.read_by_us, peer.exchange.their_latest, peer.details.backlog_from_them),
        ("them", peer.exchange.read_by_them, peer.our_latest, peer.details.backlog_to_them),
    ];
    let side = |(who, read, latest, waiting): (&str, Option<u64>, Option<u64>, Option<u64>)| {
        let what = match (waiting, read.zip(latest)) {
            (Some(0), _) => "all".to_owned(),
            (Some(waiting), _) => format!("{waiting} waiting"),
            (None, Some((read, latest))) if read >= latest => "all".to_owned(),
            (None, Some(_)) => "not all".to_owned(),
            (None, None) => "unknown".to_owned(),
        };
        format!("read by {who}: {what}")
    };
    sides.map(side).join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_the_share_that_is_done() {
        assert_eq!(bar(0, 400), "░░░░░░░░░░░░░░░░░░░░   0%");
        assert_eq!(bar(101, 400), "█████░░░░░░░░░░░░░░░  25%");
        assert_eq!(bar(400, 400), "████████████████████ 100%");
        assert_eq!((bar(0, 0), bar(9, 0)), (bar(0, 1), bar(1, 1)));
    }

    fn shown(peer: Value, width: Option<u16>) -> String {
        let mut page = Page::new(width, Timestamp::parse("2026-11-23T10:05:00Z").unwrap());
        show(&serde_json::from_value(peer).unwrap(), &mut page);
        page.plain()
    }

    #[test]
    fn i11_a_peer_that_is_silent_shows_since_when_what_waits_why_and_what_comes_next() {
        let peer = json!({
            "name": "desk", "daemon_id": "d_k", "address": "127.0.0.1:9101", "transport": "local", "state": "unreachable",
            "since": "2026-11-23T10:00:00Z", "last_error": "connection refused", "next_attempt": "2026-11-23T10:05:04.5Z",
            "read_by_us": 12, "their_latest": 12, "read_by_them": 7, "our_latest": 9, "backlog_from_them": 0, "backlog_to_them": 2,
            "parked": 1, "rejected": 0, "clock_offset_ms": -1_200_000,
        });
        let text = "\
● desk  unreachable 5m  127.0.0.1:9101 (local)
    read by us: all; read by them: 2 waiting
    1 parked, 0 rejected
    Its clock is 20m behind
    Last error: connection refused; next attempt in 4s
";
        assert_eq!(shown(peer.clone(), Some(80)), text);
        assert_eq!(
            shown(peer, None).lines().next(),
            Some("● desk  unreachable since 2026-11-23T10:00:00Z  127.0.0.1:9101 (local)")
        );
    }

    #[test]
    fn an_event_that_a_legacy_peer_refuses_is_shown() {
        let skipped = json!([{"event_id": "evt_1", "type": "message.edit", "since": "2026-11-23T10:00:00Z"}]);
        let peer = json!({"name": "desk", "address": "100.64.0.2:9100", "state": "connected", "parked": 0, "rejected": 0, "skipped": skipped});
        let text = shown(peer, Some(80));
        assert!(text.ends_with("    It refuses evt_1 (message.edit); that event is skipped for it\n"), "{text}");
    }

    #[test]
    fn warnings_about_a_peer_have_their_own_lines() {
        let notes =
            json!(["2 events are too long for the journal of a Go daemon\u{1b} and not sent to it: evt_1, evt_2"]);
        let peer = json!({"name": "desk", "address": "100.64.0.2:9100", "state": "connected", "notes": notes});
        let text = shown(peer, Some(120));
        assert!(
            text.ends_with(
                "    2 events are too long for the journal of a Go daemon\\u{1b} and not sent to it: evt_1, evt_2\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_peer_on_a_tailnet_shows_node_user_path_moves_and_token_misuse() {
        let node = |name: &str, user: &str| json!({"id": "n", "name": name, "user": user});
        let peer = json!({
            "name": "desk", "address": "100.64.0.2:9100", "transport": "tailscale", "state": "connected", "since": "2026-11-23T10:00:00Z",
            "node": node("tower", "ann@x"), "path": {"relay": null, "round_trip_us": 420}, "calls_from": node("box", "ann@x"),
            "moved": {"from": node("laptop", "ann@x"), "to": node("tower", "ann@x"), "at": "2026-11-23T10:01:00Z"},
            "refused": {"node": node("cafe\u{1b}", ""), "at": "2026-11-23T10:04:00Z", "times": 3},
            "refused_there": {"node": node("bar", "eve@x"), "at": "2026-11-23T10:03:00Z", "times": 1},
            "backlog_from_them": 0, "backlog_to_them": 0,
        });
        let text = "\
● desk  connected 5m  100.64.0.2:9100 (tailscale)
    On tower (ann@x), direct, 0.4 ms
    Calls from box (ann@x)
    Moved from laptop (ann@x) to tower (ann@x) 4m ago
    Its token was used from \"cafe\\u{1b}\" 1m ago, the last of 3 times: refused. Pair again if it has been copied
    It refused bar (eve@x), which used the token that it shares with us 2m ago. Pair again if it has been copied
    read by us: all; read by them: all
";
        assert_eq!(shown(peer, Some(120)), text);
    }

    #[test]
    fn numbers_of_a_log_with_gaps_are_not_shown_as_if_they_counted_events() {
        let peer = json!({
            "name": "desk", "address": "127.0.0.1:9101", "state": "connected", "read_by_us": 9, "their_latest": 12,
            "read_by_them": 1_882_648_237_572_096_u64, "our_latest": 1_882_648_237_572_096_u64, "backlog_to_them": 0, "parked": 0,
            "rejected": 0,
        });
        let text = shown(peer, Some(80));
        assert!(text.ends_with("    read by us: not all; read by them: all\n"), "{text}");
    }

    #[test]
    fn a_peer_of_another_program_shows_what_is_not_known_of_it_and_cannot_drive_the_terminal() {
        let peer = json!({
            "name": "x\u{1b}[2J\u{202e}", "address": "100.64.0.2:9100", "state": "connected", "since": null, "transport": null,
            "read_by_us": 3, "parked": 0, "rejected": 0, "last_error": "",
        });
        assert_eq!(
            shown(peer, Some(80)),
            "● \"x\\u{1b}[2J\\u{202e}\"  connected  100.64.0.2:9100\n    read by us: unknown; read by them: unknown\n"
        );
    }
}
