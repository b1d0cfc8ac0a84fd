//! `thrum import`: imports the events, agents, notes and peers of a Go Thrum, or the mail that it shared through git.

mod batch;
mod branch;
mod files;
mod reader;
mod rows;
mod shared;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use thrum_core::{Error, ErrorKind, limits, name::printable};
use thrum_daemon::preview::Preview;
use thrum_store::{GoDatabase, GoTotals};

use self::{
    batch::{BATCH, ImportedBatch, Intake, Target},
    branch::Branch,
    files::{LeftBehind, NoteTaken},
    shared::Shared,
    source::Source,
};
use crate::{
    context::Context,
    identity,
    progress::Progress,
    render::{Page, Render, agent, style::YELLOW},
    setup,
    text::{count, quote},
};

/// Maximum number of rejected events that are shown to users; the JSON output has [`limits::MAX_BATCH_EVENTS`] at most.
const SHOWN: usize = 20;

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

With --git, the mail that Go Thrum shared through git is imported instead: from the branch a-sync as it was last \
fetched from the remote and, if that has more, from the local branch. Nothing is fetched, checked out or written, and \
PATH is the repository with the branch, by default this one. Agents of the old daemon of this machine become agents of \
this daemon; those of other daemons stay there. Lines that cannot be imported are counted by reason. Go Thrum v0.10.6 \
shares messages without recipients and threads: such messages enter no inbox, and are listed by \
`thrum inbox --all --scope group:a-sync`.

Examples:
  thrum import ../old-project --dry-run
  thrum import ../old-project/.thrum
  thrum import --git --dry-run
  thrum import --git ../old-project --remote origin")]
pub(crate) struct Args {
    /// The repository or database of Go Thrum [default with --git: this repository]
    #[arg(value_name = "PATH", required_unless_present = "git")]
    path: Option<PathBuf>,
    /// Import what Go Thrum shared through the git branch a-sync
    #[arg(long)]
    git: bool,
    /// With --git, the remote whose branch is read [default: origin, else the local branch]
    #[arg(long, value_name = "NAME", requires = "git")]
    remote: Option<String>,
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
    /// What the branch of Go Thrum holds; `None` for an import of a database.
    shared: Option<Shared>,
}

impl Imported {
    /// An import of events without files, agents and peers.
    fn new(source: PathBuf, dry_run: bool, totals: GoTotals, former_homes: Vec<String>, taken: ImportedBatch) -> Self {
        Self {
            source,
            dry_run,
            totals,
            former_homes,
            taken,
            agents: Vec::new(),
            identities: Vec::new(),
            notes: Vec::new(),
            left: Vec::new(),
            marked_read: 0,
            peers: Vec::new(),
            peers_error: None,
            shared: None,
        }
    }
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

impl Adoption {
    /// What an import that is not a dry run would do.
    fn planned(agent_id: String) -> Self {
        Self { agent_id, status: "would_be_adopted".to_owned(), reason: None }
    }
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Imported, Error> {
    match &args.path {
        Some(path) if !args.git => import_database(path, args, cx),
        path => import_branch(path.as_deref(), args, cx),
    }
}

/// Imports what Go Thrum shared through git, from the repository around `path` or this one.
fn import_branch(path: Option<&Path>, args: &Args, cx: &Context) -> Result<Imported, Error> {
    let repo = cx.repo()?;
    let top = path.unwrap_or(repo.root());
    if !top.is_dir() {
        return Err(Error::new(ErrorKind::NotFound, format!("{} is not a directory", top.display()))
            .hint("Name the repository in which Go Thrum was used: thrum import --git PATH"));
    }
    let branch = Branch::find(top, args.remote.as_deref())?;
    // After the change-over the files of Go Thrum are in `.thrum-go`.
    let mut in_files = Vec::new();
    for dir in [".thrum", ".thrum-go"] {
        in_files.extend(source::ids_in_files(&top.join(dir))?);
    }
    let scratch = scratch()?;
    let mut target = target(args.dry_run, scratch.path(), cx)?;
    let progress = progress(args.dry_run, None, cx);
    let mut intake = Intake::new(&mut target, args.dry_run, progress);
    let mut shared = reader::read(&branch, &mut intake)?;
    let taken = intake.finish()?;
    shared.decide_own(&args.former_ids, &in_files);
    let former_homes = shared.own.clone();
    let agents = if args.dry_run {
        shared.own_agents().into_iter().map(Adoption::planned).collect()
    } else {
        adopt(&former_homes, &mut target)?
    };
    let totals = GoTotals { events: taken.events(), ..GoTotals::default() };
    Ok(Imported {
        agents,
        shared: Some(shared),
        ..Imported::new(top.to_owned(), args.dry_run, totals, former_homes, taken)
    })
}

/// The progress of sending events, of which there are `total` if that is known.
fn progress(dry_run: bool, total: Option<u64>, cx: &Context) -> Progress {
    cx.output.progress(if dry_run { "Looking at events" } else { "Taking events over" }, total)
}

/// A private directory for copies.
fn scratch() -> Result<TempDir, Error> {
    tempfile::tempdir()
        .map_err(|error| Error::new(ErrorKind::Failed, format!("cannot make a temporary directory: {error}")))
}

/// The daemon or, for a dry run, which must not start one, a preview if none runs.
fn target(dry_run: bool, scratch: &Path, cx: &Context) -> Result<Target, Error> {
    if !dry_run {
        return cx.daemon().map(Target::Running);
    }
    Ok(match cx.running_daemon()? {
        Some(client) => Target::Running(client),
        None => Target::AtRest(Preview::of(cx.repo()?, scratch)?),
    })
}

/// Imports the database at `path`, and the files beside it.
fn import_database(path: &Path, args: &Args, cx: &Context) -> Result<Imported, Error> {
    let repo = cx.repo()?;
    let source = Source::find(path)?;
    let same = |a: &PathBuf, b: &PathBuf| fs::canonicalize(a).ok().is_some_and(|a| fs::canonicalize(b).ok() == Some(a));
    if same(&source.database, &repo.database()) {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("{} is this repository's own database", source.database.display()),
        )
        .hint("If Go Thrum made it: thrum daemon stop; mv .thrum .thrum-go && thrum init && thrum import .thrum-go"));
    }
    source.is_at_rest()?;
    let scratch = scratch()?;
    let database = GoDatabase::open(&source.database, scratch.path())?;
    let totals = database.totals()?;
    let former_homes = source.own_ids(&args.former_ids, &totals)?;

    let mut target = target(args.dry_run, scratch.path(), cx)?;
    let taken = take_events(&database, totals.events, args.dry_run, &mut target, cx)?;
    database.unchanged()?;
    let mut imported = Imported {
        left: files::left_behind(&source),
        ..Imported::new(source.database.clone(), args.dry_run, totals, former_homes, taken)
    };
    if args.dry_run {
        imported.agents = database.registered(&imported.former_homes)?.into_iter().map(Adoption::planned).collect();
    } else {
        imported.agents = adopt(&imported.former_homes, &mut target)?;
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

/// Passes the source's `peers.json`, which contains tokens, to the daemon over the socket, or to the preview.
fn take_peers(source: &Source, imported: &Imported, target: &mut Target) -> Result<Vec<PeerTaken>, Error> {
    let Some(text) = source.peers_json()? else { return Ok(Vec::new()) };
    let params = json!({
        "peers_json": text, "schema_version": imported.totals.schema, "known_as": source::known_as(&imported.former_homes),
        "former_homes": imported.former_homes, "state_dir": source.tailnet_state(), "dry_run": imported.dry_run,
    });
    Ok(target.call::<PeersTaken>(limits::MAX_WAIT, "import.peers", params)?.peers)
}

/// Sends the log in batches.
fn take_events(
    database: &GoDatabase,
    total: u64,
    dry_run: bool,
    target: &mut Target,
    cx: &Context,
) -> Result<ImportedBatch, Error> {
    let progress = progress(dry_run, Some(total), cx);
    let mut intake = Intake::new(target, dry_run, progress);
    let mut after = i64::MIN;
    loop {
        let page = database.page(after)?;
        let Some(last) = page.last() else { return intake.finish() };
        after = last.sequence;
        for event in &page {
            intake.push(event)?;
        }
    }
}

/// Takes over the agents of these daemons, as many daemons at a time as one registration may name.
fn adopt(former_homes: &[String], target: &mut Target) -> Result<Vec<Adoption>, Error> {
    let mut agents: Vec<Adoption> = Vec::new();
    for former_homes in former_homes.chunks(limits::MAX_FORMER_HOMES) {
        let params = json!({"former_homes": former_homes});
        for one in target.call::<Adoptions>(limits::MAX_WAIT, "import.adopt", params)?.agents {
            match agents.iter_mut().find(|known| known.agent_id == one.agent_id) {
                None => agents.push(one),
                Some(known) if known.status == "known" => *known = one,
                Some(_) => {}
            }
        }
    }
    agents.sort_by(|one, other| one.agent_id.cmp(&other.agent_id));
    Ok(agents)
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
        let about = match &self.shared {
            Some(shared) => shared.from(),
            None => format!("schema {}, {}", totals.schema, count(totals.events, "event")),
        };
        page.field("From", format!("{} ({about})", source.display()));
        let verb = if *dry_run { "would be taken" } else { "taken" };
        page.field(
            "Events",
            format!("{} {verb}, {} here already, {} rejected", taken.applied, taken.skipped, taken.rejected_count),
        );
        for refused in taken.rejected.iter().take(SHOWN) {
            let what = refused.place.as_ref().unwrap_or(&refused.event_id);
            page.line(format!("  {YELLOW}●{YELLOW:#} {}: {}", quote(what), printable(&refused.reason)));
        }
        let more = taken.rejected_count.saturating_sub(SHOWN as u64);
        if more > 0 {
            page.line(format!("  … and {more} more"));
            let reasons: Vec<_> =
                taken.reasons.iter().map(|(reason, events)| format!("{events} {}", printable(reason))).collect();
            page.line(format!("  In all: {}", reasons.join("; ")));
        }
        if let Some(shared) = &self.shared {
            shared.human(page);
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
        if self.shared.is_some() && !dry_run && !agents.is_empty() {
            page.field(
                "Identity",
                "the branch has none; in a worktree without its agent's: thrum quickstart --name NAME",
            );
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
            .map(|refused| match &refused.place {
                None => json!({"event_id": refused.event_id, "reason": refused.reason}),
                Some(place) => json!({"event_id": refused.event_id, "reason": refused.reason, "place": place}),
            })
            .collect();
        let reasons: Vec<_> =
            self.taken.reasons.iter().map(|(reason, events)| json!({"reason": reason, "count": events})).collect();
        let agents: Vec<_> = self
            .agents
            .iter()
            .map(|a| json!({"agent_id": a.agent_id, "status": a.status, "reason": a.reason}))
            .collect();
        let identities: Vec<_> =
            self.identities.iter().map(|(name, status)| json!({"agent_id": name, "status": status})).collect();
        let mut result = json!({
            "source": self.source, "schema_version": self.totals.schema, "dry_run": self.dry_run,
            "former_homes": self.former_homes,
            "events": self.totals.events, "applied": self.taken.applied, "skipped": self.taken.skipped,
            "rejected": self.taken.rejected_count, "rejected_events": rejected, "rejected_by_reason": reasons,
            "agents": agents, "identities": identities,
            "marked_read": self.marked_read, "messages_without_event": self.totals.messages_without_event,
            "peers": self.peers,
            "notes": self.notes.iter().map(NoteTaken::json).collect::<Vec<_>>(),
            "left_behind": self.left.iter().map(LeftBehind::json).collect::<Vec<_>>(),
        });
        if let Some(shared) = &self.shared {
            result["git"] = shared.json();
        }
        if let Some(why) = &self.peers_error {
            result["peers_error"] = why.as_str().into();
        }
        result
    }
}
