//! The rows of the projection that a single event sets, and their removal when that event leaves the log.
//!
//! Most events are about a message, a session or an agent, which is folded again when one of its events leaves the log.
//! The other events set rows of their own: clean-ups, work contexts, presences and claims. Such a row is removed with
//! the event that was the last to set it. An earlier event that stays may have set it before; then the caller folds the
//! remaining events again.
//!
//! Example: a purge removes the update that set the work context of `ses_1`. An earlier update that the purge does not
//! remove counts again after the refold.

use rusqlite::{Connection, params_from_iter};
use thrum_core::Payload;

use crate::StoreError;

/// The rows of the projection that belong to an event without a target. The table of event types cannot list them,
/// because only the fold knows which rows it makes of an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OwnRows {
    None,
    /// The clean-up of this agent.
    Cleanup(String),
    /// The presence of this agent.
    Presence(String),
    /// The work contexts of this agent in these sessions.
    Contexts(String, Vec<String>),
    /// The claims or releases of these paths by this agent; `''` stands for all paths.
    Claims(String, Vec<String>),
}

impl OwnRows {
    /// Determines the rows of an event from its type and body.
    pub(crate) fn of(kind: &str, body: &str) -> Self {
        let Ok(payload) = Payload::read(kind, body) else { return Self::None };
        match payload {
            Payload::AgentCleanup(cleanup) => Self::Cleanup(cleanup.agent_id),
            Payload::AgentPresence(presence) => Self::Presence(presence.agent_id),
            Payload::AgentUpdate(update) => Self::Contexts(
                update.agent_id,
                update.work_contexts.into_iter().map(|context| context.session_id).collect(),
            ),
            Payload::FileClaim(claim) => Self::Claims(claim.agent_id, claim.paths),
            Payload::FileRelease(release) if release.paths.is_empty() => {
                Self::Claims(release.agent_id, vec![String::new()])
            }
            Payload::FileRelease(release) => Self::Claims(release.agent_id, release.paths),
            // The target of the event is folded again.
            Payload::MessageCreate(_)
            | Payload::MessageEdit(_)
            | Payload::MessageDelete(_)
            | Payload::MessageReceipt(_)
            | Payload::AgentWoken(_)
            | Payload::AgentRegister(_)
            | Payload::SessionStart(_)
            | Payload::SessionEnd(_)
            // Cutoffs stay, and the fold ignores the rest.
            | Payload::PurgeExecuted(_)
            | Payload::GroupCreate(_)
            | Payload::GroupUpdate(_)
            | Payload::GroupDelete(_)
            | Payload::GroupMemberAdd(_)
            | Payload::GroupMemberRemove(_)
            | Payload::Unknown => Self::None,
        }
    }

    /// Removes the rows that the event with this origin and id was the last to set; the event leaves the log.
    pub(crate) fn withdraw(&self, conn: &Connection, home: &str, id: &str) -> Result<(), StoreError> {
        let delete = |sql: &str, values: &[&str]| -> Result<(), StoreError> {
            conn.prepare_cached(sql)?.execute(params_from_iter(values))?;
            Ok(())
        };
        match self {
            OwnRows::None => Ok(()),
            OwnRows::Cleanup(agent) => {
                delete("DELETE FROM cleanups WHERE agent_id = ?1 AND home = ?2 AND event_id = ?3", &[agent, home, id])
            }
            OwnRows::Presence(agent) => {
                delete("DELETE FROM presences WHERE agent_id = ?1 AND home = ?2 AND event_id = ?3", &[agent, home, id])
            }
            OwnRows::Contexts(agent, sessions) => sessions.iter().try_for_each(|session| {
                let sql =
                    "DELETE FROM contexts WHERE agent_id = ?1 AND home = ?2 AND event_id = ?3 AND session_id = ?4";
                delete(sql, &[agent, home, id, session])
            }),
            OwnRows::Claims(agent, paths) => paths.iter().try_for_each(|path| {
                delete(
                    "DELETE FROM claims WHERE agent_id = ?1 AND home = ?2 AND event_id = ?3 AND path = ?4",
                    &[agent, home, id, path],
                )
            }),
        }
    }
}
