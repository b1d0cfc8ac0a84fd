//! Telling the daemon what one works on.
//!
//! That an agent is there, the daemon sees by any call it makes. What it works on only git knows, and only the command asks
//! git: when a session begins, when somebody runs `thrum session heartbeat`, and beside a `thrum wait` that lasts, which is
//! how an agent with a listener is up to date without doing anything. No other command of an agent's day starts git.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thrum_core::{Fault, work::Work};
use thrum_daemon::paths::Repo;

use crate::{
    client::Client,
    context::Context,
    git::{self, Collected},
    shapes::Whoami,
};

/// How long a command waits for git. A large repository takes some 100 ms; one that takes longer is on a slow disk, and then
/// the branch has to do.
const GIT: Duration = Duration::from_secs(2);

/// A wait that is shorter tells nothing: there was mail, or somebody only looked.
const FIRST: Duration = Duration::from_secs(1);

/// How often a wait that lasts tells again.
const AGAIN: Duration = Duration::from_secs(5 * 60);

/// The state of the worktree now; `None` outside git.
pub(crate) fn work(cx: &Context) -> Result<Option<Work>, Fault> {
    Ok(look(cx)?.map(|found| found.work))
}

/// The state of the worktree now, and whether git said it; `None` outside git.
pub(crate) fn look(cx: &Context) -> Result<Option<Collected>, Fault> {
    let _progress = cx.output.progress("Asking git", None);
    Ok(git::collect(cx.repo()?.root(), Instant::now() + GIT))
}

/// Tells the daemon, as long as this process lives, what `agent` works on. Nothing that goes wrong here is worth a word.
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
    let work = git::collect(repo.root(), Instant::now() + GIT)?.work;
    let mut client = Client::connect(&repo.socket()).ok()?;
    let me: Whoami = client.call("agent.whoami", json!({"caller_agent_id": agent})).ok()?;
    client.call::<Value>("session.heartbeat", json!({"session_id": me.session_id?, "work_context": work})).ok()?;
    Some(())
}
