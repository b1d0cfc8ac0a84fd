//! `collision.*`: files that two agents changed at nearly the same time. A collision is not mail: it is in no mailbox
//! and is not sent.

use serde::{Deserialize, Serialize};
use thrum_core::{Ambient, Error, Machines, Timestamp, path};
use thrum_store::{self as store, Reader, StoreError, ops, query::Mailbox};

use super::agent_ref::AgentRef;
use crate::{ambient::System, daemon::Daemon};

#[derive(Serialize)]
pub(super) struct Collisions {
    /// The latest collision first.
    collisions: Vec<Collision>,
}

#[derive(Serialize)]
struct Collision {
    /// The file, relative to the top of the worktree.
    path: String,
    /// An agent of this daemon.
    agent_id: String,
    address: String,
    /// When the agent last changed the file.
    changed_at: Timestamp,
    other: Other,
    /// When the collision was detected.
    noted_at: Timestamp,
}

#[derive(Serialize)]
struct Other {
    #[serde(flatten)]
    agent: AgentRef,
    /// When the other agent last changed the file, by its own machine's clock.
    changed_at: Timestamp,
}

#[derive(Deserialize)]
pub(super) struct List {
    /// Only collisions on this file, or on files in this directory.
    #[serde(default)]
    file: Option<String>,
}

/// Lists the collisions that were detected within the last hour.
pub(super) async fn list(daemon: &Daemon, params: List) -> Result<Collisions, Error> {
    let (here, mut machines) = (daemon.id.clone(), daemon.machines());
    let found = daemon.storage.read(move |reader| {
        let mut found = reader.collisions(System.now(), None)?;
        // A collision of two local agents is recorded for each of them; list it once.
        found.retain(|one| one.home != here || one.agent_id < one.other);
        found.retain(|one| params.file.as_ref().is_none_or(|file| path::is_within(&one.path, file)));
        name_machines(reader, &mut machines, &found)?;
        Ok((found, machines))
    });
    let (found, machines) = found.await?;
    Ok(shown(daemon, &machines, found))
}

#[derive(Deserialize)]
pub(super) struct News {
    #[serde(default)]
    caller_agent_id: Option<String>,
}

/// Returns the collisions that the caller has not been told of yet, and marks them as told.
pub(super) async fn news(daemon: &Daemon, params: News, process: Option<i32>) -> Result<Collisions, Error> {
    let agent = daemon.caller(params.caller_agent_id, process)?;
    let (name, mut machines) = (agent.clone(), daemon.machines());
    let found = daemon.storage.read(move |reader| {
        ops::resident(reader, &name)?;
        let found = reader.collisions(System.now(), Some(&name))?;
        name_machines(reader, &mut machines, &found)?;
        Ok((found, machines))
    });
    let (found, machines) = found.await?;
    // Collisions that are recorded between this read and the write are news for the next call.
    if let Some(upto) = found.iter().map(|one| one.noted_at).max() {
        daemon.storage.write(move |tx| tx.collisions_told(&agent, upto)).await?;
    }
    Ok(shown(daemon, &machines, found))
}

fn name_machines(reader: &Reader<'_>, machines: &mut Machines, found: &[store::Collision]) -> Result<(), StoreError> {
    reader.name_machines(machines, found.iter().map(|one| one.home.as_str()))
}

fn shown(daemon: &Daemon, machines: &Machines, found: Vec<store::Collision>) -> Collisions {
    let shown = |one: store::Collision| Collision {
        path: one.path,
        address: machines.address(&one.agent_id, &daemon.id),
        agent_id: one.agent_id,
        changed_at: one.own_at,
        noted_at: one.noted_at,
        other: Other {
            agent: AgentRef::of(Mailbox { agent_id: one.other, home: one.home }, machines),
            changed_at: one.other_at,
        },
    };
    Collisions { collisions: found.into_iter().map(shown).collect() }
}
