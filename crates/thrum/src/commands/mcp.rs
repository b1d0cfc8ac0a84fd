//! `thrum mcp`: the mailbox for programs that speak the Model Context Protocol.

use thrum_core::Error;

use crate::{
    context::Context,
    mcp,
    render::{Render, Silent, boxed},
};

/// Serve the mailbox over the Model Context Protocol (MCP)
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Serve(ServeArgs),
}

/// Serve MCP on standard input and output until standard input is closed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
MCP clients start this command. The settings of most clients take this form:

  {\"mcpServers\": {\"thrum\": {\"command\": \"thrum\", \"args\": [\"mcp\", \"serve\"]}}}

The server acts as the agent of the worktree in which it is started; --as or THRUM_NAME select another one. If the \
repository has no mailbox or agent yet, every tool reports what is missing.

Examples:
  thrum mcp serve
  thrum mcp serve --as ann --repo ~/src/app")]
pub(crate) struct ServeArgs {}

impl Command {
    pub(crate) fn run(self, cx: &Context) -> Result<Box<dyn Render>, Error> {
        match self {
            Self::Serve(ServeArgs {}) => mcp::serve(cx.global().clone()).and_then(|()| boxed(Ok(Silent))),
        }
    }
}
