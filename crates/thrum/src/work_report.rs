//! Reports to the daemon what an agent is working on.
//!
//! The daemon notices from any call that an agent is present, and then runs git itself, in parallel to its answer. A
//! command runs git only where its own answer includes the result: when a session begins, and in
//! `thrum session heartbeat`. A long `thrum wait` runs git as well, because its agent makes no other call meanwhile.

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

/// Reports what `agent` works on to the daemon, for as long as this process lives. Errors are ignored.
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
