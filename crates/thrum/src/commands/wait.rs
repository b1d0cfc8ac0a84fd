//! `thrum wait`: sleep until there is mail.
//!
//! Exit code 1 says that nothing came, and nothing else says 1, so that `while ! thrum wait; do …` is safe. A daemon that
//! goes away in between (an upgrade, a restart) is waited for like mail.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thrum_core::{ErrorKind, Fault, Stamp, limits};

use crate::{
    commands::inbox,
    context::Context,
    render::{Page, Render},
    shapes::{Answer, Waited},
    start, time,
};

/// Wait until there is mail, and print it; exit code 1 if none came
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Returns at once if there is unread mail. Leaves it unread. Exit code 1 says that no mail came in time, and nothing else."
)]
pub(crate) struct Args {
    /// How long: 20s, 8m, 1h30m
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = time::parse_duration)]
    timeout: Duration,
    /// Only messages after this, read or not: -15s, or 2026-11-23T05:30:00Z
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true, value_parser = time::parse_instant)]
    after: Option<Stamp>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Answer<Waited>, Fault> {
    wait(args, cx).map_err(|mut fault| {
        if fault.kind == ErrorKind::Failed {
            fault.kind = ErrorKind::TryAgain;
        }
        fault
    })
}

fn wait(args: &Args, cx: &Context) -> Result<Answer<Waited>, Fault> {
    let me = cx.identity()?.name;
    let deadline = Instant::now() + args.timeout;
    cx.output.note(&format!("Waiting up to {} for mail to @{me} …", time::brief(args.timeout)));
    loop {
        let within = deadline.saturating_duration_since(Instant::now()).min(limits::MAX_WAIT);
        let params = json!({"caller_agent_id": me, "timeout_ms": within.as_millis().max(1), "after": args.after});
        let answer: Answer<Waited> = match cx.daemon()?.attempt(within, "message.wait", params) {
            Ok(Ok(answer)) => answer,
            Ok(Err(fault)) if fault.kind == ErrorKind::TryAgain => {
                come_back(cx, deadline)?;
                continue;
            }
            Ok(Err(fault)) => return Err(fault),
            // It was killed. The next round starts it anew.
            Err(_) if Instant::now() < deadline => continue,
            Err(lost) => return Err(lost.into()),
        };
        if !answer.read.messages.is_empty() {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            cx.output.note(&format!("No message within {}.", time::brief(args.timeout)));
            return Ok(answer);
        }
    }
}

/// Waits for a daemon that said that it is stopping, or has no room. Whoever stopped it had a reason, so it is not started here.
fn come_back(cx: &Context, deadline: Instant) -> Result<(), Fault> {
    const LOOK: Duration = Duration::from_millis(100);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(start::not_running(cx.repo()?));
        }
        thread::sleep(left.min(LOOK));
        if cx.running_daemon()?.is_some() {
            return Ok(());
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

    fn code(&self) -> u8 {
        u8::from(self.read.messages.is_empty())
    }
}
