//! Reads the files of the branch `a-sync`: events up to v0.10.5, rows since v0.10.6 (`rows.rs`).
//!
//! The branch holds files of many daemons, of several versions, and whatever else was pushed. A line that cannot be
//! used is counted with its reason and its place, and stops nothing. Memory is bounded: one line, one batch, and 16 to
//! 48 bytes for each line that is remembered.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thrum_core::{Error, SetDigest, json, key, limits, payload::EventType};
use thrum_store::GoEvent;

use super::{
    batch::{Intake, RejectedEvent},
    branch::{Branch, Entry, Line},
    rows::{AgentState, MessageRow, ReceiptRow},
    shared::{MOST_NAMES, Shared},
    source,
};

/// Maximum number of files that are read. Go Thrum writes up to three for each agent.
const MOST_FILES: usize = 20_000;

/// Maximum number of lines that are remembered, to recognise repetitions and edits. Go Thrum v0.10.6 appends all its
/// rows again at each start. Beyond this number a repetition is recognised by the log only, and counted as an event
/// that is here already.
const MOST_REMEMBERED: usize = 1 << 20;

/// A kind of file on the branch, in the order of reading: an agent's home must be known before its rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FileKind {
    Events,
    Agent,
    Messages,
    Receipts,
}

impl FileKind {
    /// Returns the kind of an entry, or the reason why it is not read.
    fn of(entry: &Entry) -> Result<Self, &'static str> {
        match entry.mode.as_str() {
            "120000" => return Err("a symbolic link"),
            "160000" => return Err("a submodule"),
            _ => {}
        }
        let path = entry.path.as_str();
        if matches!(path, "events.jsonl" | "messages.jsonl") {
            return Ok(Self::Events);
        }
        let within = |dir: &str, end: &str| {
            let name = path.strip_prefix(dir).and_then(|name| name.strip_suffix(end));
            name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
        };
        for (dir, end, kind) in [
            ("messages/", ".jsonl", Self::Events),
            ("state/agents/", ".json", Self::Agent),
            ("messages-v2/", ".jsonl", Self::Messages),
            ("receipts/", ".jsonl", Self::Receipts),
        ] {
            if within(dir, end) {
                return Ok(kind);
            }
        }
        Err(if path.starts_with("state/bridge-groups/") {
            "a group of Go Thrum"
        } else if path.starts_with("context/") {
            "notes of an agent, which `git show` can print"
        } else {
            "not a file with mail of Go Thrum"
        })
    }
}

/// Reads all files of a branch, and passes their events on.
///
/// # Errors
/// `not_found` if the branch has no file of Go Thrum; `failed` if git cannot read it; those of the daemon.
pub(super) fn read(branch: &Branch, intake: &mut Intake<'_>) -> Result<Shared, Error> {
    let mut shared = Shared::of(branch);
    let files = list(branch, &mut shared)?;
    if files.is_empty() {
        return Err(shared.nothing());
    }
    let mut objects = branch.objects()?;
    let mut reader = Reader { shared, intake, homes: HashMap::new(), seen: HashSet::new(), messages: HashMap::new() };
    for (kind, path, object) in files {
        let is_there = if kind == FileKind::Agent {
            let content = objects.whole(&object, limits::MAX_SMALL_FILE_BYTES)?;
            if let Some(content) = &content {
                reader.line(kind, &path, 1, content.as_deref().map_or(Line::TooLong, Line::Whole))?;
            }
            content.is_some()
        } else {
            objects.lines(&object, limits::MAX_EVENT_BYTES, |number, line| reader.line(kind, &path, number, line))?
        };
        if is_there {
            reader.shared.files += 1;
        } else {
            reader.shared.not_read("its content is not in this clone", path);
        }
    }
    Ok(reader.shared)
}

/// Lists the files to read, each content of one path once, ordered by kind.
fn list(branch: &Branch, shared: &mut Shared) -> Result<Vec<(FileKind, String, String)>, Error> {
    let mut files: BTreeSet<(FileKind, String, usize, String)> = BTreeSet::new();
    for (number, tip) in branch.tips.iter().enumerate() {
        branch.list(tip, |entry| {
            let Some(entry) = entry else {
                shared.not_read("a path of more than 1,000 bytes", String::new());
                return;
            };
            match FileKind::of(&entry) {
                // The second version of the branch repeats most files of the first one.
                Ok(kind) if number > 0 && files.contains(&(kind, entry.path.clone(), 0, entry.object.clone())) => {}
                Ok(kind) if files.len() < MOST_FILES => {
                    files.insert((kind, entry.path, number, entry.object));
                }
                Ok(_) => shared.not_read("beyond the first 20,000 files", entry.path),
                Err(reason) => shared.not_read(reason, entry.path),
            }
        })?;
    }
    Ok(files.into_iter().map(|(kind, path, _, object)| (kind, path, object)).collect())
}

/// What is known of a message after some of its rows.
struct MessageSeen {
    /// Digest of its text.
    text: u128,
    edits: u32,
    is_deleted: bool,
}

struct Reader<'a, 'b> {
    shared: Shared,
    intake: &'a mut Intake<'b>,
    /// The daemon that first registered each agent, from the events.
    homes: HashMap<String, String>,
    /// Digests of the events and receipts that were read.
    seen: HashSet<u128>,
    /// The messages of rows, by the digest of their ids.
    messages: HashMap<u128, MessageSeen>,
}

impl Reader<'_, '_> {
    fn line(&mut self, kind: FileKind, path: &str, number: u64, line: Line<'_>) -> Result<(), Error> {
        self.shared.lines += 1;
        let read = match line {
            Line::TooLong if kind == FileKind::Agent => rejected("more than the state of an agent".to_owned()),
            Line::TooLong => rejected("longer than an event may be".to_owned()),
            Line::Whole(bytes) => match std::str::from_utf8(bytes) {
                Err(_) => rejected("not UTF-8".to_owned()),
                Ok(text) => match kind {
                    FileKind::Events => self.event(text)?,
                    FileKind::Agent => self.agent(text)?,
                    FileKind::Messages => self.message(text)?,
                    FileKind::Receipts => self.receipt(text)?,
                },
            },
        };
        if let Err((reason, event_id)) = read {
            let place = Some(format!("{path}:{number}"));
            self.intake.taken.reject(RejectedEvent { event_id, reason, place });
        }
        Ok(())
    }

    /// Passes on an event of Go Thrum up to v0.10.5.
    fn event(&mut self, text: &str) -> Result<Read, Error> {
        let mut fields = match json::parse_object(text) {
            Ok(fields) => fields,
            Err(error) => return Ok(rejected(format!("not a JSON object: {error}"))),
        };
        let field = |fields: &Map<String, Value>, name: &str| {
            fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (id, kind, origin) = (field(&fields, "event_id"), field(&fields, "type"), field(&fields, "origin_daemon"));
        if id.is_empty() {
            return Ok(rejected("no event id".to_owned()));
        }
        // Daemons number the events that they relay anew.
        fields.remove("sequence");
        if !self.is_new(&Value::from(fields.clone()).to_string()) {
            return Ok(Ok(()));
        }
        if EventType::by_name(&kind).is_none() {
            self.shared.unknown_types += 1;
        }
        self.shared.wrote(&origin);
        let agent_id = field(&fields, "agent_id");
        if kind == "agent.register" && !agent_id.is_empty() {
            let is_short = |text: &str| text.len() <= limits::MAX_FOREIGN_ID_BYTES;
            let is_home = !key::is_signed_origin(&origin) && !origin.is_empty();
            if is_home && is_short(&origin) && is_short(&agent_id) && self.homes.len() < MOST_NAMES {
                self.homes.entry(agent_id.clone()).or_insert_with(|| origin.clone());
            }
            self.shared.register(&origin, agent_id);
        }
        let envelope = [Some(id), None, None, None];
        self.intake.push(&GoEvent { sequence: 0, envelope, event_json: text.to_owned() })?;
        Ok(Ok(()))
    }

    fn agent(&mut self, text: &str) -> Result<Read, Error> {
        let state: AgentState = match row(text, "the state of an agent") {
            Ok(state) => state,
            Err(reason) => return Ok(rejected(reason)),
        };
        if state.agent_id.is_empty() {
            return Ok(rejected("no agent id".to_owned()));
        }
        let home = self.home(&state.agent_id);
        if !self.homes.contains_key(&state.agent_id) {
            self.shared.lives_on(&home, &state.hostname);
        }
        self.shared.register(&home, state.agent_id.clone());
        self.pass_on(state.event(&home))
    }

    fn message(&mut self, text: &str) -> Result<Read, Error> {
        let row: MessageRow = match row(text, "a row of a message") {
            Ok(row) => row,
            Err(reason) => return Ok(rejected(reason)),
        };
        if row.message_id.is_empty() || row.author_id.is_empty() {
            return Ok(rejected("no message id or no author".to_owned()));
        }
        let home = self.home(&row.author_id);
        let (id, text) = (digest(&row.message_id), digest(&row.body));
        let has_room = self.messages.len() < MOST_REMEMBERED;
        let Some(known) = self.messages.get_mut(&id) else {
            let created = self.pass_on(row.create(&home))?;
            if created.is_ok() {
                self.shared.unaddressed += 1;
                if has_room {
                    self.messages.insert(id, MessageSeen { text, edits: 0, is_deleted: row.deleted });
                }
            }
            return if created.is_ok() && row.deleted { self.pass_on(row.delete(&home)) } else { Ok(created) };
        };
        if row.deleted && !known.is_deleted {
            known.is_deleted = true;
            return self.pass_on(row.delete(&home));
        }
        if row.deleted || known.text == text {
            self.shared.repeated += 1;
            return Ok(Ok(()));
        }
        known.text = text;
        known.edits = known.edits.saturating_add(1);
        let number = known.edits;
        self.pass_on(row.edit(&home, number))
    }

    /// Passes on a receipt. Only the first row of a message counts; later ones may have the time at which they were
    /// written.
    fn receipt(&mut self, text: &str) -> Result<Read, Error> {
        let row: ReceiptRow = match row(text, "a row of a receipt") {
            Ok(row) => row,
            Err(reason) => return Ok(rejected(reason)),
        };
        if row.message_id.is_empty() || row.agent_id.is_empty() {
            return Ok(rejected("no message id or no agent id".to_owned()));
        }
        if !self.is_new(&format!("{}\n{}", row.agent_id, row.message_id)) {
            return Ok(Ok(()));
        }
        let home = self.home(&row.agent_id);
        self.pass_on(row.event(&home))
    }

    fn pass_on(&mut self, event: Result<GoEvent, &'static str>) -> Result<Read, Error> {
        match event {
            Ok(event) => self.intake.push(&event).map(Ok),
            Err(reason) => Ok(rejected(reason.to_owned())),
        }
    }

    /// Returns `false` for a text that was read before, and counts it as repeated.
    fn is_new(&mut self, text: &str) -> bool {
        let digest = digest(text);
        let is_new =
            if self.seen.len() < MOST_REMEMBERED { self.seen.insert(digest) } else { !self.seen.contains(&digest) };
        self.shared.repeated += u64::from(!is_new);
        is_new
    }

    /// Returns the daemon of an agent that rows name: the one that the events of the branch name, or an id that stands
    /// for it.
    fn home(&self, agent_id: &str) -> String {
        self.homes.get(agent_id).cloned().unwrap_or_else(|| source::stand_in(agent_id))
    }
}

/// The outcome of a line: `Err` with the reason why it is not imported, and the id of its event.
type Read = Result<(), (String, String)>;

fn rejected(reason: String) -> Read {
    Err((reason, String::new()))
}

fn row<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("not {what}: {error}"))
}

/// Half of the SHA-256 of a text.
fn digest(text: &str) -> u128 {
    SetDigest::of(text.as_bytes())
        .to_bytes()
        .into_iter()
        .take(16)
        .fold(0, |digest, byte| digest << 8 | u128::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_at_the_paths_of_go_thrum_are_read() {
        let kind = |mode: &str, path: &str| {
            FileKind::of(&Entry { mode: mode.to_owned(), object: String::new(), path: path.to_owned() })
        };
        for (path, expected) in [
            ("events.jsonl", Ok(FileKind::Events)),
            ("messages/a:b.jsonl", Ok(FileKind::Events)),
            ("messages-v2/ann.jsonl", Ok(FileKind::Messages)),
            ("receipts/ann.jsonl", Ok(FileKind::Receipts)),
            ("state/agents/ann.json", Ok(FileKind::Agent)),
            ("state/bridge-groups/g.json", Err("a group of Go Thrum")),
            ("messages/.jsonl", Err("not a file with mail of Go Thrum")),
            ("messages/a/b.jsonl", Err("not a file with mail of Go Thrum")),
            ("messages/ann.json", Err("not a file with mail of Go Thrum")),
            ("x/events.jsonl", Err("not a file with mail of Go Thrum")),
        ] {
            assert_eq!(kind("100644", path), expected, "{path}");
        }
        assert_eq!(kind("120000", "events.jsonl"), Err("a symbolic link"));
        assert_eq!(kind("160000", "messages/ann.jsonl"), Err("a submodule"));
    }
}
