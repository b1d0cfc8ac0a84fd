//! What lies in a Go Thrum's `.thrum` beside its database and its identities: notes are copied, everything else is named, so
//! that nothing stays behind unsaid.

use std::{fs, path::Path};

use serde_json::{Value, json};
use thrum_core::{Fault, name::printable};
use thrum_daemon::notes::{Notes, Part};

use super::source::Source;
use crate::{context::Context, render::agent};

/// Most files of a directory that are looked at; a worktree has a handful of agents.
const MOST: usize = 1000;

/// The notes or the preamble of an agent, and what became of them.
pub(super) struct NoteTaken {
    agent_id: String,
    part: &'static str,
    status: &'static str,
    /// Of one that cannot be read or written, why.
    reason: Option<String>,
}

impl NoteTaken {
    /// For people.
    pub(super) fn line(&self, dry_run: bool) -> String {
        let (who, part) = (agent(&self.agent_id), self.part);
        match (self.status, &self.reason) {
            ("copied", _) if dry_run => format!("the {part} of {who} would be copied to this worktree"),
            ("copied", _) => format!("the {part} of {who} are in this worktree now"),
            ("kept", _) => format!("{who} has {part} in this worktree; they are kept"),
            (_, reason) => format!("the {part} of {who} are not taken over: {}", printable(reason.as_deref().unwrap_or("unknown reason"))),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({"agent_id": self.agent_id, "part": self.part, "status": self.status, "reason": self.reason})
    }
}

/// Gives this worktree the notes and preambles of that one. What is here is kept.
pub(super) fn copy_notes(source: &Source, dry_run: bool, cx: &Context) -> Result<Vec<NoteTaken>, Fault> {
    let Some(from) = source.local_dir().map(Notes::in_dir) else { return Ok(Vec::new()) };
    let to = Notes::of(cx.repo()?);
    let mut taken = Vec::new();
    for agent_id in from.agents(MOST) {
        for (part, name) in [(Part::Notes, "notes"), (Part::Preamble, "preamble")] {
            let copy = || -> Result<Option<&'static str>, Fault> {
                let Some(note) = from.read(&agent_id, part)? else { return Ok(None) };
                if to.read(&agent_id, part)?.is_some() {
                    return Ok(Some("kept"));
                }
                if !dry_run {
                    to.write(&agent_id, part, &note.content)?;
                }
                Ok(Some("copied"))
            };
            let (status, reason) = match copy() {
                Ok(Some(status)) => (status, None),
                Ok(None) => continue,
                Err(fault) => ("refused", Some(fault.message)),
            };
            taken.push(NoteTaken { agent_id: agent_id.clone(), part: name, status, reason });
        }
    }
    Ok(taken)
}

/// Something that is not taken over, and what to do about it.
pub(super) struct LeftBehind {
    name: String,
    about: &'static str,
}

impl LeftBehind {
    /// For people.
    pub(super) fn line(&self) -> String {
        format!("{}: {}", printable(&self.name), self.about)
    }

    pub(super) fn json(&self) -> Value {
        json!({"name": self.name, "about": self.about})
    }
}

/// Everything else in that `.thrum` that somebody may miss.
pub(super) fn left_behind(source: &Source) -> Vec<LeftBehind> {
    let Some(dir) = source.thrum_dir() else { return Vec::new() };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().take(MOST);
    let mut names: Vec<String> =
        entries.filter(|entry| !is_empty_dir(&entry.path())).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.into_iter().filter_map(|name| about(&name).map(|about| LeftBehind { name, about })).collect()
}

fn is_empty_dir(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// `None` for what is taken over, belongs to the database, or is made anew by Go Thrum at each start.
fn about(name: &str) -> Option<&'static str> {
    Some(match name {
        "var" | "identities" | "context" | "redirect" | "schema_version" | "strategies" => return None,
        "config.json" => "its settings stay there; those wanted here: thrum config set KEY VALUE",
        ".env" => "its variables stay there, because they may hold a key; copy those wanted here to .thrum/.env",
        "role_templates" => "there are no role templates here; the files stay there",
        "archive" => "messages that Go Thrum archived are not in its log any more; the files stay there",
        "backup" => "backups of Go Thrum cannot be restored here; they stay there",
        _ => "is not known here and stays there",
    })
}
