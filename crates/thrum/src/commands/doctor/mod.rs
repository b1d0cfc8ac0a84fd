//! `thrum doctor`: checks the database, the daemon and their surroundings, reports the evidence, and repairs what it
//! can.
//!
//! Each area has its own file. A check has a name, a verdict and the evidence for it. If a command helps, the check
//! names it; if `--fix` can repair the problem, the check carries the repair.

pub(crate) mod agents;
mod files;
mod process;
mod store;
mod surroundings;

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind};
use thrum_daemon::paths::Repo;

use crate::{
    context::Context,
    render::{
        Page, Render, boxed,
        style::{DIM, GREEN, RED, YELLOW},
    },
    text::{self, count},
};

/// Check the database, the daemon, peers, clock, permissions and settings
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Works with and without a daemon, and does not disturb a running one. Exit code 1 if a problem remains; warnings do not count.

With --fix, a damaged database is rebuilt from all events that can still be read, if no daemon is running; the damaged \
file is kept beside the new one. At the next start, missing events are fetched from peers that have them.

Examples:
  thrum doctor
  thrum doctor --fix
  thrum doctor agents")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// Repair what can be repaired without data loss, and report it
    #[arg(long)]
    fix: bool,
}

/// A part of the setup with an examination of its own.
#[derive(Debug, clap::Subcommand)]
enum Part {
    Agents(agents::Args),
}

impl Args {
    pub(crate) fn run(&self, cx: &Context) -> Result<Box<dyn Render>, Error> {
        match &self.part {
            None => boxed(run(self, cx)),
            Some(Part::Agents(args)) => boxed(agents::run(args, cx)),
        }
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// Nothing is broken, but the user may want to know.
    Warning,
    Problem,
    /// The check does not apply here, or is not possible at the moment.
    Skipped,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
            Self::Skipped => "skipped",
        }
    }
}

/// The repair of a failed check.
type Repair = Box<dyn FnOnce() -> Result<Repaired, Error> + Send>;

/// The result of a repair.
struct Repaired {
    /// The text for users.
    said: String,
    /// Further data for the JSON output, with its key.
    detail: Option<(&'static str, Value)>,
}

impl From<String> for Repaired {
    fn from(said: String) -> Self {
        Self { said, detail: None }
    }
}

/// The result of examining one thing.
struct Check {
    name: &'static str,
    verdict: Verdict,
    evidence: String,
    /// The command or other advice that helps, if any.
    fix: Option<String>,
    repair: Option<Repair>,
    /// The repair that `--fix` made, if any.
    fixed: Option<Repaired>,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, evidence: impl Into<String>) -> Self {
        Self { name, verdict, evidence: evidence.into(), fix: None, repair: None, fixed: None }
    }

    fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix = Some(command.into());
        self
    }

    /// Sets the repair that `--fix` runs.
    fn repair(mut self, repair: impl FnOnce() -> Result<Repaired, Error> + Send + 'static) -> Self {
        self.repair = Some(Box::new(repair));
        self.fix.get_or_insert_with(|| "thrum doctor --fix".to_owned());
        self
    }
}

/// All checks of `thrum doctor`.
pub(crate) struct Findings(Vec<Check>);

fn run(args: &Args, cx: &Context) -> Result<Findings, Error> {
    let repo = cx.repo()?;
    let mut checks = examine(cx, repo);
    if !args.fix || checks.iter().all(|check| check.repair.is_none()) {
        return Ok(Findings(checks));
    }
    let mut done: Vec<(&'static str, Result<Repaired, Error>)> = Vec::new();
    for check in &mut checks {
        if let Some(repair) = check.repair.take() {
            done.push((check.name, repair()));
        }
    }
    // A repair may also change the result of another check.
    let mut checks = examine(cx, repo);
    for (name, outcome) in done {
        let Some(check) = checks.iter_mut().find(|check| check.name == name) else { continue };
        match outcome {
            Ok(said) => check.fixed = Some(said),
            Err(error) => {
                check.evidence = format!("{}; it could not be repaired: {}", check.evidence, error.message);
                check.fix = error.hint.or(check.fix.take());
            }
        }
    }
    Ok(Findings(checks))
}

fn examine(cx: &Context, repo: &Repo) -> Vec<Check> {
    let daemon = process::Daemon::ask(repo);
    let mut checks = process::checks(repo, &daemon);
    checks.extend(store::checks(cx, repo));
    checks.extend(surroundings::checks(cx, repo, daemon));
    checks.extend(files::checks(repo));
    checks
}

impl Findings {
    fn number(&self, verdict: Verdict) -> u64 {
        self.0.iter().filter(|check| check.verdict == verdict).count() as u64
    }
}

impl Check {
    /// Prints the check for users, with the command that helps.
    fn show(&self, page: &mut Page) {
        let mark = match self.verdict {
            Verdict::Ok => format!("{GREEN}✓{GREEN:#}"),
            Verdict::Warning => format!("{YELLOW}!{YELLOW:#}"),
            Verdict::Problem => format!("{RED}✗{RED:#}"),
            Verdict::Skipped => format!("{DIM}-{DIM:#}"),
        };
        page.columns(format!("{mark} {:<12} {}", self.name, text::lines(&self.evidence)), 15);
        if let Some(fixed) = &self.fixed {
            page.line(format!("  {:<12} {GREEN}repaired:{GREEN:#} {}", "", text::lines(&fixed.said)));
        }
        if let (Some(fix), Verdict::Warning | Verdict::Problem) = (&self.fix, self.verdict) {
            page.line(format!("  {:<12} {DIM}try:{DIM:#} {}", "", text::lines(fix)));
        }
    }

    fn data(&self) -> Value {
        let mut shown = json!({"name": self.name, "verdict": self.verdict.word(), "evidence": self.evidence});
        let fixed = self.fixed.as_ref();
        for (key, value) in [("fix", self.fix.as_ref()), ("fixed", fixed.map(|done| &done.said))] {
            if let Some(value) = value {
                shown[key] = value.as_str().into();
            }
        }
        if let Some((key, detail)) = fixed.and_then(|done| done.detail.as_ref()) {
            shown[*key] = detail.clone();
        }
        shown
    }
}

/// Prints the summary line for users.
fn sum_up(problems: u64, warnings: u64, page: &mut Page) {
    page.line(match (problems, warnings) {
        (0, 0) => "All is well".to_owned(),
        (0, _) => format!("No problem, {}", count(warnings, "warning")),
        _ => format!("{}, {}", count(problems, "problem"), count(warnings, "warning")),
    });
}

fn exit_code(problems: u64) -> u8 {
    if problems > 0 { ErrorKind::Failed.exit_code() } else { 0 }
}

impl Render for Findings {
    fn human(&self, page: &mut Page) {
        self.0.iter().for_each(|check| check.show(page));
        sum_up(self.number(Verdict::Problem), self.number(Verdict::Warning), page);
    }

    fn json(&self) -> Value {
        let checks: Vec<Value> = self.0.iter().map(Check::data).collect();
        json!({"checks": checks, "problems": self.number(Verdict::Problem), "warnings": self.number(Verdict::Warning)})
    }

    fn code(&self) -> u8 {
        exit_code(self.number(Verdict::Problem))
    }
}
