//! `thrum mcp`: the mailbox for programs that speak the Model Context Protocol.

use thrum_core::Error;

use crate::{
    context::Context,
    mcp,
    render::{Render, Silent, boxed},
};

/// Serve the mailbox to programs that speak the Model Context Protocol (MCP)
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Serve(ServeArgs),
}

/// Serve MCP on standard input and output, until standard input ends
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An MCP client starts it. What to write into its settings, for most of them:

  {\"mcpServers\": {\"thrum\": {\"command\": \"thrum\", \"args\": [\"mcp\", \"serve\"]}}}

It acts as the agent of the worktree it is started in; --as or THRUM_NAME name another one. It may be started before the \
repository has a mailbox or an agent: then every tool says what is missing.

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
