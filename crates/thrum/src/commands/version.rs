//! `thrum version`: prints the version.

use serde_json::json;
use thrum_core::Error;

use crate::render::OneLine;

/// Print the version
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum version
  thrum version --json")]
pub(crate) struct Args {}

/// The version of this command, and of every daemon that it starts.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn run(_: &Args) -> Result<OneLine, Error> {
    Ok(OneLine { line: format!("thrum {VERSION}"), value: json!({"version": VERSION}) })
}
