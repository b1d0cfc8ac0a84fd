//! `thrum message`: commands on single messages.

mod delete;
mod edit;
mod get;
mod read;

use thrum_core::Error;

use crate::{
    context::Context,
    render::{Render, boxed},
};

/// Show a message, mark messages as read, and edit or delete your own
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Get(get::Args),
    Read(read::Args),
    Edit(edit::Args),
    Delete(delete::Args),
}

impl Command {
    pub(crate) fn run(self, cx: &Context) -> Result<Box<dyn Render>, Error> {
        match self {
            Self::Get(args) => boxed(get::run(&args, cx)),
            Self::Read(args) => boxed(read::run(&args, cx)),
            Self::Edit(args) => boxed(edit::run(args, cx)),
            Self::Delete(args) => boxed(delete::run(&args, cx)),
        }
    }
}
