//! The files in Go Thrum's `.thrum` other than the database and the identities. Notes are copied; all other files that
//! a user may miss are listed, so that none is left behind silently.

use std::{fs, path::Path};

use serde_json::{Value, json};
use thrum_core::{Error, name::printable};
use thrum_daemon::notes::{Notes, Part};

use super::source::Source;
use crate::{context::Context, render::agent};

/// Maximum number of entries of a directory that are examined; a worktree has a handful of agents.
const MOST: usize = 1000;

/// The notes or the preamble of an agent, and what happened to them.
pub(super) struct NoteTaken {
    agent_id: String,
    part: &'static str,
    status: &'static str,
    /// Why the file could not be read or written, if so.
    reason: Option<String>,
}

impl NoteTaken {
    /// A line of text for users.
    pub(super) fn line(&self, dry_run: bool) -> String {
        let (who, part) = (agent(&self.agent_id), self.part);
        match (self.status, &self.reason) {
            ("copied", _) if dry_run => format!("the {part} of {who} would be copied to this worktree"),
            ("copied", _) => format!("the {part} of {who} {} in this worktree now", self.is()),
            ("kept", _) if self.is() == "is" => format!("{who} has a {part} in this worktree; it is kept"),
            ("kept", _) => format!("{who} has {part} in this worktree; they are kept"),
            (_, reason) => {
                let reason = printable(reason.as_deref().unwrap_or("unknown reason"));
                format!("the {part} of {who} {} not taken over: {reason}", self.is())
            }
        }
    }

    /// The verb that agrees with the part: singular for a preamble, plural for notes.
    fn is(&self) -> &'static str {
        if self.part == "preamble" { "is" } else { "are" }
    }

    pub(super) fn json(&self) -> Value {
        json!({"agent_id": self.agent_id, "part": self.part, "status": self.status, "reason": self.reason})
    }
}

/// Copies the notes and preambles of the source to this worktree. Existing ones are kept.
pub(super) fn copy_notes(source: &Source, dry_run: bool, cx: &Context) -> Result<Vec<NoteTaken>, Error> {
    let Some(from) = source.local_dir().map(Notes::in_dir) else { return Ok(Vec::new()) };
    let to = Notes::of(cx.repo()?);
    let mut taken = Vec::new();
    for agent_id in from.agents(MOST) {
        for (part, name) in [(Part::Notes, "notes"), (Part::Preamble, "preamble")] {
            let copy = || -> Result<Option<&'static str>, Error> {
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
                Err(error) => ("refused", Some(error.message)),
            };
            taken.push(NoteTaken { agent_id: agent_id.clone(), part: name, status, reason });
        }
    }
    Ok(taken)
}

/// An entry that is not taken over, and what the user can do about it.
pub(super) struct LeftBehind {
    name: String,
    about: &'static str,
}

impl LeftBehind {
    /// A line of text for users.
    pub(super) fn line(&self) -> String {
        format!("{}: {}", printable(&self.name), self.about)
    }

    pub(super) fn json(&self) -> Value {
        json!({"name": self.name, "about": self.about})
    }
}

/// Lists the other entries of the source's `.thrum` that a user may miss.
pub(super) fn left_behind(source: &Source) -> Vec<LeftBehind> {
    let Some(dir) = source.thrum_dir() else { return Vec::new() };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().take(MOST);
    let mut names: Vec<String> = entries
        .filter(|entry| !is_empty_dir(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.into_iter().filter_map(|name| about(&name).map(|about| LeftBehind { name, about })).collect()
}

fn is_empty_dir(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Returns the text for users about an entry. `None` for an entry that the import reads, that only describes the
/// database, or that Go Thrum recreates at each start.
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
