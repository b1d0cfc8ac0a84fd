//! `thrum register`: registers an agent without starting a session.

use serde_json::{Value, json};
use thrum_core::Error;

use crate::{
    context::Context,
    identity::IdentityFile,
    registration::{self, Enrolled, Wanted},
    render::{Page, Render, agent},
};

/// Register an agent without starting a session
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Safe to repeat: the agent keeps its identity, and options that are not given keep their values.

Examples:
  thrum register --name dora --role reviewer --module docs
  thrum register --name dora --display \"Dora (docs)\"")]
pub(crate) struct Args {
    #[command(flatten)]
    wanted: Wanted,
}

/// A registered agent and the path of its identity file.
pub(crate) struct Registered {
    enrolled: Enrolled,
    path: String,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Registered, Error> {
    let (mut enrolled, _) = registration::enrol(&args.wanted, cx)?;
    let path = enrolled.keep(cx)?.display().to_string();
    if enrolled.file.session_id.is_none() {
        cx.output.hint(&format!("thrum session start --as {}", enrolled.file.agent.name));
    }
    Ok(Registered { enrolled, path })
}

impl Render for Registered {
    fn human(&self, page: &mut Page) {
        registered(&self.enrolled, page);
    }

    fn json(&self) -> Value {
        let Enrolled { file: IdentityFile { agent: part, worktree, branch, .. }, status } = &self.enrolled;
        json!({
            "status": status, "agent_id": part.name, "role": part.role, "module": part.module, "display": part.display,
            "worktree": worktree, "branch": branch, "identity_file": self.path,
        })
    }
}

/// Prints the line that names the registered agent.
pub(crate) fn registered(enrolled: &Enrolled, page: &mut Page) {
    let part = &enrolled.file.agent;
    let again = if enrolled.status == "updated" { "again " } else { "" };
    page.line(format!("Registered {again}as {} ({}, {})", agent(&part.name), part.role, part.module));
}
