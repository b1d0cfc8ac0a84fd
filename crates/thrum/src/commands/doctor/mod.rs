//! `thrum doctor`: looks at everything that can be wrong here, says what it saw, and mends what can be mended.
//!
//! One file per place that is looked at. A check is a name, a verdict and the evidence for it; where a command helps, it is
//! named, and where this command itself helps, the check brings along how.

mod files;
mod process;
mod store;
mod surroundings;

use serde_json::{Value, json};
use thrum_core::{ErrorKind, Fault};
use thrum_daemon::paths::Repo;

use crate::{
    context::Context,
    render::{
        Page, Render,
        style::{DIM, GREEN, RED, YELLOW},
    },
    text::{self, count},
};

/// Examine the database, the daemon, peers, clock, permissions and settings
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Works with and without a daemon, and does not disturb one that runs. Exit code 1 if a problem is left; warnings are none.

A damaged database is made anew from every event that can be read of it, while no daemon runs; the damaged file is kept beside. At \
the next start peers bring back what they have.

Examples:
  thrum doctor
  thrum doctor --fix")]
pub(crate) struct Args {
    /// Mend what can be mended without losing anything, and say what was done
    #[arg(long)]
    fix: bool,
}

/// What a check comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// Nothing is broken; somebody may want to know.
    Warning,
    Problem,
    /// Not possible now.
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

/// How a check is mended.
type Mend = Box<dyn FnOnce() -> Result<Done, Fault>>;

/// What was done.
struct Done {
    /// For people.
    said: String,
    /// For programs, where there is more to tell: under which name, and what.
    detail: Option<(&'static str, Value)>,
}

impl From<String> for Done {
    fn from(said: String) -> Self {
        Self { said, detail: None }
    }
}

/// One thing that was looked at.
struct Check {
    name: &'static str,
    verdict: Verdict,
    evidence: String,
    /// The command that helps.
    fix: Option<String>,
    mend: Option<Mend>,
    /// What this command did about it.
    fixed: Option<Done>,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, evidence: impl Into<String>) -> Self {
        Self { name, verdict, evidence: evidence.into(), fix: None, mend: None, fixed: None }
    }

    fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix = Some(command.into());
        self
    }

    /// `--fix` does this.
    fn mend(mut self, mend: impl FnOnce() -> Result<Done, Fault> + 'static) -> Self {
        self.mend = Some(Box::new(mend));
        self.fix.get_or_insert_with(|| "thrum doctor --fix".to_owned());
        self
    }
}

/// What was found.
pub(crate) struct Findings(Vec<Check>);

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Findings, Fault> {
    let repo = cx.repo()?;
    let mut checks = examine(cx, repo);
    if !args.fix || checks.iter().all(|check| check.mend.is_none()) {
        return Ok(Findings(checks));
    }
    let mut done: Vec<(&'static str, Result<Done, Fault>)> = Vec::new();
    for check in &mut checks {
        if let Some(mend) = check.mend.take() {
            done.push((check.name, mend()));
        }
    }
    // What was done to one may be seen in another.
    let mut checks = examine(cx, repo);
    for (name, outcome) in done {
        let Some(check) = checks.iter_mut().find(|check| check.name == name) else { continue };
        match outcome {
            Ok(said) => check.fixed = Some(said),
            Err(fault) => {
                check.evidence = format!("{}; it could not be mended: {}", check.evidence, fault.message);
                check.fix = fault.hint.or(check.fix.take());
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

impl Render for Findings {
    fn human(&self, page: &mut Page) {
        for check in &self.0 {
            let mark = match check.verdict {
                Verdict::Ok => format!("{GREEN}✓{GREEN:#}"),
                Verdict::Warning => format!("{YELLOW}!{YELLOW:#}"),
                Verdict::Problem => format!("{RED}✗{RED:#}"),
                Verdict::Skipped => format!("{DIM}-{DIM:#}"),
            };
            page.line(format!("{mark} {:<12} {}", check.name, text::lines(&check.evidence)));
            if let Some(fixed) = &check.fixed {
                page.line(format!("  {:<12} {GREEN}mended:{GREEN:#} {}", "", text::lines(&fixed.said)));
            }
            if let (Some(fix), Verdict::Warning | Verdict::Problem) = (&check.fix, check.verdict) {
                page.line(format!("  {:<12} {DIM}try:{DIM:#} {}", "", text::lines(fix)));
            }
        }
        let (problems, warnings) = (self.number(Verdict::Problem), self.number(Verdict::Warning));
        page.line(match (problems, warnings) {
            (0, 0) => "All is well".to_owned(),
            (0, _) => format!("No problem, {}", count(warnings, "warning")),
            _ => format!("{}, {}", count(problems, "problem"), count(warnings, "warning")),
        });
    }

    fn json(&self) -> Value {
        let checks: Vec<Value> = self
            .0
            .iter()
            .map(|check| {
                let mut shown = json!({"name": check.name, "verdict": check.verdict.word(), "evidence": check.evidence});
                let fixed = check.fixed.as_ref();
                for (key, value) in [("fix", check.fix.as_ref()), ("fixed", fixed.map(|done| &done.said))] {
                    if let Some(value) = value {
                        shown[key] = value.as_str().into();
                    }
                }
                if let Some((key, detail)) = fixed.and_then(|done| done.detail.as_ref()) {
                    shown[*key] = detail.clone();
                }
                shown
            })
            .collect();
        json!({"checks": checks, "problems": self.number(Verdict::Problem), "warnings": self.number(Verdict::Warning)})
    }

    fn code(&self) -> u8 {
        if self.number(Verdict::Problem) > 0 { ErrorKind::Failed.exit_code() } else { 0 }
    }
}
