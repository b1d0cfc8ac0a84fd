//! Queries over sessions, their work contexts and the liveness of their agents.

use std::{ops::ControlFlow, sync::LazyLock};

use rusqlite::{OptionalExtension, Params, Row, params_from_iter};
use thrum_core::{Timestamp, limits, payload::WorkContext};

use super::agents::{Conditions, stamp, written_by};
use crate::{Reader, StoreError, arrival::shown_sql};

/// An agent's period of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Id of the session, `ses_…`.
    pub session_id: String,
    /// Name of the agent.
    pub agent_id: String,
    /// The agent's home.
    pub home: String,
    /// When the session started. If that time lay ahead of our clock when the start event arrived, about the time of
    /// arrival (`arrival.rs`).
    pub started_at: Timestamp,
    /// When the session started, according to its home.
    pub(crate) start_claimed_at: Timestamp,
    /// When the session ended; `None` if it is open.
    pub ended_at: Option<Timestamp>,
    /// The reason for the end; `None` if the session is open or none was given.
    pub end_reason: Option<String>,
    /// Last sign of life of the agent that is known here; the end, if the session has ended.
    pub last_seen_at: Timestamp,
    /// The agent's last work context; empty if it reported none.
    pub context: WorkContext,
}

/// Selects sessions.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Only sessions of this agent.
    pub agent_id: Option<String>,
    /// Only sessions of this home.
    pub home: Option<String>,
    /// Only sessions that have not ended.
    pub open_only: bool,
    /// Only this many of the newest; all if `None`.
    pub newest: Option<usize>,
}

impl Session {
    /// Until when the agent counts as active without another sign of life. `here` is the querying daemon: it sees every
    /// call of its own agents, but of other agents only the events that they write, which are much less frequent.
    pub fn heard_until(&self, here: &str) -> Timestamp {
        self.last_seen_at.plus(if self.home == here { limits::AGENT_SILENT } else { limits::REMOTE_AGENT_SILENT })
    }

    /// The liveness of the session as seen by the daemon `here`; see [`heard_until`](Self::heard_until).
    pub fn liveness(&self, now: Timestamp, here: &str) -> Liveness {
        match self.ended_at {
            Some(_) => Liveness::Ended,
            None if now > self.heard_until(here) => Liveness::Silent,
            None => Liveness::Active,
        }
    }
}

/// Liveness of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Open, with a recent sign of life.
    Active,
    /// Open, but without a sign of life for so long that the agent is probably gone. The next sign of life makes it
    /// active again.
    Silent,
    /// Ended.
    Ended,
}

impl Reader<'_> {
    /// Returns the selected sessions with a known start, newest first.
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

    /// Passes the selected sessions with a known start to `found`, newest first and one at a time, until `found`
    /// breaks. Together their work contexts may not fit into memory.
    ///
    /// # Errors
    /// SQLite's.
    pub fn each_session(
        &self,
        filter: &SessionFilter,
        mut found: impl FnMut(Session) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut conditions = Conditions::new(self.home);
        conditions.equals("s.agent_id", filter.agent_id.as_ref());
        conditions.equals("s.home", filter.home.as_ref());
        if filter.open_only {
            conditions.sql.push_str(" AND s.ended_at IS NULL");
        }
        let sql = format!(
            "{} WHERE s.started_at IS NOT NULL{} ORDER BY s.shown_at DESC, s.session_id",
            *SELECT, conditions.sql
        );
        let sql = filter.newest.map_or(sql.clone(), |newest| format!("{sql} LIMIT {newest}"));
        let mut statement = self.conn.prepare_cached(&sql)?;
        for row in statement.query_map(params_from_iter(conditions.values), read_session)? {
            if found(finish(row?)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Returns the newest open session of an agent at `home`, which may be another daemon.
    ///
    /// # Errors
    /// SQLite's.
    pub fn newest_open_session(&self, agent_id: &str, home: &str) -> Result<Option<Session>, StoreError> {
        static NEWEST_OPEN: LazyLock<String> = LazyLock::new(|| {
            format!(
                "{} WHERE s.started_at IS NOT NULL AND s.ended_at IS NULL AND s.agent_id = ?2 AND s.home = ?3
                 ORDER BY s.shown_at DESC, s.session_id LIMIT 1",
                *SELECT
            )
        });
        self.one_session(&NEWEST_OPEN, (self.home, agent_id, home))
    }

    /// Returns the newest session with a known start of an agent at `home`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn newest_session(&self, agent_id: &str, home: &str) -> Result<Option<Session>, StoreError> {
        static NEWEST: LazyLock<String> = LazyLock::new(|| {
            format!(
                "{} WHERE s.started_at IS NOT NULL AND s.agent_id = ?2 AND s.home = ?3
                 ORDER BY s.shown_at DESC, s.session_id LIMIT 1",
                *SELECT
            )
        });
        self.one_session(&NEWEST, (self.home, agent_id, home))
    }

    /// Returns one session with a known start.
    ///
    /// # Errors
    /// SQLite's.
    pub fn session(&self, session_id: &str) -> Result<Option<Session>, StoreError> {
        static ONE: LazyLock<String> =
            LazyLock::new(|| format!("{} WHERE s.started_at IS NOT NULL AND s.session_id = ?2", *SELECT));
        self.one_session(&ONE, (self.home, session_id))
    }

    /// Returns the first session that a statement of [`SELECT`] finds.
    fn one_session(&self, sql: &str, values: impl Params) -> Result<Option<Session>, StoreError> {
        let found = self.conn.prepare_cached(sql)?.query_row(values, read_session).optional()?;
        found.map(finish).transpose()
    }

    /// Returns the id of the open session of an agent registered here; the newest, if there are several.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open_session(&self, agent_id: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT shown_at, session_id FROM sessions WHERE agent_id = ?1 AND home = ?2 AND ended_at IS NULL",
        )?;
        let open =
            statement.query_map((agent_id, self.home), |row| Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?)))?;
        // Take the maximum here: SQLite parses a cached statement again at every use if the statement sorts, and this
        // one runs for every message sent.
        Ok(open.collect::<Result<Vec<_>, _>>()?.into_iter().max().map(|(_, session_id)| session_id))
    }
}

/// SQL that selects a session with its context and last sign of life. For agents whose home is ?1, every call counts as
/// a sign of life; for others, only the events that they write.
static SELECT: LazyLock<String> = LazyLock::new(|| {
    let (ended, updated) = (shown_sql("s.home", "s.ended_at"), shown_sql("c.home", "c.at"));
    format!(
        "SELECT s.session_id, s.agent_id, s.home, s.shown_at, {ended}, s.end_reason,
            coalesce({ended}, max(s.shown_at, coalesce({updated}, 0), coalesce(p.last_seen_at, 0), coalesce({}, 0))), c.context, s.started_at
        FROM sessions s LEFT JOIN presence p ON p.agent_id = s.agent_id AND s.home = ?1
        LEFT JOIN contexts c ON c.session_id = s.session_id AND c.agent_id = s.agent_id AND c.home = s.home",
        written_by("s")
    )
});

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
        let context: WorkContext = serde_json::from_str(&text)
            .map_err(|error| StoreError::Damaged(format!("a work context cannot be read: {error}")))?;
        session.context = context.of_event();
    }
    session.context.session_id.clone_from(&session.session_id);
    Ok(session)
}
