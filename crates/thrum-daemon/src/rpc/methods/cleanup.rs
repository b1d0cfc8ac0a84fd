//! `agent.cleanup`: lists agents that were left behind, and deletes them.
//!
//! An agent is listed only if it lives at this daemon, has shown no sign of life for the threshold, is not at work in
//! any session, and has an identity file in no worktree of the repository. `thrum-store/src/ops/cleanup.rs` explains
//! how Go Thrum differs. Agents are deleted only with `force`.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use thrum_core::{Ambient, Error, ErrorKind, Timestamp, limits};
use thrum_store::{ops, query::Agent};
use thrum_sync::blocking::blocking;

use super::agent;
use crate::{ambient::System, daemon::Daemon, worktrees};

#[derive(Deserialize)]
pub(super) struct Cleanup {
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    force: bool,
    /// Days; 0 or absent means the default, as in Go.
    #[serde(default)]
    threshold: u32,
}

#[derive(Serialize)]
pub(super) struct Cleaned {
    orphans: Vec<Orphan>,
    deleted: Vec<String>,
    dry_run: bool,
    message: String,
}

#[derive(Serialize)]
struct Orphan {
    agent_id: String,
    role: String,
    module: String,
    worktree: String,
    registered_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<Timestamp>,
    days_since_seen: u64,
}

/// Returns the agents that have no identity in any worktree: neither in one that git lists nor in the one where they
/// worked last. The latter matters because git does not list the main worktree of a repository whose git directory lies
/// elsewhere, nor a directory with a hand-written redirect.
async fn without_identity(daemon: &Daemon, agents: Vec<Agent>) -> Result<Vec<Agent>, Error> {
    let home = daemon.id.clone();
    let placed = daemon.storage.read(move |reader| {
        let last = |agent: Agent| {
            let session = reader.newest_session(&agent.agent_id, &home)?;
            Ok((agent, session.and_then(|session| session.context.worktree_path)))
        };
        agents.into_iter().map(last).collect::<Result<Vec<_>, _>>()
    });
    let (placed, repo) = (placed.await?, daemon.repo.clone());
    blocking(move || {
        let named = worktrees::identities(&repo);
        let lives = |name: &str, top: Option<&str>| {
            named.contains(name) || top.is_some_and(|top| worktrees::has_identity(&repo, Path::new(top), name))
        };
        let gone = placed.into_iter().filter(|(agent, top)| !lives(&agent.agent_id, top.as_deref()));
        Ok(gone.map(|(agent, _)| agent).collect())
    })
    .await
}

pub(super) async fn cleanup(daemon: &Daemon, params: Cleanup) -> Result<Cleaned, Error> {
    const DAY: u64 = 86_400;
    if params.dry_run && params.force {
        return Err(Error::new(ErrorKind::Invalid, "dry_run and force exclude each other"));
    }
    let days = if params.threshold == 0 { limits::ABANDONED_DAYS } else { params.threshold };
    let silence = Duration::from_secs(u64::from(days) * DAY);
    let now = System.now();
    let mut found = daemon.storage.read(move |reader| ops::abandoned(reader, now, silence)).await?;
    // Signs of life that are not yet written down count, too.
    found.retain(|agent| agent::seen(daemon, agent).is_none_or(|seen| now.since(seen) >= silence));
    let found = without_identity(daemon, found).await?;
    let mut deleted = Vec::new();
    if params.force && !found.is_empty() {
        let names: Vec<String> = found.iter().map(|agent| agent.agent_id.clone()).collect();
        deleted = daemon.storage.write(move |tx| tx.delete_abandoned(&names, silence)).await?;
    }
    let silent = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
    let message = match (found.len(), deleted.len()) {
        (0, _) => format!("No agent of this daemon was left behind for {silent}"),
        (found, 0) => format!("{found} left behind for {silent}; nothing was deleted"),
        (_, deleted) => format!("{deleted} deleted; their messages stay"),
    };
    let orphan = |agent: Agent| {
        let last = agent.last_seen_at.unwrap_or_default().max(agent.registered_at);
        Orphan {
            days_since_seen: now.since(last).as_secs() / DAY,
            agent_id: agent.agent_id,
            role: agent.role,
            module: agent.module,
            worktree: agent.worktree,
            registered_at: agent.registered_at,
            last_seen_at: agent.last_seen_at,
        }
    };
    Ok(Cleaned { orphans: found.into_iter().map(orphan).collect(), deleted, dry_run: !params.force, message })
}
