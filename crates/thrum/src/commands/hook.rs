//! `thrum hook`: runs as a hook of the programs that run agents.

use thrum_core::Error;

use crate::{
    context::Context,
    hook::{
        self,
        host::{Event, Host},
    },
    render::{Exits, Render},
};

/// Run as a hook of a program that runs agents: brief it, bring it mail, wake it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the program's JSON from standard input and answers in its form. Says nothing, and ends with 0, where there is no mailbox, no \
daemon or no agent, or where anything fails.

Examples:
  echo '{\"session_id\": \"s1\"}' | thrum hook start --host claude
  echo '{\"session_id\": \"s1\", \"prompt\": \"go on\"}' | thrum hook prompt --host codex")]
pub(crate) struct Args {
    /// What has happened
    event: Event,
    /// The program whose settings name this hook; else it is recognised
    #[arg(long)]
    host: Option<Host>,
    /// It is a plugin's hook: silent where the hook that `thrum setup` wrote serves the same event
    #[arg(long)]
    plugin: bool,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Box<dyn Render>, Error> {
    Ok(Box::new(Exits(hook::run(args.event, args.host, args.plugin, cx.global()))))
}
