//! `claim.*`: files that agents ask others to leave alone. Claims are advisory: no change of a file is prevented.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thrum_core::{Ambient, Error, ErrorKind, Machines, Timestamp, limits, path};
use thrum_store::{
    Reader, StoreError,
    query::{self, Mailbox},
};

use super::agent_ref::AgentRef;
use crate::{ambient::System, daemon::Daemon};

/// A claim in an answer.
#[derive(Clone, Serialize)]
pub(super) struct Claim {
    #[serde(flatten)]
    agent: AgentRef,
    /// The file or directory, relative to the top of the worktree.
    path: String,
    claimed_at: Timestamp,
    expires_at: Timestamp,
}

fn shown(machines: &Machines, claims: Vec<query::Claim>) -> Vec<Claim> {
    let shown = |claim: query::Claim| Claim {
        agent: AgentRef::of(Mailbox { agent_id: claim.agent_id, home: claim.home }, machines),
        path: claim.path,
        claimed_at: claim.claimed_at,
        expires_at: claim.until,
    };
    claims.into_iter().map(shown).collect()
}

fn name_machines(reader: &Reader<'_>, machines: &mut Machines, claims: &[query::Claim]) -> Result<(), StoreError> {
    reader.name_machines(machines, claims.iter().map(|claim| claim.home.as_str()))
}

#[derive(Deserialize)]
pub(super) struct Take {
    #[serde(default)]
    caller_agent_id: Option<String>,
    #[serde(default)]
    paths: Vec<String>,
    /// Duration of the claim; [`limits::CLAIM`] by default.
    #[serde(default)]
    for_ms: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Taken {
    /// The caller's claims on these paths now.
    claims: Vec<Claim>,
    /// Claims of other agents that overlap these paths.
    others: Vec<Claim>,
}

pub(super) async fn take(daemon: &Daemon, params: Take, process: Option<i32>) -> Result<Taken, Error> {
    let agent = daemon.caller(params.caller_agent_id, process)?;
    let within = params.for_ms.map_or(limits::CLAIM, Duration::from_millis);
    let mut machines = daemon.machines();
    let taken = daemon.storage.write(move |tx| {
        let claimed = tx.claim(&agent, &params.paths, within)?;
        name_machines(&tx.reader(), &mut machines, &claimed.others)?;
        Ok((claimed, machines))
    });
    let (claimed, machines) = taken.await?;
    Ok(Taken { claims: shown(&machines, claimed.claims), others: shown(&machines, claimed.others) })
}

#[derive(Deserialize)]
pub(super) struct Release {
    #[serde(default)]
    caller_agent_id: Option<String>,
    /// Release these claims and those inside them; all claims if empty.
    #[serde(default)]
    paths: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Released {
    /// The released paths.
    released: Vec<String>,
}

pub(super) async fn release(daemon: &Daemon, params: Release, process: Option<i32>) -> Result<Released, Error> {
    let agent = daemon.caller(params.caller_agent_id, process)?;
    let released = daemon.storage.write(move |tx| tx.release(&agent, &params.paths)).await?;
    Ok(Released { released })
}

#[derive(Deserialize)]
pub(super) struct List {
    /// Only claims that overlap one of these files or directories.
    #[serde(default)]
    files: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Claims {
    /// Sorted by the expiry in the claims' events, latest first; a corrected `expires_at` may be out of order.
    claims: Vec<Claim>,
    /// `true` if the answer has no room for further claims.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

pub(super) async fn list(daemon: &Daemon, params: List) -> Result<Claims, Error> {
    if params.files.len() > limits::MAX_CHECKED_FILES {
        let why = format!(
            "invalid params: files has {} entries; at most {} are allowed",
            params.files.len(),
            limits::MAX_CHECKED_FILES
        );
        return Err(Error::new(ErrorKind::Invalid, why));
    }
    let mut machines = daemon.machines();
    let found = daemon.storage.read(move |reader| {
        let wanted = |claim: &query::Claim| {
            params.files.is_empty() || params.files.iter().any(|file| path::overlap(file, &claim.path))
        };
        let (claims, more) = reader.claims(System.now(), wanted)?;
        name_machines(reader, &mut machines, &claims)?;
        Ok((claims, more, machines))
    });
    let (claims, more, machines) = found.await?;
    Ok(Claims { claims: shown(&machines, claims), more })
}
