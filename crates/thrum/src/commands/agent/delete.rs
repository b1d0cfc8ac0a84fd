//! `thrum agent delete`: deletes a local agent and its identity files.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, name};
use thrum_daemon::worktrees;

use crate::{
    answers::{Answer, Any},
    context::Context,
    render::{Page, Render, agent},
};

/// Delete a local agent: registration, sessions and identity; its messages are kept
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The deletion is replicated to all machines. An agent of another machine can only be deleted there.

Examples:
  thrum agent delete bob --force
  thrum agent delete @carol --force")]
pub(crate) struct Args {
    /// The name of the agent
    #[arg(value_name = "NAME")]
    name: String,
    /// Skip the confirmation prompt
    #[arg(long)]
    force: bool,
}

/// A deleted agent, and the identity files that were deleted with it.
pub(crate) struct Deleted {
    name: String,
    answer: Answer<Any>,
    files: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Deleted, Error> {
    let name = args.name.strip_prefix('@').unwrap_or(&args.name);
    // The name becomes part of a path.
    name::check_agent(name)?;
    let mut client = cx.daemon()?;
    if !args.force {
        confirm(&format!("Delete @{name}? Its messages stay."), cx)?;
    }
    let answer = client.call("agent.delete", json!({"name": name}))?;
    let mut files = Vec::new();
    for top in worktrees::of(cx.repo()?) {
        let path = top.join(".thrum/identities").join(format!("{name}.json"));
        match fs::remove_file(&path) {
            Ok(()) => files.push(path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => cx.output.warn(&format!("the identity {} stays: {error}", path.display())),
        }
    }
    Ok(Deleted { name: name.to_owned(), answer, files })
}

/// Asks the user to confirm. Fails if the user declines, or without a terminal to ask on: then only a flag can confirm.
pub(in crate::commands) fn confirm(question: &str, cx: &Context) -> Result<(), Error> {
    let Some(answer) = cx.output.ask(&format!("{question} [y/N] ")) else {
        return Err(Error::new(
            ErrorKind::Invalid,
            "a deletion is for good, and standard input is no terminal to ask on",
        )
        .hint("Add --force."));
    };
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::Refused, "nothing was deleted"))
    }
}

impl Render for Deleted {
    fn human(&self, page: &mut Page) {
        page.line(format!("Deleted {}; its messages stay", agent(&self.name)));
        for file in &self.files {
            page.line(format!("Removed {}", file.display()));
        }
    }

    fn json(&self) -> Value {
        let mut value = self.answer.raw.clone();
        value["identity_files"] = json!(self.files);
        value
    }
}
