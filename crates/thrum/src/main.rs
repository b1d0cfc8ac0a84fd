//! The `thrum` command: parses arguments, calls the repository's daemon, and prints the result.
//!
//! It has no domain rules: only the daemon knows what a message, a peer or an acknowledgement is.

mod agent_text;
mod answers;
mod arguments;
mod bounded;
mod catch_up;
mod cli;
mod client;
mod commands;
mod context;
mod git;
mod go_daemon;
mod hook;
mod identity;
mod interrupt;
mod mcp;
mod new_file;
mod output;
mod progress;
mod registration;
mod render;
mod runtimes;
mod setup;

mod start;
mod text;
mod time;
mod variables;
mod work_report;

use std::process::ExitCode;

use context::Context;
use output::Output;

fn main() -> ExitCode {
    // A daemon, a `tailscaled` or a git that starts here must not keep open what our caller left open: locks
    // (`flock FILE thrum …`), pipes, sockets.
    close_fds::set_fds_cloexec(3, &[]);
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let output = Output::new(cli.global.json, cli.global.quiet);
    let cx = Context::new(cli.global, output);
    let pause = if let cli::Command::Wait(args) = &cli.command { Some(args.pause()) } else { None };
    let outcome = cli.command.run(&cx).and_then(|result| {
        if cx.output.result(result.as_ref())? {
            result.new_mail().into_iter().for_each(|mail| commands::inbox::mark_read(&mail, &cx));
        }
        Ok(result.code())
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = cx.output.error(&error);
            pause.into_iter().for_each(std::thread::sleep);
            ExitCode::from(code)
        }
    }
}
