//! `context.*`: reads and writes an agent's notes. Contents are base64, as in Go Thrum.

use std::path::PathBuf;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use thrum_core::{Error, ErrorKind, Timestamp, limits};
use thrum_sync::blocking::blocking;

use super::required;
use crate::{
    daemon::Daemon,
    notes::{Notes, Part},
};

/// Selects an agent's notes in a worktree.
#[derive(Deserialize)]
pub(super) struct Whose {
    #[serde(default)]
    agent_name: Option<String>,
    /// A worktree of this repository; defaults to the daemon's own.
    #[serde(default)]
    repo_path: Option<PathBuf>,
}

impl Whose {
    /// Runs `work` with the agent's name and the notes of the worktree, on a thread that may wait for a disk. Checks
    /// the state directory first, because notes are written by path.
    async fn notes<T: Send + 'static>(
        self,
        daemon: &Daemon,
        work: impl FnOnce(String, &Notes) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let agent = required("agent_name", self.agent_name)?;
        let repo_path = self.repo_path.filter(|path| !path.as_os_str().is_empty());
        let (repo, hold) = (daemon.repo.clone(), daemon.hold.clone());
        let work = move || {
            hold.check()?;
            match repo_path {
                Some(path) => work(agent, &Notes::of(&repo.worktree(&path)?)),
                None => work(agent, &Notes::of(&repo)),
            }
        };
        blocking(work).await
    }
}

#[derive(Deserialize)]
pub(super) struct Save {
    #[serde(flatten)]
    whose: Whose,
    #[serde(default)]
    content: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Done {
    agent_name: String,
    message: String,
}

pub(super) async fn save(daemon: &Daemon, params: Save, part: Part) -> Result<Done, Error> {
    let text = params.content.unwrap_or_default();
    if text.len() > limits::MAX_NOTES_BYTES.div_ceil(3) * 4 {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("the content has more than {} bytes", limits::MAX_NOTES_BYTES),
        ));
    }
    let content = BASE64
        .decode(text.as_bytes())
        .map_err(|error| Error::new(ErrorKind::Invalid, format!("the content is not base64: {error}")))?;
    let work = move |agent_name: String, notes: &Notes| {
        notes.write(&agent_name, part, &content)?;
        let what = if part == Part::Notes { "context" } else { "preamble" };
        Ok(Done { message: format!("{what} of {agent_name} saved"), agent_name })
    };
    params.whose.notes(daemon, work).await
}

#[derive(Deserialize)]
pub(super) struct Show {
    #[serde(flatten)]
    whose: Whose,
    #[serde(default)]
    include_preamble: bool,
}

#[derive(Serialize)]
pub(super) struct AgentNotes {
    agent_name: String,
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preamble: Option<String>,
    has_context: bool,
    has_preamble: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<Timestamp>,
}

pub(super) async fn show(daemon: &Daemon, params: Show) -> Result<AgentNotes, Error> {
    let work = move |agent_name: String, notes: &Notes| {
        let (found, preamble) = (notes.read(&agent_name, Part::Notes)?, notes.read(&agent_name, Part::Preamble)?);
        Ok(AgentNotes {
            agent_name,
            has_context: found.is_some(),
            has_preamble: preamble.is_some(),
            size: found.as_ref().map(|note| note.content.len()),
            updated_at: found.as_ref().map(|note| note.updated_at),
            content: found.map(|note| BASE64.encode(&note.content)),
            preamble: preamble.filter(|_| params.include_preamble).map(|note| BASE64.encode(&note.content)),
        })
    };
    params.whose.notes(daemon, work).await
}

pub(super) async fn clear(daemon: &Daemon, params: Whose) -> Result<Done, Error> {
    let work = |agent_name: String, notes: &Notes| {
        let cleared = notes.clear(&agent_name)?;
        let message =
            if cleared { format!("context of {agent_name} cleared") } else { format!("{agent_name} had no context") };
        Ok(Done { agent_name, message })
    };
    params.notes(daemon, work).await
}

#[derive(Serialize)]
pub(super) struct Preamble {
    agent_name: String,
    content: Option<String>,
    has_preamble: bool,
}

pub(super) async fn show_preamble(daemon: &Daemon, params: Whose) -> Result<Preamble, Error> {
    let work = |agent_name: String, notes: &Notes| {
        let found = notes.read(&agent_name, Part::Preamble)?;
        Ok(Preamble {
            agent_name,
            has_preamble: found.is_some(),
            content: found.map(|note| BASE64.encode(&note.content)),
        })
    };
    params.notes(daemon, work).await
}
