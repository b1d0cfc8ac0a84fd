//! Reads from git what the agents of this daemon work on, whenever one of them makes a call.
//!
//! A call of an agent (a hook of its session, a command, a tool) means that its worktree may have changed. The call
//! only adds the agent's name to a list and is answered at once, because git takes longer than a hook may. One task
//! processes the list, one worktree at a time, and stores the result if it differs from the known state. A worktree is
//! read at most once in [`limits::GIT_PAUSE`], and for at most a tenth of the time, so a large repository is read less
//! often. Requests during the pause are served at its end, so the last change is read, too. Without calls this task
//! does not run git.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use thrum_core::limits;
use thrum_store::ops::Heartbeat;
use tokio::{
    sync::Notify,
    time::{Duration, Instant, sleep_until},
};

use crate::{git, paths::Repo, shutdown::Shutdown, storage::Storage, worktrees};

/// The agents whose worktrees must be read.
#[derive(Debug, Default)]
pub(crate) struct GitState {
    asked: Mutex<BTreeSet<String>>,
    wake: Notify,
}

impl GitState {
    /// Requests a read of an agent's worktree soon.
    pub(crate) fn may_have_changed(&self, agent: &str) {
        let mut asked = self.asked();
        // Callers may invent names. The names of agents without a session here are dropped a moment later.
        if asked.len() < limits::MAX_PRESENT && !asked.contains(agent) {
            asked.insert(agent.to_owned());
            self.wake.notify_one();
        }
    }

    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.asked())
    }

    fn asked(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A poisoned lock is harmless: every change is a single call on the set, so the set is never half changed.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worktree, the sessions that must receive its state, and the earliest time of the next read.
#[derive(Debug, Default)]
struct Worktree {
    sessions: BTreeSet<String>,
    not_before: Option<Instant>,
}

/// Least time between two lookups of the worktree of an agent. A lookup costs about as much as storing a message, so it
/// is not repeated for each call of an agent that makes many. A call during the pause is followed by a lookup after it,
/// because it may have begun a session.
const PAUSE: Duration = Duration::from_millis(200);

/// Processes the list until the daemon stops.
pub(crate) async fn follow(state: Arc<GitState>, repo: Repo, home: String, storage: Arc<Storage>, shutdown: Shutdown) {
    let mut worktrees: BTreeMap<PathBuf, Worktree> = BTreeMap::new();
    // When the worktree of an agent may be looked up again, and the agents that wait for that time.
    let (mut not_before, mut waiting) = (BTreeMap::<String, Instant>::new(), BTreeSet::<String>::new());
    loop {
        let of_worktrees = worktrees
            .values()
            .filter(|worktree| !worktree.sessions.is_empty())
            .filter_map(|worktree| worktree.not_before);
        let of_agents = waiting.iter().filter_map(|agent| not_before.get(agent).copied());
        let next = of_worktrees.chain(of_agents).min();
        let due = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = state.wake.notified() => {}
            () = due => {}
            () = shutdown.stopping() => return,
        }
        waiting.extend(state.take());
        let now = Instant::now();
        not_before.retain(|_, time| *time > now);
        for agent in std::mem::take(&mut waiting) {
            if not_before.contains_key(&agent) {
                waiting.insert(agent);
                continue;
            }
            if let Some((session_id, top)) = place_of(&agent, &repo, &home, &storage).await {
                worktrees.entry(top).or_default().sessions.insert(session_id);
            }
            not_before.insert(agent, Instant::now() + PAUSE);
        }
        let now = Instant::now();
        let may = |worktree: &Worktree| worktree.not_before.is_none_or(|time| time <= now);
        worktrees.retain(|_, worktree| !worktree.sessions.is_empty() || !may(worktree));
        let ready: Vec<PathBuf> = worktrees
            .iter()
            .filter(|(_, worktree)| may(worktree) && !worktree.sessions.is_empty())
            .map(|(top, _)| top.clone())
            .collect();
        for top in ready {
            let begun = Instant::now();
            let sessions =
                worktrees.get_mut(&top).map(|worktree| std::mem::take(&mut worktree.sessions)).unwrap_or_default();
            tokio::select! {
                () = read(&top, sessions, &storage) => {}
                () = shutdown.stopping() => return,
            }
            let pause = limits::GIT_PAUSE.max(begun.elapsed() * limits::GIT_SHARE);
            worktrees.entry(top).or_default().not_before = Some(Instant::now() + pause);
        }
    }
}

/// Returns the newest open session of an agent of this daemon, and the agent's worktree: the one that the session last
/// reported, or else the one that contains the agent's identity, if there is exactly one. Only worktrees of this
/// repository count.
async fn place_of(agent: &str, repo: &Repo, home: &str, storage: &Arc<Storage>) -> Option<(String, PathBuf)> {
    let (name, home) = (agent.to_owned(), home.to_owned());
    let session = storage.read(move |reader| reader.newest_open_session(&name, &home)).await.ok()??;
    let (agent, repo) = (agent.to_owned(), repo.clone());
    let said = session.context.worktree_path;
    let top = tokio::task::spawn_blocking(move || {
        let tops = worktrees::of(&repo);
        let said = said.map(PathBuf::from).filter(|said| tops.contains(said));
        said.or_else(|| {
            let mut homes = tops.into_iter().filter(|top| worktrees::has_identity(&repo, top, &agent));
            homes.next().filter(|_| homes.next().is_none())
        })
    });
    Some((session.session_id, top.await.ok()??))
}

/// Reads the git state of a worktree, and stores it for each of these sessions whose stored state differs.
async fn read(top: &Path, sessions: BTreeSet<String>, storage: &Arc<Storage>) {
    let of = top.to_owned();
    let Ok(Some(work)) =
        tokio::task::spawn_blocking(move || git::collect(&of, std::time::Instant::now() + git::WORK)).await
    else {
        return;
    };
    for session_id in sessions {
        let (known, id) = (work.clone(), session_id.clone());
        // Usually nothing has changed, and then no commit is needed.
        let is_news = storage.read(move |reader| reader.is_news(&id, &known)).await.unwrap_or(false);
        if is_news {
            let beat = Heartbeat { work: Some(work.clone()), ..Heartbeat::default() };
            if let Err(error) = storage.write(move |tx| tx.record_work(&session_id, beat)).await {
                // Most likely the session has ended.
                tracing::debug!(worktree = %top.display(), %error, "cannot store the state of a worktree");
            }
        }
    }
}
