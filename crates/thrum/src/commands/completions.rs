//! `thrum completions`: scripts that let a shell complete commands and options.

use clap_complete::Shell;
use serde_json::json;
use thrum_core::Error;

use crate::{
    context::Context,
    render::{OneLine, Render, Silent, boxed},
};

/// Print a shell completion script
#[derive(Debug, clap::Args)]
#[command(after_help = "\
To enable completions in every new shell:
  bash: add `source <(thrum completions bash)` to ~/.bashrc
  zsh:  add `source <(thrum completions zsh)` to ~/.zshrc, after compinit
  fish: thrum completions fish > ~/.config/fish/completions/thrum.fish

Examples:
  thrum completions bash
  thrum completions fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Writes the completion script. `program` is the grammar of the whole command line.
pub(crate) fn run(args: &Args, program: &mut clap::Command, cx: &Context) -> Result<Box<dyn Render>, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, program, "thrum", &mut script);
    if cx.output.is_json() {
        let value = json!({"shell": args.shell.to_string(), "script": String::from_utf8_lossy(&script)});
        return boxed(Ok(OneLine { line: String::new(), value }));
    }
    cx.output.exactly(&script)?;
    boxed(Ok(Silent))
}
