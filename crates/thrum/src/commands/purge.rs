//! `thrum purge`: removes old messages, sessions and contexts here and at every peer.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use thrum_core::{Error, Timestamp, limits};
use thrum_daemon::backup;

use crate::{
    answers::Answer,
    context::Context,
    render::{Page, Render},
    text::count,
    time,
};

/// Time limit of the call: the daemon counts in the log, which may be large, and then waits for the removal for up to
/// [`limits::PURGE_ANSWERED`].
const WITHIN: Duration = limits::PURGE_ANSWERED.saturating_add(Duration::from_secs(20));

/// Delete old messages, sessions and contexts, here and on every peer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --confirm, the command only counts. A purge cannot be undone: the text is removed from the database file, \
and peers do the same once they receive the purge.
The age of a session is counted from its start, even if it is still open. Backups are not changed, nor are databases \
that a restore or `thrum doctor --fix` set aside.

Examples:
  thrum purge --before 30d
  thrum purge --before 2026-01-01 --confirm")]
#[command(group = clap::ArgGroup::new("what").args(["before", "all"]).required(true))]
pub(crate) struct Args {
    /// Delete what is older than this: 30d, 24h, 2026-11-20, or 2026-11-23T05:30:00Z
    #[arg(long, value_name = "WHEN", value_parser = time::parse_past)]
    before: Option<Timestamp>,
    /// Delete everything that was written until now
    #[arg(long)]
    all: bool,
    /// Actually delete; without this option, only count
    #[arg(long)]
    confirm: bool,
}

/// The answer to `purge.execute`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Purged {
    before: String,
    dry_run: bool,
    messages_deleted: u64,
    sessions_deleted: u64,
    events_deleted: u64,
    goes_on: bool,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Answer<Purged>, Error> {
    let before = args.before.unwrap_or_else(time::now);
    let mut client = cx.daemon()?;
    let progress = cx.output.progress(if args.confirm { "Purging" } else { "Counting" }, None);
    let answer: Answer<Purged> =
        client.call_within(WITHIN, "purge.execute", json!({"before": before, "dry_run": !args.confirm}))?;
    drop(progress);
    if !args.confirm {
        cx.output.note("Nothing was purged: this is a preview.");
        if answer.read.events_deleted > 0 {
            cx.output.hint("The same with --confirm does it.");
        }
    } else if let Ok(repo) = cx.repo() {
        if answer.read.goes_on {
            cx.output.note("Some of it is still there: it is removed in the background, even after a restart.");
        }
        for kept in backup::set_aside(repo) {
            cx.output
                .note(&format!("Old mail may still be in {}: remove it once it is no longer needed.", kept.display()));
        }
    }
    Ok(answer)
}

impl Render for Answer<Purged> {
    fn human(&self, page: &mut Page) {
        let Purged { before, dry_run, messages_deleted, sessions_deleted, events_deleted, goes_on } = &self.read;
        let done = match (dry_run, goes_on) {
            (true, _) => "Would purge",
            (false, true) => "Purging",
            (false, false) => "Purged",
        };
        let what = format!(
            "{done} {} and {} from before {} ({})",
            count(*messages_deleted, "message"),
            count(*sessions_deleted, "session"),
            Timestamp::parse(before).map_or_else(|| before.clone(), time::exact),
            count(*events_deleted, "event")
        );
        page.line(what);
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }
}
