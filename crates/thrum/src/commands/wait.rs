//! `thrum wait`: sleep until there is mail.
//!
//! Exit code 1 says that nothing came, and nothing else says 1, so that `while ! thrum wait; do …` is safe. Where waiting cannot
//! work (no agent, no daemon, a mistyped option) the command says why and pauses before it ends, so that such a loop does not
//! start a process eighty times a second. A daemon that goes away in between (an upgrade, a restart) is waited for like mail.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thrum_core::{ErrorKind, Fault, Stamp, limits, payload::Tag};

use crate::{
    beat,
    client::Client,
    commands::{inbox, known, send},
    context::Context,
    render::{Page, Render},
    shapes::{Answer, Waited},
    start, time,
};

/// Wait until there is mail, and print it; exit code 1 if none came
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Returns at once if there is unread mail. Leaves it unread. Exit code 1 says that no mail came in time, and nothing else. \
Where waiting cannot work, the command says why and ends two seconds later with another exit code, so that a loop is not busy.

Examples:
  thrum wait
  thrum wait --timeout 8m
  thrum wait --after -1h --mention @ann")]
pub(crate) struct Args {
    /// How long: 20s, 8m, 1h30m
    #[arg(long, default_value = "30s", value_name = "TIME", allow_hyphen_values = true, value_parser = time::parse_duration)]
    timeout: Duration,
    /// Only messages after this, read or not: -15s, or 2026-11-23T05:30:00Z
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true, value_parser = time::parse_instant)]
    after: Option<Stamp>,
    /// Only messages that name this agent or role (you, or your role), not those for everyone
    #[arg(long, value_name = "@NAME")]
    mention: Option<String>,
    /// Only messages with this scope, such as module:auth
    #[arg(long, value_name = "TYPE:VALUE", value_parser = send::tag)]
    scope: Option<Tag>,
    /// All of every message, not only its first 32 KiB
    #[arg(long)]
    full: bool,
}

/// How long a failed wait lasts after it has said why. Two seconds are too short for a person to mind, and make a loop harmless.
pub(crate) const PAUSE: Duration = Duration::from_secs(2);

impl Args {
    /// How long the command pauses after it has failed: no longer than it would have waited.
    pub(crate) fn pause(&self) -> Duration {
        PAUSE.min(self.timeout)
    }
}

/// Prints what came itself, so that an error in doing so gets another exit code, too.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Ended, Fault> {
    let printed = wait(args, cx).and_then(|answer| {
        cx.output.result(&answer)?;
        Ok(Ended { received: !answer.read.messages.is_empty() })
    });
    printed.map_err(|mut fault| {
        if fault.kind == ErrorKind::Failed {
            fault.kind = ErrorKind::TryAgain;
        }
        fault
    })
}

fn wait(args: &Args, cx: &Context) -> Result<Answer<Waited>, Fault> {
    let me = cx.identity()?.name;
    let deadline = Instant::now() + args.timeout;
    if let Some(mention) = &args.mention {
        known::agent_or_role(mention, cx)?;
    }
    let mut client = cx.daemon()?;
    beat::while_waiting(cx, &me);
    cx.output.note(&format!("Waiting up to {} for mail to @{me} …", time::brief(args.timeout)));
    loop {
        let within = deadline.saturating_duration_since(Instant::now()).min(limits::MAX_WAIT);
        let params = json!({"caller_agent_id": me, "timeout_ms": within.as_millis().max(1), "after": args.after,
            "mention": args.mention, "scope": args.scope});
        let params = inbox::printed(params, args.full);
        let gone = match client.attempt::<Answer<Waited>>(within, "message.wait", params) {
            Ok(Ok(answer)) if answer.read.messages.is_empty() && Instant::now() < deadline => continue,
            Ok(Ok(mut answer)) => {
                if args.full {
                    inbox::complete(&mut answer.read.messages, &mut answer.raw, cx)?;
                }
                if answer.read.messages.is_empty() {
                    cx.output.note(&format!("No message within {}.", time::brief(args.timeout)));
                }
                return Ok(answer);
            }
            Ok(Err(fault)) if fault.kind == ErrorKind::TryAgain => fault,
            Ok(Err(fault)) => return Err(fault),
            Err(lost) => lost.into(),
        };
        client = come_back(cx, deadline, gone)?;
    }
}

/// Waits for a daemon that is gone, or has no room. One that crashed is started again. One that was stopped is not: whoever
/// stopped it had a reason, and took its pid file away, which a crash leaves.
fn come_back(cx: &Context, deadline: Instant, gone: Fault) -> Result<Client, Fault> {
    const LOOK: Duration = Duration::from_millis(100);
    let repo = cx.repo()?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(if repo.pid_file().exists() { gone } else { start::not_running(repo) });
        }
        thread::sleep(left.min(LOOK));
        if let Some(client) = cx.running_daemon()? {
            return Ok(client);
        }
        if repo.pid_file().exists() && !start::lock_is_held(repo) {
            return cx.daemon();
        }
    }
}

impl Render for Answer<Waited> {
    fn human(&self, page: &mut Page) {
        for message in &self.read.messages {
            inbox::show(message, page);
        }
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }
}

/// How a wait ended, after all was said.
pub(crate) struct Ended {
    received: bool,
}

impl Render for Ended {
    fn human(&self, _: &mut Page) {}

    fn json(&self) -> Value {
        Value::Null
    }

    fn code(&self) -> u8 {
        u8::from(!self.received)
    }
}
