//! `thrum wait`: blocks until there is mail, or until other agents are out of the way.
//!
//! Exit code 1 means that nothing came, and nothing else exits with 1, so that `while ! thrum wait; do …` is safe. If
//! waiting cannot work (no agent, no daemon, a mistyped option), the command reports why and pauses before it exits, so
//! that such a loop does not start a process eighty times a second. If the daemon goes away in the meantime (an
//! upgrade, a restart), the command waits for it to return.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};
use thrum_core::{Address, Error, ErrorKind, Timestamp, limits, payload::Tag};

use crate::{
    answers::{AgentRef, Answer, Summary},
    client::Client,
    commands::{inbox, known, send, who_has},
    context::Context,
    render::{Page, Render},
    start,
    text::quote,
    time, work_report,
};

/// Wait for mail and print it; exit code 1 if none arrived in time
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Returns immediately if there is unread mail. The mail stays unread. Exit code 1 always means that no mail arrived in \
time. If waiting is impossible, the command prints the reason and exits two seconds later with another exit code, so \
that a loop does not spin.

With --idle, --file or --task, the command waits for that condition instead of mail, and returns immediately if the \
condition already holds. Exit code 1 means that it did not hold in time. For an agent whose program runs no hooks, \
it is only known whether the agent has a session.

Examples:
  thrum wait
  thrum wait --timeout 8m
  thrum wait --after -1h --mention @ann
  thrum wait --file src/login.rs --timeout 10m && thrum claim src/login.rs
  thrum wait --idle @bob --timeout 30m")]
pub(crate) struct Args {
    /// Time limit, such as 20s, 8m or 1h30m
    #[arg(long, default_value = "30s", value_name = "TIME", allow_hyphen_values = true, value_parser = time::parse_duration)]
    timeout: Duration,
    /// Only messages after this time, read or unread: -15s, or 2026-11-23T05:30:00Z
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true, value_parser = time::parse_instant)]
    after: Option<Timestamp>,
    /// Only messages that name this agent or role (you or your role), not those to everyone
    #[arg(long, value_name = "@NAME")]
    mention: Option<String>,
    /// Only messages with this scope, such as module:auth
    #[arg(long, value_name = "TYPE:VALUE", value_parser = send::tag)]
    scope: Option<Tag>,
    /// Print messages in full, not only the first 32 KiB of each
    #[arg(long)]
    full: bool,
    /// Wait until this agent is idle, instead of for mail
    #[arg(long, value_name = "@NAME", group = "work", conflicts_with_all = ["after", "mention", "scope", "full"])]
    idle: Option<String>,
    /// Wait until no other agent has claims or uncommitted changes in this file or directory, instead of for mail
    #[arg(long, value_name = "PATH", group = "work", conflicts_with_all = ["after", "mention", "scope", "full"])]
    file: Option<String>,
    /// Wait until no other agent has this task, instead of for mail
    #[arg(long, value_name = "TASK", group = "work", conflicts_with_all = ["after", "mention", "scope", "full"])]
    task: Option<String>,
}

/// How long a failed wait pauses after its error. Two seconds are short enough for a user, and make a loop harmless.
pub(crate) const PAUSE: Duration = Duration::from_secs(2);

impl Args {
    /// Pause after a failure: no longer than the wait itself would have been.
    pub(crate) fn pause(&self) -> Duration {
        PAUSE.min(self.timeout)
    }
}

/// The answer to `message.wait`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Waited {
    pub(crate) status: String,
    pub(crate) messages: Vec<Summary>,
    pub(crate) unread: u64,
}

/// The answer to `work.wait`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Free {
    status: String,
    agents: Vec<InTheWay>,
}

impl Free {
    /// Returns `true` if the awaited condition holds.
    fn is_free(&self) -> bool {
        self.status == "free"
    }
}

/// An agent that is still in the way.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct InTheWay {
    #[serde(flatten)]
    agent: AgentRef,
    why: String,
    path: Option<String>,
}

/// Waits, and prints the result itself, so that an error while printing does not exit with 1 either.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Ended, Error> {
    let printed = match Work::of(args, cx) {
        Ok(Some(work)) => work.wait(args, cx).and_then(|free| {
            cx.output.result(&free)?;
            Ok(Ended { received: free.answer.read.is_free() })
        }),
        Ok(None) => wait(args, cx).and_then(|answer| {
            cx.output.result(&answer)?;
            Ok(Ended { received: !answer.read.messages.is_empty() })
        }),
        Err(error) => Err(error),
    };
    printed.map_err(|mut error| {
        if error.kind == ErrorKind::Failed {
            error.kind = ErrorKind::TryAgain;
        }
        error
    })
}

fn wait(args: &Args, cx: &Context) -> Result<Answer<Waited>, Error> {
    let me = cx.identity()?.name;
    let deadline = Instant::now() + args.timeout;
    if let Some(mention) = &args.mention {
        known::agent_or_role(mention, cx)?;
    }
    work_report::while_waiting(cx, &me);
    cx.output.note(&format!("Waiting up to {} for mail to @{me} …", time::brief(args.timeout)));
    let ask = json!({"caller_agent_id": me, "after": args.after, "mention": args.mention, "scope": args.scope});
    let mut answer = for_mail(cx, inbox::printed(ask, args.full), deadline)?;
    if args.full {
        inbox::complete(&mut answer.read.messages, &mut answer.raw, cx)?;
    }
    if answer.read.messages.is_empty() {
        cx.output.note(&format!("No message within {}.", time::brief(args.timeout)));
    }
    Ok(answer)
}

/// Waits for mail that matches `ask`, the parameters of `message.wait`. The answer has no messages if none came before
/// `deadline`.
///
/// # Errors
/// Returns the daemon's refusal; `unavailable` or `try_again` if the daemon is gone at the deadline.
pub(crate) fn for_mail(cx: &Context, ask: Value, deadline: Instant) -> Result<Answer<Waited>, Error> {
    again_until("message.wait", cx, ask, deadline, |waited: &Waited| !waited.messages.is_empty())
}

/// Repeats a waiting call until it yields something or `deadline` has passed, even if the daemon goes away and comes
/// back.
fn again_until<T: for<'a> Deserialize<'a>>(
    method: &str,
    cx: &Context,
    mut ask: Value,
    deadline: Instant,
    came: impl Fn(&T) -> bool,
) -> Result<Answer<T>, Error> {
    let mut client = cx.daemon()?;
    loop {
        let within = deadline.saturating_duration_since(Instant::now()).min(limits::MAX_WAIT);
        ask["timeout_ms"] = json!(within.as_millis().max(1));
        let gone = match client.attempt::<Answer<T>>(within, method, &ask) {
            Ok(Ok(answer)) if !came(&answer.read) && Instant::now() < deadline => continue,
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if error.kind == ErrorKind::TryAgain => error,
            Ok(Err(error)) => return Err(error),
            Err(lost) => lost.into(),
        };
        client = come_back(cx, deadline, gone)?;
    }
}

/// Waits, until `deadline`, to connect to a daemon that is gone or answered `try_again`. A daemon that crashed is
/// started again. A daemon that was stopped is not: the user had a reason. The pid file distinguishes the two cases,
/// because only a crash leaves it behind.
fn come_back(cx: &Context, deadline: Instant, gone: Error) -> Result<Client, Error> {
    const LOOK: Duration = Duration::from_millis(100);
    let repo = cx.repo()?;
    loop {
        if cx.is_given_up() {
            return Err(gone);
        }
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

/// What to wait for, other than mail.
enum Work {
    Idle(String),
    File(String),
    Task(String),
}

/// The result of waiting for something other than mail.
struct WorkFree {
    work: Work,
    answer: Answer<Free>,
}

impl Work {
    fn of(args: &Args, cx: &Context) -> Result<Option<Self>, Error> {
        Ok(match (&args.idle, &args.file, &args.task) {
            (Some(agent), ..) => Some(Self::Idle(agent.clone())),
            (_, Some(file), _) => Some(Self::File(who_has::repo_path(file, cx)?)),
            (.., Some(task)) => Some(Self::Task(task.clone())),
            _ => None,
        })
    }

    fn wait(self, args: &Args, cx: &Context) -> Result<WorkFree, Error> {
        let deadline = Instant::now() + args.timeout;
        // Without an identity, the caller has no work of its own to exclude.
        let me = cx.identity().ok().map(|me| me.name);
        let ask = match &self {
            Self::Idle(agent) => json!({"caller_agent_id": me, "idle": agent}),
            Self::File(path) => json!({"caller_agent_id": me, "file": path}),
            Self::Task(task) => json!({"caller_agent_id": me, "task": task}),
        };
        cx.output.note(&format!("Waiting up to {} until {} …", time::brief(args.timeout), self.wish()));
        let answer = again_until("work.wait", cx, ask, deadline, Free::is_free)?;
        Ok(WorkFree { work: self, answer })
    }

    /// The awaited condition, in words.
    fn wish(&self) -> String {
        match self {
            Self::Idle(agent) => format!("{} works no more", Address::parse(agent).shown()),
            Self::File(path) => format!("no other agent has {}", quote(path)),
            Self::Task(task) => format!("no other agent works on {}", quote(task)),
        }
    }
}

impl Render for WorkFree {
    fn human(&self, page: &mut Page) {
        let (Free { agents, .. }, wish) = (&self.answer.read, self.work.wish());
        if self.answer.read.is_free() {
            let mut words = wish.chars();
            return page
                .line(words.next().map_or_else(String::new, |first| first.to_uppercase().chain(words).collect()));
        }
        for agent in agents {
            let path = agent.path.as_deref().map(|path| format!(" {}", quote(path))).unwrap_or_default();
            let does = match agent.why.as_str() {
                "claimed" => "has claimed",
                "changed" => "is editing",
                "needs_you" => "waits for its user",
                "active" => "has a session",
                "task" => "has that task",
                _ => "is working",
            };
            page.line(format!("{} {does}{path}", agent.agent.who()));
        }
    }

    fn json(&self) -> Value {
        self.answer.raw.clone()
    }
}

/// The end of a wait, after its result has been printed.
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
