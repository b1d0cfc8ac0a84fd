//! `agent.setPresence`: a program's hook reports the state of an agent's session.

use serde::{Deserialize, Serialize};
use thrum_core::{Ambient, Error, ErrorKind, Timestamp, limits, payload::PresenceState};
use thrum_store::{
    Reader, ops,
    query::{Mailbox, Presence},
};

use super::required;
use crate::{
    ambient::System,
    daemon::Daemon,
    process,
    programs::{self, ReportEffect},
};

#[derive(Deserialize)]
pub(super) struct Set {
    #[serde(default)]
    caller_agent_id: Option<String>,
    /// The id that the program gave the session.
    #[serde(default)]
    session: Option<String>,
    /// `working`, `needs_you`, `idle` or `gone`.
    #[serde(default)]
    state: Option<String>,
    /// The id of the session's process, if known; the session ends with that process.
    #[serde(default)]
    program: Option<u32>,
    /// `true` if a person has just given the session a prompt.
    #[serde(default)]
    by_person: bool,
}

#[derive(Serialize)]
pub(super) struct Done {
    agent_id: String,
    state: PresenceState,
    /// `true` if the agent has an open session (`session.start`).
    in_session: bool,
}

pub(super) async fn set(daemon: &Daemon, params: Set, process: Option<i32>) -> Result<Done, Error> {
    let agent_id = daemon.caller(params.caller_agent_id, process)?;
    let session = required("session", params.session)?;
    let name = required("state", params.state)?;
    let wrong = |what: String| Error::new(ErrorKind::Invalid, format!("invalid params: {what}"));
    if session.len() > limits::MAX_READER_BYTES {
        return Err(wrong(format!("session is at most {} bytes", limits::MAX_READER_BYTES)));
    }
    let state =
        PresenceState::by_name(&name).ok_or_else(|| wrong("state is working, needs_you, idle or gone".to_owned()))?;
    let name = agent_id.clone();
    let session_of = move |reader: &Reader<'_>| ops::resident(reader, &name).and_then(|_| reader.open_session(&name));
    let in_session = daemon.storage.read(session_of).await?.is_some();
    let program = params.program.and_then(|pid| process::begun(pid).map(|begun| (pid, begun)));
    match daemon.live.programs.report(&agent_id, &session, state, program, System.now()) {
        ReportEffect::Nothing => {}
        ReportEffect::Changed { .. } if state == PresenceState::Gone => {
            programs::forget(&daemon.storage, vec![session]).await
        }
        ReportEffect::Changed { now, watch } => {
            if let Some(program) = watch {
                programs::watch(
                    &daemon.live.programs,
                    &daemon.storage,
                    &daemon.shutdown,
                    agent_id.clone(),
                    session,
                    program,
                );
            }
            daemon.storage.write_in_background(move |tx| tx.keep_program_session(&now)).await;
        }
    }
    if params.by_person {
        daemon.live.programs.person_prompts(&agent_id, System.now());
        daemon.live.guard.person_prompts(&Mailbox { agent_id: agent_id.clone(), home: daemon.id.clone() });
    }
    Ok(Done { agent_id, state, in_session })
}

/// The state of an agent's program, as shown in answers.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Doing {
    /// `working`, `needs_you`, `idle` or `gone`; absent if unknown.
    #[serde(rename = "presence", skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<PresenceState>,
    #[serde(rename = "presence_since", skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Timestamp>,
    /// `true` if mail starts a turn of the program now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) wakeable: bool,
}

impl Doing {
    /// Returns the state for an agent whose last sign of life was at `seen`; `recorded` is its presence in the store.
    /// If the program is gone, but the agent gave a sign of life more than [`limits::PRESENCE_LOOK`] later, the state
    /// is unknown: the agent may now run in a program without hooks.
    pub(super) fn of(daemon: &Daemon, agent: &Mailbox, recorded: Option<Presence>, seen: Option<Timestamp>) -> Self {
        let live = if agent.home == daemon.id { daemon.live.programs.presence(&agent.agent_id) } else { None };
        match live.or(recorded) {
            Some(Presence { state: Some(state), wakeable, since, .. })
                if state != PresenceState::Gone
                    || seen.is_none_or(|seen| seen <= since.plus(limits::PRESENCE_LOOK)) =>
            {
                Self { state: Some(state), since: Some(since), wakeable }
            }
            _ => Self::default(),
        }
    }

    /// Returns `true` if a program of the agent runs; `None` if unknown.
    pub(super) fn is_there(&self) -> Option<bool> {
        self.state.map(|state| state != PresenceState::Gone)
    }
}
