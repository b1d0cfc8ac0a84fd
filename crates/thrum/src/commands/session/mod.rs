//! `thrum session`: an agent's periods of work, and what each is about.

pub(crate) mod end;
pub(crate) mod heartbeat;
pub(crate) mod list;
pub(crate) mod say;
pub(crate) mod start;

use serde_json::json;
use thrum_core::{Error, ErrorKind, name::printable};

use crate::{
    answers::Whoami,
    client::Client,
    context::Context,
    identity::{self, Identity, IdentityFile},
    render::{Render, boxed},
};

/// Start and end sessions, and set their intent and task
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Start(start::Args),
    End(end::Args),
    List(list::Args),
    Heartbeat(heartbeat::Args),
    SetIntent(say::IntentArgs),
    SetTask(say::TaskArgs),
}

impl Command {
    pub(crate) fn run(self, cx: &Context) -> Result<Box<dyn Render>, Error> {
        match self {
            Self::Start(args) => boxed(start::run(&args, cx)),
            Self::End(args) => boxed(end::run(&args, cx)),
            Self::List(args) => boxed(list::run(&args, cx)),
            Self::Heartbeat(args) => boxed(heartbeat::run(&args, cx)),
            Self::SetIntent(args) => boxed(say::intent(&args, cx)),
            Self::SetTask(args) => boxed(say::task(&args, cx)),
        }
    }
}

/// The session that a command applies to.
struct Mine {
    session_id: String,
    /// The session's agent, unless the session was given by its id.
    identity: Option<Identity>,
}

/// Returns the session with the given id, or else the caller's open session.
fn mine(session_id: Option<&String>, cx: &Context, client: &mut Client) -> Result<Mine, Error> {
    if let Some(id) = session_id {
        return Ok(Mine { session_id: id.clone(), identity: None });
    }
    let identity = cx.identity()?;
    let me: Whoami = client.call("agent.whoami", json!({"caller_agent_id": identity.name}))?;
    let session_id = me.session_id.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("{} has no open session", printable(&identity.name)))
            .hint("thrum session start")
    })?;
    Ok(Mine { session_id, identity: Some(identity) })
}

/// Changes an agent's identity file; does nothing without an agent, or if it has no file in this worktree.
fn update_identity(
    identity: Option<Identity>,
    cx: &Context,
    change: impl FnOnce(&mut IdentityFile),
) -> Result<(), Error> {
    if let Some((_, mut file)) = identity.and_then(|identity| identity.file) {
        change(&mut file);
        identity::write(&cx.repo()?.identities(), file)?;
    }
    Ok(())
}
