//! The command line's grammar. The doc comments of [`Cli`], and those of arguments in every file, are the help texts.

use std::{ffi::OsString, process::ExitCode};

use clap::{
    CommandFactory, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind as Usage},
};
use thrum_core::{Error, ErrorKind};

use crate::{
    arguments::{self, Arguments},
    commands::{
        agent, backup, bench, claim, completions, config, context, daemon, demo, doctor, export, hook, import, inbox,
        init, mcp, message, peer, ping, prime, purge, quickstart, register, release, reply, restore, send, sent,
        session, setup, status, sync, team, version, wait, who_has, whoami,
    },
    context::{Context, Global},
    output::{self, Output},
    render::{Render, Silent, boxed},
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
Start with: thrum quickstart --name ann --role implementer --module auth

A text may start with a dash:
  thrum send \"- done: login\" --to @bob
An argument without a space that starts with -- or with a dash and a letter is an option. For a text such as -done, \
write -- before it, or --intent=-done.

Exit codes: 0 done, 1 failed (wait: timed out; claim: also claimed by others), 2 usage, 3 not found, 4 refused, 69 \
daemon not running, 75 try again.";

/// The commands, in the order in which a new user needs them; `--help` lists them in this order.
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
    Claim(claim::Args),
    Release(release::Args),
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
    Mcp(mcp::Command),
    Hook(hook::Args),
    Setup(setup::Args),
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
    /// Runs the command and returns its output.
    pub(crate) fn run(self, cx: &Context) -> Result<Box<dyn Render>, Error> {
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
            Self::Claim(args) => claim::run(&args, cx),
            Self::Release(args) => boxed(release::run(&args, cx)),
            Self::Ping(args) => boxed(ping::run(&args, cx)),
            Self::Session(command) => command.run(cx),
            Self::Agent(command) => command.run(cx),
            Self::Status(args) => boxed(status::run(&args, cx)),
            Self::Context(command) => command.run(cx),
            Self::Mcp(command) => command.run(cx),
            Self::Hook(args) => hook::run(&args, cx),
            Self::Setup(args) => boxed(setup::run(args, cx)),
            Self::Peer(command) => command.run(cx),
            Self::Sync(command) => command.run(cx),
            Self::Daemon(command) => command.run(cx),
            Self::Backup(args) => boxed(backup::run(&args, cx)),
            Self::Restore(args) => boxed(restore::run(&args, cx)),
            Self::Purge(args) => boxed(purge::run(&args, cx)),
            Self::Config(command) => command.run(cx),
            Self::Completions(args) => completions::run(&args, &mut Cli::command(), cx),
            Self::Demo(args) => demo::run(&args, cx).and_then(|()| boxed(Ok(Silent))),
            Self::Doctor(args) => args.run(cx),
            Self::Export(args) => boxed(export::run(args, cx)),
            Self::Import(args) => boxed(import::run(&args, cx)),
            Self::Bench(args) => boxed(bench::run(&args, cx)),
            Self::Version(args) => boxed(version::run(&args)),
            Self::Janitor(args) => demo::janitor::run(&args).and_then(|()| boxed(Ok(Silent))),
        }
    }
}

/// Pauses after a usage error in `wait`, so that a script which loops around a mistyped `wait` does not spin.
fn pause_if_waiting() {
    if command_named() == "thrum help wait" {
        std::thread::sleep(wait::PAUSE);
    }
}

/// The exit code for a command line that cannot be parsed: success for `thrum hook`. The settings file of an agent
/// program may name an event or option of a later version of Thrum, and a program rejects the prompt if its hook exits
/// with 2.
fn harmless_to_agents(code: ExitCode) -> ExitCode {
    if command_named() == "thrum help hook" { ExitCode::SUCCESS } else { code }
}

/// Returns `thrum help` and the words of the command line that name a command.
fn command_named() -> String {
    let root = Cli::command();
    let (mut at, mut words) = (&root, vec!["thrum help"]);
    for arg in std::env::args_os().skip(1) {
        match at.find_subcommand(&arg) {
            Some(found) => {
                words.push(found.get_name());
                at = found;
            }
            // Global options may come before the command.
            None if words.len() == 1 => {}
            None => break,
        }
    }
    words.join(" ")
}

/// Adds a tip on how to pass a text that looks like an option, in two cases: an option lacks its value; or an argument
/// such as `-done`, of which the parser names only `-d`, begins with an unknown letter. In the second case the error
/// then names the whole argument.
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

/// Parses the command line. Prints help and errors itself; the error is only the exit code.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    let Arguments { all, notes } = arguments::prepare(std::env::args_os(), &Cli::command()).map_err(|error| {
        let json = std::env::args_os().any(|arg| arg == "--json");
        ExitCode::from(Output::new(json, false).error(&error))
    })?;
    let cli = parse_prepared(all).map_err(harmless_to_agents)?;
    let output = Output::new(cli.global.json, cli.global.quiet);
    notes.iter().for_each(|note| output.note(&format!("Note: {note}.")));
    Ok(cli)
}

fn parse_prepared(args: Vec<OsString>) -> Result<Cli, ExitCode> {
    Cli::try_parse_from(&args).map_err(|error| with_way_to_give_a_text(error, &args)).map_err(|error| {
        let asked_for = matches!(error.kind(), Usage::DisplayHelp | Usage::DisplayVersion);
        if !asked_for && std::env::args_os().skip(1).any(|arg| arg == "--json") {
            let text = error.render().to_string();
            let said = text
                .lines()
                .map(str::trim)
                .take_while(|line| !line.starts_with("Usage:"))
                .filter(|line| !line.is_empty());
            let (tips, said): (Vec<_>, Vec<_>) = said.partition(|line| line.starts_with("tip: "));
            let message = said.join(" ").trim_start_matches("error: ").to_owned();
            let hint = tips.first().map_or_else(
                || format!("See `{}`.", command_named()),
                |tip| tip.trim_start_matches("tip: ").to_owned(),
            );
            let error = Error::new(ErrorKind::Invalid, message).hint(hint);
            let code = Output::new(true, false).error(&error);
            pause_if_waiting();
            return ExitCode::from(code);
        }
        if !asked_for {
            Output::usage(&error.render().ansi().to_string());
            pause_if_waiting();
            return ExitCode::from(ErrorKind::Invalid.exit_code());
        }
        match error.print().or_else(output::unless_reader_left) {
            Err(error) => ExitCode::from(Output::new(false, false).error(&error)),
            Ok(()) => ExitCode::SUCCESS,
        }
    })
}
