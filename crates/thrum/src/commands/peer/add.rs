//! `thrum peer add`: shows a code, and waits for another daemon to join.
//!
//! The pairing session belongs to the connection that started it. This command holds that connection until it is done,
//! so that Ctrl-C, a crash or a closed terminal ends the session as well.

use std::time::{Duration, Instant};

use clap::builder::PossibleValue;
use serde::Deserialize;
use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, Timestamp, limits, name::printable};
use thrum_sync::transport::Node;

use crate::{
    answers::{self, Answer, Pairing, SyncStatus},
    context::Context,
    render::{
        Page, Render,
        style::{BOLD, DIM},
    },
    text::quote,
    time,
};

/// Show a 4-digit code and wait for another daemon to join
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Enter the code where `thrum peer join` prompts for it. Ctrl-C cancels the pairing. Wrong codes are reported on \
standard error with the machine that sent them. Three wrong codes lock a machine out; if machines cannot be told \
apart, they end the pairing. A daemon of this version proves that it knows the code without sending it. Go Thrum \
sends the code, which is reported after it has joined. With --json, the code is printed immediately, and a second \
line once both daemons are paired.

Examples:
  thrum peer add
  thrum peer add --via local --timeout 2m")]
pub(crate) struct Args {
    /// How the other daemon reaches this one [default: tailnet if it is enabled, else local]
    #[arg(long, alias = "type", value_name = "TRANSPORT", value_parser = [PossibleValue::new("tailnet").alias("tailscale"), PossibleValue::new("local")])]
    via: Option<String>,
    /// Time limit for the wait
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = time::parse_duration)]
    timeout: Duration,
}

/// The answer to `peer.wait_pairing` and `peer.join`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Paired {
    /// `paired`, or `waiting` while no daemon has joined.
    status: String,
    /// All wrong codes and refused callers so far; empty once a daemon has joined.
    attempts: Vec<Attempt>,
    peer_name: String,
    peer_address: String,
    /// `plain` if the code was transmitted.
    pairing: String,
    syncing: bool,
    message: Option<String>,
}

/// A failed attempt to join: a wrong code, or a caller that was refused after too many wrong codes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Attempt {
    node: Option<Node>,
    address: String,
    left: u8,
    locked_until: Option<Timestamp>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Joined, Error> {
    let mut client = cx.daemon()?;
    if args.timeout.is_zero() || args.timeout > limits::PAIRING_SESSION {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("--timeout is from 1s to {}", time::brief(limits::PAIRING_SESSION)),
        ));
    }
    let mut params = json!({"timeout_seconds": args.timeout.as_secs().max(1)});
    if let Some(via) = &args.via {
        params["transport"] = via.as_str().into();
    }
    let pairing: Answer<Pairing> = client.call("peer.start_pairing", params)?;
    if args.via.is_none() && pairing.read.transport == "local" {
        let sync: SyncStatus = client.call("sync.status", json!({}))?;
        cx.output.note(match sync.local_only {
            true => "daemon.local_only is on, so this reaches other repositories on this machine only (thrum config show).",
            false => "The tailnet is off, so this reaches other repositories on this machine only (--via tailnet switches it on).",
        });
    }
    if cx.output.is_json() {
        cx.output.json_line(&pairing.raw)?;
    } else {
        cx.output.text(&invitation(&pairing.read))?;
    }
    let until = Instant::now() + args.timeout + limits::FIRST_EXCHANGE;
    let mut seen = 0;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let waited: Answer<Paired> = client.call_within(left, "peer.wait_pairing", json!({"attempts_seen": seen}))?;
        // While no daemon has joined, every answer has new attempts. An answer without them means that the daemons are
        // paired.
        if waited.read.status != "waiting" || waited.read.attempts.len() <= seen {
            return Ok(Joined::new(waited, true, cx));
        }
        waited.read.attempts[seen..].iter().for_each(|attempt| cx.output.warn(&tried(attempt)));
        seen = waited.read.attempts.len();
    }
}

/// Describes a failed attempt: `wrong code from cafe (mallory@example.com), which has 2 tries left`.
fn tried(attempt: &Attempt) -> String {
    let who = attempt.node.as_ref().map_or_else(|| quote(&attempt.address), answers::node);
    if let Some(until) = attempt.locked_until {
        return format!(
            "{who} tried a code and was refused after too many wrong ones; it can pair again at {}",
            until.in_seconds()
        );
    }
    match attempt.left {
        0 => format!("wrong code from {who}, which has no try left; others may still join"),
        1 => format!("wrong code from {who}, which has 1 try left"),
        left => format!("wrong code from {who}, which has {left} tries left"),
    }
}

fn invitation(pairing: &Pairing) -> String {
    let Pairing { code, join, peercode, .. } = pairing;
    format!(
        "Waiting for connection... Pairing code: {BOLD}{}{BOLD:#}\n\n\
         On the other side, run:\n    {}\n{DIM}With Go Thrum 0.6 there:\n    thrum peer join {}{DIM:#}\n\n",
        printable(code),
        printable(join),
        printable(peercode),
    )
}

/// Two daemons that are paired, as reported on either side.
pub(crate) struct Joined {
    pub(crate) paired: Answer<Paired>,
    /// `true` on the side that waited: the page then shows the peer's address.
    pub(crate) with_address: bool,
}

impl Joined {
    /// Warns immediately if the code was transmitted: the result line does not say so.
    pub(crate) fn new(paired: Answer<Paired>, with_address: bool, cx: &Context) -> Self {
        if paired.read.pairing == PLAIN {
            cx.output.warn("the code was sent, as Go Thrum pairs; between two daemons of this version it is not");
        }
        Self { paired, with_address }
    }
}

/// The daemon's name for a pairing in which the code was transmitted.
pub(crate) const PLAIN: &str = "plain";

impl Render for Joined {
    fn human(&self, page: &mut Page) {
        let Paired { peer_name, peer_address, syncing, message, .. } = &self.paired.read;
        let (name, address) = (thrum_core::name::always_quoted(peer_name), quote(peer_address));
        let whom = if self.with_address { format!("{name} ({address})") } else { name };
        page.line(match (syncing, message) {
            (true, _) => format!("Paired with {whom}. Syncing started."),
            // The daemon's sentence is complete: it names the peer and, if that does not answer, the address.
            (false, Some(sentence)) => printable(sentence),
            (false, None) => {
                format!("Paired with {whom}, but {address} does not answer yet; it is retried.")
            }
        });
    }

    fn json(&self) -> Value {
        self.paired.raw.clone()
    }
}
