//! `thrum agent`: lists registered agents, shows their work, and deletes single agents or all that were left behind.

mod cleanup;
mod context;
mod delete;
mod list;

pub(super) use delete::confirm;
use thrum_core::Error;

use crate::{
    commands::{register, session, whoami},
    context::Context,
    render::{Render, boxed},
};

/// List, clean up and delete agents
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Aliases below `thrum agent`: register, whoami, start, end, heartbeat, set-intent, set-task.")]
pub(crate) enum Command {
    List(list::Args),
    Context(context::Args),
    Delete(delete::Args),
    Cleanup(cleanup::Args),
    /// The other name of `thrum register`
    #[command(hide = true)]
    Register(register::Args),
    /// The other name of `thrum whoami`
    #[command(hide = true)]
    Whoami(whoami::Args),
    /// The other name of `thrum session start`
    #[command(hide = true)]
    Start(session::start::Args),
    /// The other name of `thrum session end`
    #[command(hide = true)]
    End(session::end::Args),
    /// The other name of `thrum session heartbeat`
    #[command(hide = true)]
    Heartbeat(session::heartbeat::Args),
    /// The other name of `thrum session set-intent`
    #[command(hide = true)]
    SetIntent(session::say::IntentArgs),
    /// The other name of `thrum session set-task`
    #[command(hide = true)]
    SetTask(session::say::TaskArgs),
}

impl Command {
    pub(crate) fn run(self, cx: &Context) -> Result<Box<dyn Render>, Error> {
        match self {
            Self::List(args) => boxed(list::run(&args, cx)),
            Self::Context(args) => boxed(context::run(&args, cx)),
            Self::Delete(args) => boxed(delete::run(&args, cx)),
            Self::Cleanup(args) => boxed(cleanup::run(&args, cx)),
            Self::Register(args) => boxed(register::run(&args, cx)),
            Self::Whoami(args) => boxed(whoami::run(&args, cx)),
            Self::Start(args) => session::Command::Start(args).run(cx),
            Self::End(args) => session::Command::End(args).run(cx),
            Self::Heartbeat(args) => session::Command::Heartbeat(args).run(cx),
            Self::SetIntent(args) => session::Command::SetIntent(args).run(cx),
            Self::SetTask(args) => session::Command::SetTask(args).run(cx),
        }
    }
}
