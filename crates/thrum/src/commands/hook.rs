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

/// Run as a hook of an agent program: brief the session, deliver mail, wake it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the program's JSON from standard input and answers in its format. Without a mailbox, a daemon or an agent, and \
after any failure, the hook prints nothing and exits with 0.

Examples:
  echo '{\"session_id\": \"s1\"}' | thrum hook start --host claude
  echo '{\"session_id\": \"s1\", \"prompt\": \"go on\"}' | thrum hook prompt --host codex")]
pub(crate) struct Args {
    /// The event
    event: Event,
    /// The program whose settings contain this hook [default: detected]
    #[arg(long)]
    host: Option<Host>,
    /// Mark a hook of a plugin: it is silent if a hook written by `thrum setup` serves the same event
    #[arg(long)]
    plugin: bool,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Box<dyn Render>, Error> {
    Ok(Box::new(Exits(hook::run(args.event, args.host, args.plugin, cx.global()))))
}
