//! `thrum demo`: two repositories that pair and talk. Every command shown is the real program, run as a user would run
//! it.

pub(crate) mod janitor;
pub(crate) mod latency;
mod session;
pub(crate) mod stage;

use std::{env, io, time::Instant};

use serde_json::json;
use thrum_core::{Error, ErrorKind};

use crate::{
    commands::demo::{
        latency::Times,
        session::Session,
        stage::{Stage, StagedRepo},
    },
    context::Context,
    render::style::{BOLD, GREEN},
    time,
};

/// Demonstrate two repositories that pair and exchange mail, in a temporary directory
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Takes a few seconds. Exit code 0 means that every step succeeded.

Examples:
  thrum demo
  thrum demo --json")]
pub(crate) struct Args {
    /// Keep both repositories and their daemons, and print how to continue by hand
    #[arg(long)]
    keep: bool,
}

/// Number of messages for the measured delivery times.
const MESSAGES: usize = 200;

pub(crate) fn run(args: &Args, cx: &Context) -> Result<(), Error> {
    let stage = Stage::open("demo")?;
    let laptop = stage.repository("laptop")?;
    let desk = stage.repository("desk")?;
    let times = story(&Session::new(cx.output.clone()), &laptop, &desk)?;
    let kept = args.keep.then(|| stage.keep());
    if cx.output.is_json() {
        return cx.output.json_line(&json!({
            "status": "ok", "messages": times.len(), "p50_ms": ms(times.percentile(50)), "p99_ms": ms(times.percentile(99)), "kept": kept,
        }));
    }
    cx.output.text(&match kept {
        None => format!("\n{GREEN}Everything held.{GREEN:#} Both daemons are stopped and their directories removed.\n"),
        Some(_) => go_on(&laptop, &desk)?,
    })
}

fn story(show: &Session, laptop: &StagedRepo, desk: &StagedRepo) -> Result<Times, Error> {
    show.chapter("Two repositories. Each gets an agent, and with it a daemon.")?;
    show.run(
        laptop,
        &["quickstart", "--name", "ann", "--role", "implementer", "--module", "auth", "--intent", "Fix the login race"],
    )?;
    show.run(desk, &["quickstart", "--name", "bob", "--role", "reviewer", "--module", "auth"])?;

    show.chapter("A person pairs them with a 4-digit code.")?;
    let mut adding = show.begin(laptop, &["peer", "add", "--via", "local"])?;
    let invitation = adding.line()?;
    show.indented(&invitation)?;
    let plain = anstream::adapter::strip_str(&invitation).to_string();
    let code = plain.rsplit(' ').next().unwrap_or_default();
    let mut address = String::new();
    // Up to the second command, which is Go Thrum's.
    for _ in 0..5 {
        let line = adding.line()?;
        show.indented(&format!("{line}\n"))?;
        if let Some(found) = line.trim().strip_prefix("thrum peer join ").filter(|_| address.is_empty()) {
            found.clone_into(&mut address);
        }
    }
    holds("Syncing started.", &show.pipe(desk, code, &["peer", "join", &address])?)?;
    holds("Syncing started.", &show.end(laptop, adding)?)?;

    show.chapter("An agent waits. A message from the other repository wakes it.")?;
    let mut waiting = show.begin(desk, &["wait", "--timeout", "20s"])?;
    show.indented(&waiting.talk()?)?;
    let began = Instant::now();
    let sent =
        show.run(laptop, &["send", "The login race is fixed on feature/login. Can you review it?", "--to", "@bob"])?;
    let message = message_id(&sent)?;
    holds("Can you review it?", &show.end(desk, waiting)?)?;
    show.remark(&format!("Bob was awake {} after ann had pressed Enter.", time::millis(began.elapsed())))?;

    show.chapter("The reader reads, and the sender sees it.")?;
    let mut receipts = latency::watch(laptop.client()?)?;
    holds("Can you review it?", &show.run(desk, &["inbox"])?)?;
    latency::arrival(&mut receipts, "message.receipt", &message)?;
    holds("  read ", &show.run(laptop, &["message", "get", &message])?)?;
    show.run(desk, &["reply", &message, "Reviewed. Two nits, otherwise good to merge."])?;
    holds("good to merge", &show.run(laptop, &["wait", "--timeout", "20s"])?)?;

    show.chapter("How both sides see each other.")?;
    for place in [laptop, desk] {
        holds("Peers: 1 connected", &show.run(place, &["status"])?)?;
    }

    show.chapter(&format!("{MESSAGES} messages, one after the other: sent here, readable there."))?;
    let times = latency::measure(MESSAGES, (laptop.client()?, "ann"), (desk.client()?, "bob"))?;
    show.remark(&format!(
        "half within {}, 99 of 100 within {}",
        time::millis(times.percentile(50)),
        time::millis(times.percentile(99))
    ))?;

    show.chapter("Is anything missing? Each side compares with the other, event by event.")?;
    for place in [laptop, desk] {
        holds("Nothing is missing", &show.run(place, &["sync", "verify"])?)?;
    }
    Ok(times)
}

/// Checks that a command printed the expected words: a command can succeed and print something else.
fn holds(words: &str, printed: &str) -> Result<(), Error> {
    match printed.contains(words) {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Failed, format!("'{words}' was expected in:\n{}", printed.trim_end()))),
    }
}

/// Extracts the id from `Sent msg_… to 1 agent`.
fn message_id(printed: &str) -> Result<String, Error> {
    holds("msg_", printed)?;
    Ok(printed.split_whitespace().find(|word| word.starts_with("msg_")).unwrap_or_default().to_owned())
}

fn go_on(laptop: &StagedRepo, desk: &StagedRepo) -> Result<String, Error> {
    let program = env::current_exe().map_err(failed("find this program"))?;
    let on_path =
        env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join("thrum") == program));
    let alias = if on_path { String::new() } else { format!("    alias thrum={}\n", program.display()) };
    Ok(format!(
        "\n{GREEN}Everything held.{GREEN:#} {BOLD}Both repositories are yours now:{BOLD:#}\n\n{alias}    cd {}\n    thrum send \"hello\" --to @bob\n    \
         cd {}\n    thrum inbox\n\nTo end it: thrum daemon stop in both, then remove {}\n",
        laptop.dir.display(),
        desk.dir.display(),
        laptop.dir.parent().unwrap_or(&laptop.dir).display(),
    ))
}

/// Milliseconds with three decimals, for JSON.
pub(crate) fn ms(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Turns an I/O error into an [`Error`] that names the failed action.
pub(crate) fn failed(what: &str) -> impl Fn(io::Error) -> Error {
    move |error| Error::new(ErrorKind::Failed, format!("cannot {what}: {error}"))
}
