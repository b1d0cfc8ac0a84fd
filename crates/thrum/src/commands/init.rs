//! `thrum init`: sets up the repository, and starts its daemon.

use serde_json::{Value, json};
use thrum_core::Error;

use crate::{
    context::Context,
    identity,
    render::{Page, Render},
    setup::{self, Setup},
    start,
};

/// Set up this repository and start its daemon; safe to repeat
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum init
  thrum init --repo . --no-start")]
pub(crate) struct Args {
    /// Put `.thrum/` into .git/info/exclude instead of .gitignore
    #[arg(long)]
    stealth: bool,
}

/// A repository that is set up, with its daemon running unless the user declined.
pub(crate) struct Initialised {
    setup: Setup,
    started: Option<u32>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Initialised, Error> {
    let setup = setup::set_up(cx.directory(), args.stealth)?;
    setup.tell(&cx.output);
    let started = if cx.may_start() { Some(start::ensure(&setup.repo, &cx.output)?.1.pid) } else { None };
    if identity::candidates(&setup.repo.identities())?.is_empty() {
        cx.output.hint("thrum quickstart --name NAME --role ROLE --module MODULE");
    }
    Ok(Initialised { setup, started })
}

impl Render for Initialised {
    fn human(&self, page: &mut Page) {
        let Setup { repo, created, ignored_in, shares_with, .. } = &self.setup;
        let local = repo.local_dir().display();
        page.line(if *created { format!("Created {local}") } else { format!("{local} was here already") });
        if let Some(main) = shares_with {
            page.line(format!("This worktree shares the daemon of {}", main.display()));
        }
        if let Some(file) = ignored_in {
            page.line(format!("Added .thrum/ to {}", self.setup.shown(file)));
        }
        if let Some(pid) = self.started {
            page.line(format!("The daemon is running (pid {pid})"));
        }
    }

    fn json(&self) -> Value {
        let Setup { repo, created, git, ignored_in, shares_with, exposed_env } = &self.setup;
        json!({
            "status": if *created { "created" } else { "exists" }, "root": repo.root(), "thrum_dir": repo.thrum_dir(), "git": git,
            "gitignore_changed": ignored_in.is_some(), "shares_daemon_with": shares_with, "env_not_ignored": exposed_env,
            "daemon_pid": self.started,
        })
    }
}
