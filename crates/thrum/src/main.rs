//! The `thrum` command: arguments in, one call to the repository's daemon, something printable out.
//!
//! No domain rules: what a message, a peer or an acknowledgement is, the daemon knows.

mod arguments;
mod beat;
mod cli;
mod client;
mod commands;
mod context;
mod git;
mod go_daemon;
mod identity;
mod new_file;
mod output;
mod progress;
mod registration;
mod render;
mod setup;
mod shapes;
mod start;
mod text;
mod time;

use std::process::ExitCode;

use context::Context;
use output::Output;

fn main() -> ExitCode {
    // A daemon, a `tailscaled` or a git that starts here must not keep open what our caller left open: locks (`flock FILE thrum …`),
    // pipes, sockets.
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
            result.written(&cx);
        }
        Ok(result.code())
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(fault) => {
            let code = cx.output.fault(&fault);
            pause.into_iter().for_each(std::thread::sleep);
            ExitCode::from(code)
        }
    }
}
