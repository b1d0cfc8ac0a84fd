//! `thrum setup`: connects the programs that run agents to Thrum.

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind};
use thrum_daemon::config::{self, Config, Key, Setting, Source};

use crate::{
    context::Context,
    hook::host::Host,
    render::{
        Page, Render,
        style::{BOLD, YELLOW},
    },
    runtimes::{self, Copies, Plan},
};

/// Connect agent programs to Thrum: MCP server, hooks, permissions, instructions
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Edits files of this worktree and keeps all other content of these files. A second run changes nothing, and --remove \
removes exactly what was added. A file outside the worktree (Kimi Code's settings in your home directory) is only \
changed if its program is named. Codex's hooks in a linked worktree are an exception, because Codex reads them from \
the main checkout. Setup does not mark anything as trusted for you; it lists the steps that remain.

Examples:
  thrum setup
  thrum setup claude codex --dry-run
  thrum setup codex --wake
  thrum setup --remove")]
pub(crate) struct Args {
    /// Programs to set up [default: all that are installed or have a directory here]
    #[arg(value_name = "RUNTIME")]
    runtimes: Vec<Host>,
    /// Show the changes without making them
    #[arg(long)]
    dry_run: bool,
    /// Remove everything that setup has added
    #[arg(long)]
    remove: bool,
    /// Let mail start turns in idle Codex sessions, at most ten an hour: sets codex.wake; --remove unsets it
    #[arg(long, conflicts_with = "remove")]
    wake: bool,
}

/// The result: the changes that were made, or would be made with `--dry-run`.
pub(crate) struct SetupDone {
    plan: Plan,
    dry_run: bool,
    remove: bool,
    /// The new value of `codex.wake`, if it changes; `false` stands for the default.
    wake: Option<bool>,
}

/// The note for Codex if `codex.wake` is on.
const WAKES: &str =
    "Mail starts turns in its idle sessions, at most ten an hour, until: thrum config set codex.wake default";

/// The note for Codex if `codex.wake` is off.
const WAKES_NOT: &str =
    "Mail waits for the next prompt. To let it start turns in idle sessions: thrum setup codex --wake";

pub(crate) fn run(args: Args, cx: &Context) -> Result<SetupDone, Error> {
    let repo = cx.repo()?;
    let top = repo.root();
    let named = !args.runtimes.is_empty();
    let hosts = match (args.runtimes.is_empty(), args.remove) {
        (false, _) => args.runtimes,
        // A program that was set up earlier may have been uninstalled since.
        (true, true) => runtimes::known(),
        (true, false) => runtimes::detected(top),
    };
    if hosts.is_empty() {
        return Err(runtimes::none_found("thrum setup claude"));
    }
    let has_codex = hosts.contains(&Host::Codex);
    if args.wake && !has_codex {
        return Err(Error::new(ErrorKind::Invalid, "--wake is for Codex, which is not among these")
            .hint("thrum setup codex --wake"));
    }
    let mut copies = Copies::of(repo)?;
    let mut plan = match args.remove {
        true => runtimes::to_take_out(top, &hosts, named, &copies)?,
        false => runtimes::to_write(top, &hosts, named)?,
    };
    let Setting { value, source } = Config::current(repo).get(Key::WakeCodex).clone();
    let is_on = value == true;
    let wake = match (args.wake, args.remove) {
        (true, _) => (!is_on).then_some(true),
        (_, true) => (has_codex && source == Source::File).then_some(false),
        _ => None,
    };
    if has_codex && !args.remove {
        plan.left.push(("Codex", if wake.unwrap_or(is_on) { WAKES } else { WAKES_NOT }.to_owned()));
    }
    if !args.dry_run {
        plan.apply(&mut copies)?;
        if let Some(on) = wake {
            config::set(repo, Key::WakeCodex, on.then_some(true.into()))?;
        }
    }
    Ok(SetupDone { plan, dry_run: args.dry_run, remove: args.remove, wake })
}

impl Render for SetupDone {
    fn human(&self, page: &mut Page) {
        let Plan { names, changes, refused, left } = &self.plan;
        if self.dry_run {
            changes.iter().for_each(|change| page.body(&change.diff()));
        } else {
            changes.iter().for_each(|change| page.line(format!("{} {}", change.what(), change.file)));
        }
        if let Some(on) = self.wake {
            page.line(format!("codex.wake: {}", if on { "true" } else { "default" }));
        }
        if changes.is_empty() && refused.is_empty() && self.wake.is_none() {
            page.line(format!("Nothing to change for {}", names.join(", ")));
        }
        let paste = if self.remove { "What to take out of it" } else { "What belongs into it" };
        for refused in refused {
            page.line(format!("{YELLOW}Left alone:{YELLOW:#} {}: {}. {paste}:", refused.file, refused.why));
            page.body(&refused.paste);
        }
        for (name, what) in left {
            page.line(format!("{BOLD}{name}:{BOLD:#} {what}"));
        }
    }

    fn json(&self) -> Value {
        let Plan { names, changes, refused, left } = &self.plan;
        let change = |change: &runtimes::Change| {
            let mut entry = json!({"file": change.file, "change": change.what()});
            if self.dry_run {
                entry["diff"] = change.diff().into();
            }
            entry
        };
        let paste = if self.remove { "take_out" } else { "paste" };
        json!({
            "runtimes": names, "dry_run": self.dry_run, "codex_wake": self.wake, "files": changes.iter().map(change).collect::<Vec<_>>(),
            "refused": refused.iter().map(|it| json!({"file": it.file, "why": it.why, paste: it.paste})).collect::<Vec<_>>(),
            "left": left.iter().map(|(name, what)| json!({"runtime": name, "what": what})).collect::<Vec<_>>(),
        })
    }

    fn code(&self) -> u8 {
        if self.plan.refused.is_empty() { 0 } else { ErrorKind::Failed.exit_code() }
    }
}
