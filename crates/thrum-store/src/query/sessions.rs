//! Sessions, what goes on in them, and whether anybody is still there.

use std::ops::ControlFlow;

use rusqlite::{OptionalExtension, Row, params_from_iter};
use thrum_core::{Stamp, limits, payload::WorkContext};

use super::agents::{Conditions, stamp, written_by};
use crate::{Reader, StoreError, arrival::shown_sql};

/// A period of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `ses_…`
    pub session_id: String,
    /// Whose.
    pub agent_id: String,
    /// The agent's home.
    pub home: String,
    /// When it began, or that came.
    pub started_at: Stamp,
    /// When it began, as its home has it.
    pub(crate) start_claimed_at: Stamp,
    /// When it ended.
    pub ended_at: Option<Stamp>,
    /// Why.
    pub end_reason: Option<String>,
    /// Last sign of life known here.
    pub last_seen_at: Stamp,
    /// What goes on in it, as the agent said it last; empty if it said nothing.
    pub context: WorkContext,
}

/// Which sessions.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Of this agent.
    pub agent_id: Option<String>,
    /// Of this home.
    pub home: Option<String>,
    /// Only those that have not ended.
    pub open_only: bool,
    /// So many of the newest; all if `None`.
    pub newest: Option<usize>,
}

impl Session {
    /// Whether anybody is still there. `here` is the daemon that asks: of agents that live with it, it sees every call; of
    /// others only what they write down, which is much less often.
    pub fn liveness(&self, now: Stamp, here: &str) -> Liveness {
        let silent = if self.home == here { limits::AGENT_SILENT } else { limits::REMOTE_AGENT_SILENT };
        match self.ended_at {
            Some(_) => Liveness::Ended,
            None if now.since(self.last_seen_at) > silent => Liveness::Silent,
            None => Liveness::Active,
        }
    }
}

/// What a session looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Open, and its agent was heard of lately.
    Active,
    /// Open, but nothing was heard for so long that the agent is probably gone. The next sign of life makes it active again.
    Silent,
    /// Ended.
    Ended,
}

impl Reader<'_> {
    /// Sessions whose beginning is known, newest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn sessions(&self, filter: &SessionFilter) -> Result<Vec<Session>, StoreError> {
        let mut sessions = Vec::new();
        self.each_session(filter, |session| {
            sessions.push(session);
            ControlFlow::Continue(())
        })?;
        Ok(sessions)
    }

    /// The same, one at a time until `found` has enough: together their work contexts may be larger than memory.
    ///
    /// # Errors
    /// SQLite's.
    pub fn each_session(&self, filter: &SessionFilter, mut found: impl FnMut(Session) -> ControlFlow<()>) -> Result<(), StoreError> {
        let mut conditions = Conditions::new(self.home);
        conditions.equals("s.agent_id", filter.agent_id.as_ref());
        conditions.equals("s.home", filter.home.as_ref());
        if filter.open_only {
            conditions.sql.push_str(" AND s.ended_at IS NULL");
        }
        let sql = format!("{} WHERE s.started_at IS NOT NULL{} ORDER BY s.shown_at DESC, s.session_id", select(), conditions.sql);
        let sql = filter.newest.map_or(sql.clone(), |newest| format!("{sql} LIMIT {newest}"));
        let mut statement = self.conn.prepare_cached(&sql)?;
        for row in statement.query_map(params_from_iter(conditions.values), read_session)? {
            if found(finish(row?)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The newest open session of an agent, wherever it lives.
    ///
    /// # Errors
    /// SQLite's.
    pub fn newest_open_session(&self, agent_id: &str, home: &str) -> Result<Option<Session>, StoreError> {
        let sql = format!(
            "{} WHERE s.started_at IS NOT NULL AND s.ended_at IS NULL AND s.agent_id = ?2 AND s.home = ?3
             ORDER BY s.shown_at DESC, s.session_id LIMIT 1",
            select()
        );
        let found = self.conn.prepare_cached(&sql)?.query_row((self.home, agent_id, home), read_session).optional()?;
        found.map(finish).transpose()
    }

    /// One session whose beginning is known.
    ///
    /// # Errors
    /// SQLite's.
    pub fn session(&self, session_id: &str) -> Result<Option<Session>, StoreError> {
        let sql = format!("{} WHERE s.started_at IS NOT NULL AND s.session_id = ?2", select());
        let found = self.conn.prepare_cached(&sql)?.query_row((self.home, session_id), read_session).optional()?;
        found.map(finish).transpose()
    }

    /// The id of the open session of an agent registered here; of the newest, if there are several.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open_session(&self, agent_id: &str) -> Result<Option<String>, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT shown_at, session_id FROM sessions WHERE agent_id = ?1 AND home = ?2 AND ended_at IS NULL")?;
        let open = statement.query_map((agent_id, self.home), |row| Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?)))?;
        // Not `max` in SQL, for the reason given in the fold: this runs for every message sent.
        Ok(open.collect::<Result<Vec<_>, _>>()?.into_iter().max().map(|(_, session_id)| session_id))
    }
}

/// A session with its context and the last sign of life: of an agent that lives at ?1 as seen here, of others as they wrote.
fn select() -> String {
    let (ended, said) = (shown_sql("s.home", "s.ended_at"), shown_sql("c.home", "c.at"));
    format!(
        "SELECT s.session_id, s.agent_id, s.home, s.shown_at, {ended}, s.end_reason,
            coalesce({ended}, max(s.shown_at, coalesce({said}, 0), coalesce(p.last_seen_at, 0), coalesce({}, 0))), c.context, s.started_at
        FROM sessions s LEFT JOIN presence p ON p.agent_id = s.agent_id AND s.home = ?1
        LEFT JOIN contexts c ON c.session_id = s.session_id AND c.agent_id = s.agent_id AND c.home = s.home",
        written_by("s")
    )
}

fn read_session(row: &Row<'_>) -> rusqlite::Result<(Session, Option<String>)> {
    let session = Session {
        session_id: row.get(0)?,
        agent_id: row.get(1)?,
        home: row.get(2)?,
        started_at: stamp(row.get(3)?),
        start_claimed_at: stamp(row.get(8)?),
        ended_at: row.get::<_, Option<i64>>(4)?.map(stamp),
        end_reason: row.get(5)?,
        last_seen_at: stamp(row.get(6)?),
        context: WorkContext::default(),
    };
    Ok((session, row.get(7)?))
}

fn finish((mut session, context): (Session, Option<String>)) -> Result<Session, StoreError> {
    if let Some(text) = context {
        let context: WorkContext =
            serde_json::from_str(&text).map_err(|error| StoreError::Damaged(format!("a work context cannot be read: {error}")))?;
        session.context = context.of_event();
    }
    session.context.session_id.clone_from(&session.session_id);
    Ok(session)
}
