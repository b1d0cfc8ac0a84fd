//! Reports to the daemon what an agent is working on.
//!
//! After an agent's call, the daemon reads the state of the agent's worktree itself, in the background. A command reads
//! the state and sends it along if it opens a session or sends a heartbeat: `quickstart`, `session start`,
//! `session heartbeat`, and the MCP tool `set_status`. A long `thrum wait` for mail reports the state as well, because
//! its agent makes no other call meanwhile.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thrum_core::{Error, work::Work};
use thrum_daemon::{git, paths::Repo};

use crate::{answers::Whoami, client::Client, context::Context};

/// How long a wait lasts before its first report. A shorter wait reports nothing: there was mail, or the caller only
/// polled.
const FIRST: Duration = Duration::from_secs(1);

/// How often a long wait repeats its report.
const AGAIN: Duration = Duration::from_secs(5 * 60);

/// Returns the current state of the worktree; `None` outside git.
pub(crate) fn work(cx: &Context) -> Result<Option<Work>, Error> {
    let _progress = cx.output.progress("Asking git", None);
    Ok(git::collect(cx.repo()?.root(), Instant::now() + git::WORK))
}

/// Starts a thread that repeatedly tells the daemon what `agent` is working on, until this process ends. Errors are
/// ignored.
pub(crate) fn while_waiting(cx: &Context, agent: &str) {
    let Ok(repo) = cx.repo().cloned() else { return };
    let agent = agent.to_owned();
    thread::spawn(move || {
        thread::sleep(FIRST);
        loop {
            let _ = tell(&repo, &agent);
            thread::sleep(AGAIN);
        }
    });
}

fn tell(repo: &Repo, agent: &str) -> Option<()> {
    let work = git::collect(repo.root(), Instant::now() + git::WORK)?;
    let mut client = Client::connect(&repo.socket()).ok()?;
    let me: Whoami = client.call("agent.whoami", json!({"caller_agent_id": agent})).ok()?;
    client.call::<Value>("session.heartbeat", json!({"session_id": me.session_id?, "work_context": work})).ok()?;
    Some(())
}
