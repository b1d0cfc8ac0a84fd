//! What can be typed. The doc comments here and in `commands/` are the help texts.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{
    Args, CommandFactory, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind as Usage},
};
use thrum_core::{ErrorKind, Fault};

use crate::{
    arguments::{self, Arguments},
    commands::{
        agent, backup, bench, completions, config, context, daemon, demo, doctor, export, import, inbox, init, message, peer, ping, prime,
        purge, quickstart, register, reply, restore, send, sent, session, status, sync, team, version, wait, who_has, whoami,
    },
    context::Context,
    output::{self, Output},
    render::{Render, Silent},
};

/// A durable mailbox for coding agents, across sessions, worktrees and machines.
#[derive(Debug, Parser)]
#[command(name = "thrum", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Begin with: thrum quickstart --name ann --role implementer --module auth

An argument that begins with a dash is an option if it is --NAME or a dash and a letter, without a space in it; every other one is a \
text, as in: thrum send \"- done: login\" --to @bob. For a text such as -done, write -- before it, or --intent=-done.

Exit codes: 0 done, 1 failed (wait: timed out), 2 usage, 3 not found, 4 refused, 69 daemon not running, 75 try again.";

/// What every command understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Print one compact line of JSON instead of text; errors too
    #[arg(long, global = true, display_order = 900)]
    pub(crate) json: bool,
    /// The repository, or any directory in it
    #[arg(long, global = true, value_name = "DIR", env = "THRUM_HOME", hide_env_values = true, display_order = 901)]
    pub(crate) repo: Option<PathBuf>,
    /// Act as this agent (else THRUM_NAME, else the only identity of this worktree)
    #[arg(long = "as", global = true, value_name = "NAME", display_order = 902)]
    pub(crate) acting_as: Option<String>,
    /// Print results and errors only, no notes and hints
    #[arg(long, short, global = true, display_order = 903)]
    pub(crate) quiet: bool,
    /// Do not start the daemon if it is not running
    #[arg(long, global = true, display_order = 904)]
    pub(crate) no_start: bool,
}

/// The commands, in the order of a first day.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Args),
    Quickstart(quickstart::Args),
    Register(register::Args),
    Whoami(whoami::Args),
    Prime(prime::Args),
    Send(send::Args),
    Reply(reply::Args),
    Inbox(inbox::Args),
    Sent(sent::Args),
    #[command(subcommand)]
    Message(message::Command),
    Wait(wait::Args),
    Team(team::Args),
    WhoHas(who_has::Args),
    Ping(ping::Args),
    #[command(visible_alias = "overview")]
    Status(status::Args),
    #[command(subcommand)]
    Context(context::Command),
    #[command(subcommand)]
    Session(session::Command),
    #[command(subcommand)]
    Agent(agent::Command),
    #[command(subcommand)]
    Peer(peer::Command),
    #[command(subcommand)]
    Sync(sync::Command),
    #[command(subcommand)]
    Daemon(daemon::Command),
    Purge(purge::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Doctor(doctor::Args),
    #[command(subcommand)]
    Config(config::Command),
    Completions(completions::Args),
    Export(export::Args),
    Import(import::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    Version(version::Args),
    #[command(name = "janitor", hide = true)]
    Janitor(demo::janitor::Args),
}

impl Command {
    /// Runs the command and gives what it has to say.
    pub(crate) fn run(self, cx: &Context) -> Result<Box<dyn Render>, Fault> {
        match self {
            Self::Init(args) => boxed(init::run(&args, cx)),
            Self::Quickstart(args) => boxed(quickstart::run(args, cx)),
            Self::Register(args) => boxed(register::run(&args, cx)),
            Self::Whoami(args) => boxed(whoami::run(&args, cx)),
            Self::Prime(args) => boxed(prime::run(&args, cx)),
            Self::Send(args) => boxed(send::run(args, cx)),
            Self::Reply(args) => boxed(reply::run(args, cx)),
            Self::Inbox(args) => boxed(inbox::run(&args, cx)),
            Self::Sent(args) => boxed(sent::run(&args, cx)),
            Self::Message(command) => command.run(cx),
            Self::Wait(args) => boxed(wait::run(&args, cx)),
            Self::Team(args) => boxed(team::run(&args, cx)),
            Self::WhoHas(args) => boxed(who_has::run(&args, cx)),
            Self::Ping(args) => boxed(ping::run(&args, cx)),
            Self::Session(command) => command.run(cx),
            Self::Agent(command) => command.run(cx),
            Self::Status(args) => boxed(status::run(&args, cx)),
            Self::Context(command) => command.run(cx),
            Self::Peer(command) => command.run(cx),
            Self::Sync(command) => command.run(cx),
            Self::Daemon(command) => command.run(cx),
            Self::Backup(args) => boxed(backup::run(&args, cx)),
            Self::Restore(args) => boxed(restore::run(&args, cx)),
            Self::Purge(args) => boxed(purge::run(&args, cx)),
            Self::Config(command) => command.run(cx),
            Self::Completions(args) => completions::run(&args, cx),
            Self::Demo(args) => demo::run(&args, cx).and_then(|()| boxed(Ok(Silent))),
            Self::Doctor(args) => boxed(doctor::run(&args, cx)),
            Self::Export(args) => boxed(export::run(args, cx)),
            Self::Import(args) => boxed(import::run(&args, cx)),
            Self::Bench(args) => boxed(bench::run(&args, cx)),
            Self::Version(args) => boxed(version::run(&args)),
            Self::Janitor(args) => demo::janitor::run(&args).and_then(|()| boxed(Ok(Silent))),
        }
    }
}

/// The result of one command as the result of any.
pub(crate) fn boxed<R: Render + 'static>(result: Result<R, Fault>) -> Result<Box<dyn Render>, Fault> {
    result.map(|result| Box::new(result) as Box<dyn Render>)
}

/// A loop around a `wait` that is mistyped must not be busy either.
fn pause_if_waiting() {
    if command_named() == "thrum help wait" {
        std::thread::sleep(wait::PAUSE);
    }
}

/// The words of the command line that name a command.
fn command_named() -> String {
    let root = Cli::command();
    let (mut at, mut words) = (&root, vec!["thrum help"]);
    for arg in std::env::args().skip(1) {
        match at.find_subcommand(&arg) {
            Some(found) => {
                words.push(found.get_name());
                at = found;
            }
            // Options of every command may stand before it.
            None if words.len() == 1 => {}
            None => break,
        }
    }
    words.join(" ")
}

/// Adds how a text that looks like an option is given: to an option that lacks its value, and to one dash with several letters,
/// of which the parser names only the first.
fn with_way_to_give_a_text(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    let invalid = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    if error.kind() == Usage::UnknownArgument && !invalid.starts_with("--") {
        let texts: Vec<_> = args.iter().filter_map(|arg| arg.to_str()).collect();
        if let Some(at) = texts.iter().position(|arg| arg.len() > invalid.len() && arg.starts_with(&invalid)) {
            let (whole, before) = (texts[at], texts[at.saturating_sub(1)]);
            error.insert(ContextKind::InvalidArg, ContextValue::String(whole.to_owned()));
            let tip = match before.strip_prefix("--").is_some_and(|name| !name.is_empty() && !name.contains('=')) {
                true => format!("to give '{whole}' as the value of {before}, use '{before}={whole}'"),
                false => format!("to give '{whole}' as a text, use '-- {whole}'"),
            };
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        }
    }
    let lacks_value = matches!(error.kind(), Usage::InvalidValue)
        && error.get(ContextKind::InvalidValue).is_some_and(|value| value.to_string().is_empty());
    if lacks_value {
        let name = invalid.split_whitespace().next().unwrap_or("--OPTION");
        let tip = format!("a text that looks like an option follows a '=': {name}=-text");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Reads the command line. Help and errors are printed here; then there is only an exit code left.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    let Arguments { all, notes } = arguments::prepare(std::env::args_os(), &Cli::command()).map_err(|fault| {
        let json = std::env::args_os().any(|arg| arg == "--json");
        ExitCode::from(Output::new(json, false).fault(&fault))
    })?;
    let cli = parse_prepared(all)?;
    let output = Output::new(cli.global.json, cli.global.quiet);
    notes.iter().for_each(|note| output.note(&format!("Note: {note}.")));
    Ok(cli)
}

fn parse_prepared(args: Vec<OsString>) -> Result<Cli, ExitCode> {
    Cli::try_parse_from(&args).map_err(|error| with_way_to_give_a_text(error, &args)).map_err(|error| {
        let asked_for = matches!(error.kind(), Usage::DisplayHelp | Usage::DisplayVersion);
        if !asked_for && std::env::args_os().skip(1).any(|arg| arg == "--json") {
            let text = error.render().to_string();
            let said = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:")).filter(|line| !line.is_empty());
            let (tips, said): (Vec<_>, Vec<_>) = said.partition(|line| line.starts_with("tip: "));
            let message = said.join(" ").trim_start_matches("error: ").to_owned();
            let hint = tips.first().map_or_else(|| format!("See `{}`.", command_named()), |tip| tip.trim_start_matches("tip: ").to_owned());
            let fault = Fault::new(ErrorKind::Invalid, message).hint(hint);
            let code = Output::new(true, false).fault(&fault);
            pause_if_waiting();
            return ExitCode::from(code);
        }
        if !asked_for {
            Output::usage(&error.render().ansi().to_string());
            pause_if_waiting();
            return ExitCode::from(ErrorKind::Invalid.exit_code());
        }
        match error.print().or_else(output::unless_reader_left) {
            Err(fault) => ExitCode::from(Output::new(false, false).fault(&fault)),
            Ok(()) => ExitCode::SUCCESS,
        }
    })
}
