//! `import.*`: takes over events, agents and peers from a Go Thrum that was used here before.

use std::{fs, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use thrum_core::{Ambient, Error, ErrorKind, Event, event::Rejected, limits};
use thrum_store::{LogCopy, ops::Adopted};
use thrum_sync::{
    Log,
    blocking::blocking,
    intake::{self, Validated},
    legacy::peers::{self, GoPeers, ImportDecision},
    peers::{Replaced, TakenOver},
    protocol::wire::Served,
    registry::Registry,
};

use super::required;
use crate::{ambient::System, daemon::Daemon, identity, paths::Repo, storage::Storage};

#[derive(Deserialize)]
pub(crate) struct Events {
    events: Vec<Row>,
    /// Only report what the import would do.
    #[serde(default)]
    dry_run: bool,
}

impl Events {
    fn served(self) -> Vec<Served> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let served = |row: Row| Served {
            sequence: row.sequence,
            envelope: [given(row.event_id), given(row.kind), given(row.timestamp), given(row.origin_daemon)],
            event_json: row.event_json,
            reference: None,
        };
        self.events.into_iter().map(served).collect()
    }
}

/// A row of Go's log, with each column unchanged.
#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    sequence: i64,
    #[serde(default)]
    event_id: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    origin_daemon: Option<String>,
    /// The column as text, because it may contain invalid JSON.
    event_json: String,
}

#[derive(Serialize)]
pub(crate) struct ImportedBatch {
    /// Number of new events.
    applied: usize,
    /// Number of events that were already here or that a purge keeps out.
    skipped: usize,
    /// Events that are malformed or have a wrong signature; they stay outside the log.
    rejected: Vec<RejectedEvent>,
}

#[derive(Serialize)]
struct RejectedEvent {
    event_id: String,
    reason: String,
}

/// Stores a batch of events unchanged, in pieces. The events count as local, so that every peer receives them, but they
/// keep their origin and are not signed here. If the origin has to sign its events, the signature is verified as if a
/// peer had served the event.
pub(super) async fn events(daemon: &Daemon, params: Events) -> Result<ImportedBatch, Error> {
    if params.events.len() > limits::MAX_BATCH_EVENTS {
        return Err(Error::new(ErrorKind::Invalid, format!("more than {} events at once", limits::MAX_BATCH_EVENTS)));
    }
    let (dry_run, served) = (params.dry_run, params.served());
    let storage = Arc::clone(&daemon.storage);
    blocking(move || apply(&storage, served, dry_run)).await
}

fn apply(storage: &Arc<Storage>, served: Vec<Served>, dry_run: bool) -> Result<ImportedBatch, Error> {
    let storage: &dyn Log = storage.as_ref();
    let batch = intake::batch("", "", 0, &served, storage)?;
    if dry_run {
        return would_be_taken(&batch.events, &batch.rejected, &|events| storage.holds(events));
    }
    let rejected = batch.rejected.iter().map(rejected_event).collect();
    let applied = storage.apply(batch)?;
    Ok(ImportedBatch { applied: applied.applied, skipped: applied.skipped, rejected })
}

fn rejected_event(rejected: &Rejected) -> RejectedEvent {
    RejectedEvent { event_id: rejected.id.clone(), reason: rejected.reason.clone() }
}

fn would_be_taken(events: &[Event], rejected: &[Rejected], holds: intake::Holds<'_>) -> Result<ImportedBatch, Error> {
    let held = holds(&events.iter().collect::<Vec<_>>())?;
    let skipped = held.iter().filter(|held| **held).count();
    Ok(ImportedBatch {
        applied: held.len() - skipped,
        skipped,
        rejected: rejected.iter().map(rejected_event).collect(),
    })
}

/// Returns the answer of [`events`] to a dry run, based on a copy of the log, while the daemon does not run.
pub(crate) fn preview_events(log: &LogCopy, params: Events) -> Result<ImportedBatch, Error> {
    let holds = |events: &[&Event]| events.iter().map(|event| Ok(log.holds(&event.id, &event.body)?)).collect();
    let Validated { events, rejected, .. } = intake::validate(&params.served(), &holds)?;
    would_be_taken(&events, &rejected, &holds)
}

#[derive(Deserialize)]
pub(super) struct Adopt {
    #[serde(default)]
    former_homes: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Adoptions {
    agents: Vec<Adoption>,
}

#[derive(Serialize)]
struct Adoption {
    agent_id: String,
    /// `adopted`, `known`, `deleted`, `elsewhere` or `refused`.
    status: &'static str,
    /// The reason for `elsewhere` and `refused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    sessions_ended: usize,
}

/// Takes over the agents of these former homes where possible, one by one.
pub(super) async fn adopt(daemon: &Daemon, params: Adopt) -> Result<Adoptions, Error> {
    let takeover = Arc::new(daemon.storage.read(|reader| reader.takeover(params.former_homes, System.now())).await?);
    let mut agents = Vec::new();
    for agent_id in &takeover.agents {
        let (name, all) = (agent_id.clone(), Arc::clone(&takeover));
        let (status, reason, sessions_ended) = match daemon.storage.write(move |tx| tx.adopt(&name, &all)).await {
            Ok(Adopted::Taken(sessions)) => ("adopted", None, sessions),
            Ok(Adopted::AlreadyHere) => ("known", None, 0),
            Ok(Adopted::Deleted) => ("deleted", None, 0),
            Ok(Adopted::Elsewhere(home)) => ("elsewhere", Some(format!("{home} took it over first")), 0),
            Err(error) if error.kind == ErrorKind::Invalid => ("refused", Some(error.message), 0),
            Err(error) => return Err(error),
        };
        agents.push(Adoption { agent_id: agent_id.clone(), status, reason, sessions_ended });
    }
    Ok(Adoptions { agents })
}

#[derive(Deserialize)]
pub(super) struct MarkRead {
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    message_ids: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Marked {
    marked_count: usize,
}

/// Marks messages as read that an agent had read before it came here. Messages that are missing here or are not the
/// agent's mail are skipped.
pub(super) async fn mark_read(daemon: &Daemon, params: MarkRead) -> Result<Marked, Error> {
    let agent_id = required("agent_id", params.agent_id)?;
    if params.message_ids.len() > limits::MAX_BATCH_EVENTS {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("more than {} message_ids at once", limits::MAX_BATCH_EVENTS),
        ));
    }
    let marked_count = daemon.storage.write(move |tx| tx.mark_read_before(&agent_id, &params.message_ids)).await?;
    Ok(Marked { marked_count })
}

#[derive(Deserialize)]
pub(crate) struct GoPeersFile {
    /// The text of Go's `peers.json`, including tokens.
    #[serde(default)]
    peers_json: Option<String>,
    /// The version of Go's tables, which determines the protocol version of its peers.
    #[serde(default)]
    schema_version: i64,
    /// Directory with the state of the Go daemon's tailnet node.
    #[serde(default)]
    state_dir: Option<PathBuf>,
    /// The id by which the peers know the Go daemon, if `peers.json` does not contain it.
    #[serde(default)]
    known_as: Option<String>,
    /// All ids that the Go daemon has had.
    #[serde(default)]
    former_homes: Vec<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Serialize)]
pub(crate) struct PeersTaken {
    peers: Vec<TakenOver>,
}

impl GoPeersFile {
    /// Parses the file and determines the id by which the peers know the Go daemon. `None` if the file names no peer.
    fn read(&mut self) -> Result<Option<(GoPeers, String)>, Error> {
        let params = self;
        let invalid = |why: String| Error::new(ErrorKind::Invalid, why);
        let file = GoPeers::read(&params.peers_json.take().unwrap_or_default())
            .map_err(|why| invalid(format!("its peers.json cannot be used: {why}")))?;
        if file.is_empty() {
            return Ok(None);
        }
        if params.schema_version > peers::LAST_SCHEMA {
            let why = "its peers speak the protocol of Go Thrum v0.7 and later, which is not spoken here";
            return Err(invalid(why.to_owned()).hint("Pair with those that change over, too: thrum peer add"));
        }
        let Some(known_as) = file.own_id.clone().or(params.known_as.take()) else {
            return Err(
                invalid("it is not known by which id its peers know it".to_owned()).hint("Say which: --former-id ID")
            );
        };
        Ok(Some((file, known_as)))
    }
}

/// Returns the answer of [`peers()`] to a dry run, based on the registry alone, while the daemon does not run.
pub(crate) fn preview_peers(repo: &Repo, mut params: GoPeersFile) -> Result<PeersTaken, Error> {
    let Some((file, known_as)) = params.read()? else { return Ok(PeersTaken { peers: Vec::new() }) };
    let id = identity::known(repo)?.unwrap_or_default();
    let registry = Registry::open(repo.peers_file(), &id)?;
    params.former_homes.push(id);
    let decision =
        file.classify(&params.former_homes, &known_as, registry.peers()).into_iter().map(|decision| match decision {
            ImportDecision::New(peer) => TakenOver {
                name: peer.name,
                daemon_id: peer.daemon_id,
                address: peer.address,
                status: "would_be_taken",
                reason: None,
                note: Some("whether it can reach this daemon shows when that runs".to_owned()),
            },
            ImportDecision::Known(other) => left(other, "known"),
            ImportDecision::Refused(other) => left(other, "refused"),
        });
    Ok(PeersTaken { peers: decision.collect() })
}

fn left(other: peers::Refused, status: &'static str) -> TakenOver {
    TakenOver {
        name: other.name,
        daemon_id: other.daemon_id,
        address: other.address,
        status,
        reason: Some(other.reason),
        note: None,
    }
}

/// Takes over Go's peers with their tokens. Peers that are already known here stay unchanged.
pub(super) async fn peers(daemon: &Daemon, mut params: GoPeersFile) -> Result<PeersTaken, Error> {
    let Some((file, known_as)) = params.read()? else { return Ok(PeersTaken { peers: Vec::new() }) };
    let same = |one: &PathBuf, other: &PathBuf| {
        fs::canonicalize(one).ok().is_some_and(|one| fs::canonicalize(other).ok() == Some(one))
    };
    let own_node = daemon.settings.ts_mode.as_deref() != Some("host");
    let same_node = own_node
        && daemon
            .settings
            .ts_state_dir
            .as_ref()
            .zip(params.state_dir.as_ref())
            .is_some_and(|(ours, gos)| same(ours, gos));
    if !params.dry_run && file.want_tailnet() {
        // If the user keeps the daemon off the tailnet, the peers are taken over all the same, and their state shows
        // why they are not dialled.
        if let Err(error) = daemon.enable_tailnet().await {
            tracing::warn!(%error, "cannot switch the tailnet on");
        }
    }
    let replaced = Replaced { known_as, own_ids: params.former_homes, same_node, fixed_port: daemon.settings.ts_port };
    Ok(PeersTaken { peers: daemon.peers.take_over(file, replaced, params.dry_run).await? })
}
