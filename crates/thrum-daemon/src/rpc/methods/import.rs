//! `import.*`: events, agents and peers of a Go Thrum that was used here before.

use std::{fs, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use thrum_core::{Ambient, ErrorKind, Event, Fault, exchange::Rejected, limits};
use thrum_store::{LogCopy, ops::Adopted};
use thrum_sync::{
    Log, intake,
    legacy::peers::{self, GoPeers, Judged},
    registry::Registry,
    service::{Replaced, TakenOver},
    wire::Served,
};

use super::required;
use crate::{ambient::System, daemon::Daemon, identity, paths::Repo, storage::Storage};

#[derive(Deserialize)]
pub(crate) struct Events {
    events: Vec<Row>,
    /// Only say what would come of it.
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
        };
        self.events.into_iter().map(served).collect()
    }
}

/// A row of Go's log, each column as it stands there.
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
    /// As text, for it may be no JSON.
    event_json: String,
}

#[derive(Serialize)]
pub(crate) struct Taken {
    /// New here.
    applied: usize,
    /// Here already.
    skipped: usize,
    /// Malformed; they stay outside the log.
    rejected: Vec<Refused>,
}

#[derive(Serialize)]
struct Refused {
    event_id: String,
    reason: String,
}

/// Takes a batch of events as they are, in one commit. They count as made here, so that every peer is told, but they keep
/// their origin and nobody signs them. A signature that an origin owes is checked as if a peer had served the event.
pub(super) async fn events(daemon: &Daemon, params: Events) -> Result<Taken, Fault> {
    if params.events.len() > limits::MAX_BATCH_EVENTS {
        return Err(Fault::new(ErrorKind::Invalid, format!("more than {} events at once", limits::MAX_BATCH_EVENTS)));
    }
    let (dry_run, served) = (params.dry_run, params.served());
    let storage = Arc::clone(&daemon.storage);
    let judged = tokio::task::spawn_blocking(move || judge(&storage, served, dry_run)).await;
    judged.map_err(|error| Fault::new(ErrorKind::Failed, format!("the import failed: {error}")))?
}

fn judge(storage: &Arc<Storage>, served: Vec<Served>, dry_run: bool) -> Result<Taken, Fault> {
    let storage: &dyn Log = storage.as_ref();
    let batch = intake::batch("", "", 0, served, storage)?;
    if dry_run {
        return would_be_taken(&batch.events, &batch.rejected, &|events| storage.holds(events));
    }
    let rejected = batch.rejected.iter().map(refused).collect();
    let applied = storage.apply(batch)?;
    Ok(Taken { applied: applied.applied, skipped: applied.skipped, rejected })
}

fn refused(rejected: &Rejected) -> Refused {
    Refused { event_id: rejected.id.clone(), reason: rejected.reason.clone() }
}

fn would_be_taken(events: &[Event], rejected: &[Rejected], holds: intake::Holds<'_>) -> Result<Taken, Fault> {
    let held = holds(&events.iter().collect::<Vec<_>>())?;
    let skipped = held.iter().filter(|held| **held).count();
    Ok(Taken { applied: held.len() - skipped, skipped, rejected: rejected.iter().map(refused).collect() })
}

/// What [`events`] would answer to a dry run, by a copy of the log: the daemon does not run.
pub(crate) fn preview_events(log: &LogCopy, params: Events) -> Result<Taken, Fault> {
    let holds = |events: &[&Event]| events.iter().map(|event| Ok(log.holds(&event.id, &event.body)?)).collect();
    let (events, rejected) = intake::judge(&params.served(), &holds)?;
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
    /// Of the last two, why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    sessions_ended: usize,
}

/// Lets every agent of these former homes live here, each in a commit of its own.
pub(super) async fn adopt(daemon: &Daemon, params: Adopt) -> Result<Adoptions, Fault> {
    let takeover = Arc::new(daemon.storage.read(|reader| reader.takeover(params.former_homes, System.now())).await?);
    let mut agents = Vec::new();
    for agent_id in &takeover.agents {
        let (name, all) = (agent_id.clone(), Arc::clone(&takeover));
        let (status, reason, sessions_ended) = match daemon.storage.write(move |tx| tx.adopt(&name, &all)).await {
            Ok(Adopted::Taken(sessions)) => ("adopted", None, sessions),
            Ok(Adopted::Known) => ("known", None, 0),
            Ok(Adopted::Deleted) => ("deleted", None, 0),
            Ok(Adopted::Elsewhere(home)) => ("elsewhere", Some(format!("{home} took it over first")), 0),
            Err(fault) if fault.kind == ErrorKind::Invalid => ("refused", Some(fault.message), 0),
            Err(fault) => return Err(fault),
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

/// Marks what an agent had read before it came here; what is not here, or not its mail, is passed over.
pub(super) async fn mark_read(daemon: &Daemon, params: MarkRead) -> Result<Marked, Fault> {
    let agent_id = required("agent_id", params.agent_id)?;
    if params.message_ids.len() > limits::MAX_BATCH_EVENTS {
        return Err(Fault::new(ErrorKind::Invalid, format!("more than {} message_ids at once", limits::MAX_BATCH_EVENTS)));
    }
    let marked_count = daemon.storage.write(move |tx| tx.mark_read_before(&agent_id, &params.message_ids)).await?;
    Ok(Marked { marked_count })
}

#[derive(Deserialize)]
pub(crate) struct GoPeersFile {
    /// The text of Go's `peers.json`, tokens and all.
    #[serde(default)]
    peers_json: Option<String>,
    /// The version of Go's tables, by which its wire is known.
    #[serde(default)]
    schema_version: i64,
    /// Where that daemon kept the state of its tailnet node.
    #[serde(default)]
    state_dir: Option<PathBuf>,
    /// The id under which the peers know that daemon, where the file does not say it.
    #[serde(default)]
    known_as: Option<String>,
    /// All its ids.
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
    /// The file, and by which id its peers know that daemon; `None` if it names no peer.
    fn read(&mut self) -> Result<Option<(GoPeers, String)>, Fault> {
        let params = self;
        let invalid = |why: String| Fault::new(ErrorKind::Invalid, why);
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
            return Err(invalid("it is not known by which id its peers know it".to_owned()).hint("Say which: --former-id ID"));
        };
        Ok(Some((file, known_as)))
    }
}

/// What [`peers()`] would answer to a dry run, by the registry alone: the daemon does not run.
pub(crate) fn preview_peers(repo: &Repo, mut params: GoPeersFile) -> Result<PeersTaken, Fault> {
    let Some((file, known_as)) = params.read()? else { return Ok(PeersTaken { peers: Vec::new() }) };
    let id = identity::known(repo)?.unwrap_or_default();
    let registry = Registry::open(repo.peers_file(), &id)?;
    params.former_homes.push(id);
    let judged = file.judge(&params.former_homes, &known_as, registry.peers()).into_iter().map(|judged| match judged {
        Judged::New(peer) => TakenOver {
            name: peer.name,
            daemon_id: peer.daemon_id,
            address: peer.address,
            status: "would_be_taken",
            reason: None,
            note: Some("whether it can reach this daemon shows when that runs".to_owned()),
        },
        Judged::Known(other) => left(other, "known"),
        Judged::Refused(other) => left(other, "refused"),
    });
    Ok(PeersTaken { peers: judged.collect() })
}

fn left(other: peers::Refused, status: &'static str) -> TakenOver {
    TakenOver { name: other.name, daemon_id: other.daemon_id, address: other.address, status, reason: Some(other.reason), note: None }
}

/// Takes Go's peers over with their tokens. Who is a peer here already stays as it is.
pub(super) async fn peers(daemon: &Daemon, mut params: GoPeersFile) -> Result<PeersTaken, Fault> {
    let Some((file, known_as)) = params.read()? else { return Ok(PeersTaken { peers: Vec::new() }) };
    let same = |one: &PathBuf, other: &PathBuf| fs::canonicalize(one).ok().is_some_and(|one| fs::canonicalize(other).ok() == Some(one));
    let own_node = daemon.settings.ts_mode.as_deref() != Some("host");
    let same_node =
        own_node && daemon.settings.ts_state_dir.as_ref().zip(params.state_dir.as_ref()).is_some_and(|(ours, gos)| same(ours, gos));
    if !params.dry_run && file.want_tailnet() {
        // Where the user keeps the daemon from it, the peers are taken all the same, and show why they are not dialled.
        if let Err(fault) = daemon.enable_tailnet().await {
            tracing::warn!("{fault}");
        }
    }
    let replaced = Replaced { known_as, own_ids: params.former_homes, same_node, fixed_port: daemon.settings.ts_port };
    Ok(PeersTaken { peers: daemon.peers.take_over(file, replaced, params.dry_run).await? })
}
