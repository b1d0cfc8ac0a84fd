//! `thrum import`: imports the events, agents, notes and peers of a Go Thrum.

mod files;
mod source;

use std::{fs, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, limits, name::printable};
use thrum_daemon::preview::Preview;
use thrum_store::{GoDatabase, GoEvent, GoTotals};

use self::{
    files::{LeftBehind, NoteTaken},
    source::Source,
};
use crate::{
    client::Client,
    context::Context,
    identity,
    render::{Page, Render, agent, style::YELLOW},
    setup,
    text::{count, quote},
};

/// Maximum number of rejected events that are shown to users; the JSON output has [`limits::MAX_BATCH_EVENTS`] at most.
const SHOWN: usize = 20;

/// Time limit for one batch: folding a thousand events into a large log on a slow disk.
const BATCH: Duration = limits::LOCAL_CALL.saturating_mul(6);

/// Import the events, agents and peers of a Go Thrum
#[derive(Debug, clap::Args)]
#[command(after_help = "\
PATH is the repository, one of its worktrees, its .thrum, or a messages.db. It is not changed, and its daemon must \
not be running. A repeated import, also after an interruption, imports only what is new.

Identities, notes and preambles of the worktree are copied unless they already exist here. Files that are not \
imported, such as config.json and .env, are listed. A dry run does not start a daemon.

Events are imported unchanged, under the ID of the daemon that wrote them. The agents of that daemon become agents \
of this daemon, and keep the mail that they received, read and sent. Peers of v0.5.9 to v0.6.3 are imported with \
their tokens, and still know this daemon by its old ID. The output shows for each of them whether it can still reach \
this daemon. Existing peers are not changed.

To migrate in the same repository: thrum daemon stop; mv .thrum .thrum-go && thrum init && thrum import .thrum-go

Examples:
  thrum import ../old-project --dry-run
  thrum import ../old-project/.thrum")]
pub(crate) struct Args {
    /// The repository or database of Go Thrum
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Show what would be imported, without changing anything
    #[arg(long)]
    dry_run: bool,
    /// A further ID that its daemon has used, if its files do not name it. May be repeated
    #[arg(long = "former-id", value_name = "ID")]
    former_ids: Vec<String>,
}

/// The result of an import.
pub(crate) struct Imported {
    source: PathBuf,
    dry_run: bool,
    totals: GoTotals,
    former_homes: Vec<String>,
    taken: ImportedBatch,
    agents: Vec<Adoption>,
    identities: Vec<(String, &'static str)>,
    notes: Vec<NoteTaken>,
    left: Vec<LeftBehind>,
    marked_read: u64,
    peers: Vec<PeerTaken>,
    /// Why no peer could be taken over, if so.
    peers_error: Option<String>,
}

/// The answer to `import.peers`.
#[derive(Deserialize)]
struct PeersTaken {
    peers: Vec<PeerTaken>,
}

#[derive(Deserialize, Serialize)]
struct PeerTaken {
    name: String,
    daemon_id: String,
    address: String,
    status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// The answer to `import.events`, or the sum of several.
#[derive(Default, Deserialize)]
struct ImportedBatch {
    applied: u64,
    skipped: u64,
    rejected: Vec<RejectedEvent>,
    /// In a sum: number of rejected events, of which `rejected` lists only the first.
    #[serde(default)]
    rejected_count: u64,
}

#[derive(Deserialize)]
struct RejectedEvent {
    event_id: String,
    reason: String,
}

impl ImportedBatch {
    fn reject(&mut self, refused: RejectedEvent) {
        self.rejected_count += 1;
        if self.rejected.len() < limits::MAX_BATCH_EVENTS {
            self.rejected.push(refused);
        }
    }
}

/// The answer to `import.adopt`.
#[derive(Deserialize)]
struct Adoptions {
    agents: Vec<Adoption>,
}

#[derive(Deserialize)]
struct Adoption {
    agent_id: String,
    status: String,
    #[serde(default)]
    reason: Option<String>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Imported, Error> {
    let repo = cx.repo()?;
    let source = Source::find(&args.path)?;
    let same = |a: &PathBuf, b: &PathBuf| fs::canonicalize(a).ok().is_some_and(|a| fs::canonicalize(b).ok() == Some(a));
    if same(&source.database, &repo.database()) {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("{} is this repository's own database", source.database.display()),
        )
        .hint("If Go Thrum made it: thrum daemon stop; mv .thrum .thrum-go && thrum init && thrum import .thrum-go"));
    }
    source.is_at_rest()?;
    let scratch = tempfile::tempdir()
        .map_err(|error| Error::new(ErrorKind::Failed, format!("cannot make a temporary directory: {error}")))?;
    let database = GoDatabase::open(&source.database, scratch.path())?;
    let totals = database.totals()?;
    let former_homes = source.own_ids(&args.former_ids, &totals)?;

    let mut target = if args.dry_run {
        // A dry run must not start a daemon.
        match cx.running_daemon()? {
            Some(client) => Target::Running(client),
            None => Target::AtRest(Preview::of(repo, scratch.path())?),
        }
    } else {
        Target::Running(cx.daemon()?)
    };
    let taken = take_events(&database, totals.events, args.dry_run, &mut target, cx)?;
    database.unchanged()?;
    let mut imported = Imported {
        source: source.database.clone(),
        dry_run: args.dry_run,
        totals,
        taken,
        agents: Vec::new(),
        identities: Vec::new(),
        notes: Vec::new(),
        left: files::left_behind(&source),
        marked_read: 0,
        former_homes,
        peers: Vec::new(),
        peers_error: None,
    };
    if args.dry_run {
        let adoption = |agent_id| Adoption { agent_id, status: "would_be_adopted".to_owned(), reason: None };
        imported.agents = database.registered(&imported.former_homes)?.into_iter().map(adoption).collect();
    } else if !imported.former_homes.is_empty() {
        let params = json!({"former_homes": imported.former_homes});
        imported.agents = target.call::<Adoptions>(limits::MAX_WAIT, "import.adopt", params)?.agents;
        for adopted in imported.agents.iter().filter(|adopted| matches!(adopted.status.as_str(), "adopted" | "known")) {
            imported.marked_read += mark_read(&database, &adopted.agent_id, &mut target)?;
        }
    }
    imported.identities = copy_identities(&source, args.dry_run, cx)?;
    imported.notes = files::copy_notes(&source, args.dry_run, cx)?;
    match take_peers(&source, &imported, &mut target) {
        Ok(peers) => imported.peers = peers,
        Err(error) if matches!(error.kind, ErrorKind::Invalid | ErrorKind::Refused | ErrorKind::Failed) => {
            let hint = error.hint.map(|hint| format!(" ({})", hint.trim_end_matches('.'))).unwrap_or_default();
            imported.peers_error = Some(format!("{}{hint}", error.message));
        }
        Err(error) => return Err(error),
    }
    Ok(imported)
}

/// The receiver of the calls: the daemon or, for a dry run while no daemon runs, a preview based on its files.
enum Target {
    Running(Client),
    AtRest(Preview),
}

impl Target {
    fn call<T: DeserializeOwned>(&mut self, within: Duration, method: &str, params: Value) -> Result<T, Error> {
        match self {
            Self::Running(client) => client.call_within(within, method, params),
            Self::AtRest(preview) => serde_json::from_value(preview.call(method, &params)?)
                .map_err(|error| Error::new(ErrorKind::Failed, format!("the preview cannot be read: {error}"))),
        }
    }
}

/// Passes the source's `peers.json`, which contains tokens, to the daemon over the socket, or to the preview.
fn take_peers(source: &Source, imported: &Imported, target: &mut Target) -> Result<Vec<PeerTaken>, Error> {
    let Some(text) = source.peers_json()? else { return Ok(Vec::new()) };
    let params = json!({
        "peers_json": text, "schema_version": imported.totals.schema, "known_as": source::known_as(&imported.former_homes),
        "former_homes": imported.former_homes, "state_dir": source.tailnet_state(), "dry_run": imported.dry_run,
    });
    Ok(target.call::<PeersTaken>(limits::MAX_WAIT, "import.peers", params)?.peers)
}

/// Sends the log in batches. After an error, the earlier batches and perhaps a part of the last one are stored; a
/// repeated import skips these events.
fn take_events(
    database: &GoDatabase,
    total: u64,
    dry_run: bool,
    target: &mut Target,
    cx: &Context,
) -> Result<ImportedBatch, Error> {
    let progress = cx.output.progress(if dry_run { "Looking at events" } else { "Taking events over" }, Some(total));
    let mut taken = ImportedBatch::default();
    let (mut after, mut done) = (i64::MIN, 0);
    loop {
        let page = database.page(after)?;
        let Some(last) = page.last() else { return Ok(taken) };
        after = last.sequence;
        done += page.len() as u64;
        let mut rows = Vec::new();
        for event in &page {
            match row(event) {
                Ok(row) => rows.push(row),
                Err(refused) => taken.reject(refused),
            }
        }
        let one: ImportedBatch = target.call(BATCH, "import.events", json!({"events": rows, "dry_run": dry_run}))?;
        taken.applied += one.applied;
        taken.skipped += one.skipped;
        one.rejected.into_iter().for_each(|refused| taken.reject(refused));
        progress.at(done);
    }
}

/// Converts a row into the daemon's form. Rejects an event that is too large for the log or for a line to the daemon.
fn row(event: &GoEvent) -> Result<Value, RejectedEvent> {
    let [event_id, kind, timestamp, origin] = &event.envelope;
    if event.event_json.len() > limits::MAX_EVENT_BYTES
        || Value::from(event.event_json.as_str()).to_string().len() > limits::MAX_LINE_BYTES / 2
    {
        let reason = format!("{} bytes, more than an event may have", event.event_json.len());
        return Err(RejectedEvent { event_id: event_id.clone().unwrap_or_default(), reason });
    }
    Ok(json!({
        "sequence": event.sequence, "event_id": event_id, "type": kind, "timestamp": timestamp, "origin_daemon": origin,
        "event_json": event.event_json,
    }))
}

/// Marks the messages as read that the agent has read according to Go Thrum's tables; its log lacks some readings.
fn mark_read(database: &GoDatabase, agent_id: &str, target: &mut Target) -> Result<u64, Error> {
    let mut marked = 0;
    for ids in database.read_by(agent_id)?.chunks(limits::MAX_BATCH_EVENTS) {
        let answer: Value = target.call(BATCH, "import.markRead", json!({"agent_id": agent_id, "message_ids": ids}))?;
        marked += answer["marked_count"].as_u64().unwrap_or(0);
    }
    Ok(marked)
}

/// Copies the identities of the source to this worktree. Existing ones are kept, and unreadable ones are skipped.
fn copy_identities(source: &Source, dry_run: bool, cx: &Context) -> Result<Vec<(String, &'static str)>, Error> {
    let (Some(from), to) = (&source.identities, cx.repo()?.identities()) else { return Ok(Vec::new()) };
    let here = identity::candidates(&to)?;
    let mut copied = Vec::new();
    for name in identity::candidates(from)? {
        let status = if here.contains(&name) {
            "kept"
        } else {
            match identity::read(from, &name) {
                Ok(Some((_, mut file))) => {
                    if !dry_run {
                        file.agent.name.clone_from(&name);
                        // The session belongs to the source.
                        file.session_id = None;
                        setup::complete(cx.repo()?)?;
                        identity::write(&to, file)?;
                    }
                    "copied"
                }
                Ok(None) => continue,
                Err(error) => {
                    cx.output.warn(&error.message);
                    "unreadable"
                }
            }
        };
        copied.push((name, status));
    }
    Ok(copied)
}

impl Render for Imported {
    fn human(&self, page: &mut Page) {
        let Self { source, dry_run, totals, taken, agents, identities, .. } = self;
        page.field(
            "From",
            format!("{} (schema {}, {})", source.display(), totals.schema, count(totals.events, "event")),
        );
        let verb = if *dry_run { "would be taken" } else { "taken" };
        page.field(
            "Events",
            format!("{} {verb}, {} here already, {} rejected", taken.applied, taken.skipped, taken.rejected_count),
        );
        for refused in taken.rejected.iter().take(SHOWN) {
            page.line(format!("  {YELLOW}●{YELLOW:#} {}: {}", quote(&refused.event_id), printable(&refused.reason)));
        }
        let more = taken.rejected_count.saturating_sub(SHOWN as u64);
        if more > 0 {
            page.line(format!("  … and {more} more"));
        }
        for adopted in agents {
            let what = match (adopted.status.as_str(), &adopted.reason) {
                ("adopted", _) => "lives here now, with its old mail".to_owned(),
                ("would_be_adopted", _) => "would live here, with its old mail".to_owned(),
                ("known", _) => "lives here already".to_owned(),
                ("deleted", _) => "was deleted here and stays so".to_owned(),
                (_, reason) => {
                    format!("is not taken over: {}", printable(reason.as_deref().unwrap_or("unknown reason")))
                }
            };
            page.field("Agent", format!("{} {what}", agent(&adopted.agent_id)));
        }
        for (name, status) in identities {
            let what = match *status {
                "copied" if *dry_run => "its identity would be copied to this worktree",
                "copied" => "its identity is in this worktree now",
                "kept" => "has an identity in this worktree; it is kept",
                _ => "its identity cannot be read",
            };
            page.field("Identity", format!("{} {what}", agent(name)));
        }
        for note in &self.notes {
            page.field("Notes", note.line(*dry_run));
        }
        for peer in &self.peers {
            let (name, reason) = (quote(&peer.name), printable(peer.reason.as_deref().unwrap_or("unknown reason")));
            let note = peer.note.as_deref().map(|note| format!("; {}", printable(note))).unwrap_or_default();
            let what = match peer.status.as_str() {
                "taken" => format!("is a peer here now, at {}{note}", quote(&peer.address)),
                "would_be_taken" => format!("would be a peer here, at {}{note}", quote(&peer.address)),
                "known" => "is a peer here already and stays as it is".to_owned(),
                _ => format!("is not taken over: {reason}"),
            };
            page.field("Peer", format!("{} {what}", if peer.name.is_empty() { quote(&peer.daemon_id) } else { name }));
        }
        if let Some(why) = &self.peers_error {
            page.field("Peers", format!("not taken over: {}", printable(why)));
        }
        if self.marked_read > 0 {
            page.field("Read", format!("{} marked as read, as they were there", count(self.marked_read, "message")));
        }
        for left in &self.left {
            page.field("Left", left.line());
        }
        if totals.messages_without_event > 0 {
            let messages = count(totals.messages_without_event, "message");
            page.field("Left", format!("{messages} that Go Thrum keeps in its tables, but no longer in its log"));
        }
    }

    fn json(&self) -> Value {
        let rejected: Vec<_> = self
            .taken
            .rejected
            .iter()
            .map(|refused| json!({"event_id": refused.event_id, "reason": refused.reason}))
            .collect();
        let agents: Vec<_> = self
            .agents
            .iter()
            .map(|a| json!({"agent_id": a.agent_id, "status": a.status, "reason": a.reason}))
            .collect();
        let identities: Vec<_> =
            self.identities.iter().map(|(name, status)| json!({"agent_id": name, "status": status})).collect();
        let mut result = json!({
            "source": self.source, "schema_version": self.totals.schema, "dry_run": self.dry_run, "former_homes": self.former_homes,
            "events": self.totals.events, "applied": self.taken.applied, "skipped": self.taken.skipped,
            "rejected": self.taken.rejected_count, "rejected_events": rejected, "agents": agents, "identities": identities,
            "marked_read": self.marked_read, "messages_without_event": self.totals.messages_without_event,
            "peers": self.peers,
            "notes": self.notes.iter().map(NoteTaken::json).collect::<Vec<_>>(),
            "left_behind": self.left.iter().map(LeftBehind::json).collect::<Vec<_>>(),
        });
        if let Some(why) = &self.peers_error {
            result["peers_error"] = why.as_str().into();
        }
        result
    }
}
