//! `thrum release`: gives up claimed files.

use serde::Deserialize;
use serde_json::json;
use thrum_core::Error;

use crate::{answers::Answer, commands::who_has, context::Context, render::OneLine, text::quote};

/// Release your claims on files; without a path, all of them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Claims also end by themselves, and with your session. It is not an error if a path is not claimed.

Examples:
  thrum release src/login.rs
  thrum release")]
pub(crate) struct Args {
    /// Files and directories, relative to the current directory; a directory includes your claims inside it
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
}

/// The answer to `claim.release`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Released {
    released: Vec<String>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<OneLine, Error> {
    let me = cx.identity()?.name;
    let paths = who_has::repo_paths(&args.paths, cx)?;
    let Answer { raw, read } =
        cx.daemon()?.call::<Answer<Released>>("claim.release", json!({"caller_agent_id": me, "paths": paths}))?;
    let released: Vec<String> = read.released.iter().map(|path| quote(path)).collect();
    let line = if released.is_empty() {
        "Nothing of that was claimed".to_owned()
    } else {
        format!("Released {}", released.join(", "))
    };
    Ok(OneLine { line, value: raw })
}
