//! The numbers that stand for ids of daemons and logs in the rows of the log.
//!
//! Ids of daemons have some 55 characters. As text they would stand in each row of `event_rows` and again in its index
//! entries. So they are in the tables `daemons` and `logs` once, and rows have their numbers. A number has a meaning
//! only in its database. Queries that are not run for every event use the view `events`, which shows the ids.
//!
//! Example: the first event of `d_a` from the log `7`, served by `d_b`, adds `d_a` as number 1 and `d_b` as number 2 to
//! `daemons`, and the log (1, `7`) as number 1 to `logs`. Its row refers to log 1 and source 2.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension};
use thrum_core::Event;

use crate::StoreError;

/// SQL: the number of the log ?2 of the daemon ?1; NULL if no event of it was stored.
pub(crate) const LOG_NUMBER: &str =
    "(SELECT l.number FROM logs l JOIN daemons d ON d.number = l.origin WHERE d.id = ?1 AND l.log = ?2)";

/// SQL: the id of the peer that served a row of `event_rows`; empty for an own event.
pub(crate) const SOURCE_ID: &str = "coalesce((SELECT d.id FROM daemons d WHERE d.number = event_rows.source), '')";

/// Maximum number of daemons in memory. Beyond that all are dropped, and looked up again when they are needed.
const MOST_KEPT: usize = 1024;

/// Stands for the empty id: in `source` for this daemon, in `signer` for an origin that signs nothing.
pub(crate) const NOBODY: i64 = 0;

/// The numbers that are in memory. Belongs to the state of a transaction: numbers that it assigned are invalid after
/// its end without COMMIT.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    known: Arc<HashMap<String, Daemon>>,
}

#[derive(Clone, Debug)]
struct Daemon {
    number: i64,
    /// By their ids.
    logs: HashMap<String, i64>,
}

/// The numbers of an event's origin and log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventNumbers {
    /// The origin if it signs, otherwise [`NOBODY`].
    pub(crate) signer: i64,
    pub(crate) log: i64,
}

impl Numbers {
    /// Returns the number of an event's signer. `None` if it has none, so that no event of it is stored.
    pub(crate) fn signer(&mut self, conn: &Connection, event: &Event) -> Result<Option<i64>, StoreError> {
        match event.signer() {
            "" => Ok(Some(NOBODY)),
            signer => self.find(conn, signer),
        }
    }

    /// Returns the number of the peer that served an event, which gets one if it has none. An empty `source` is this
    /// daemon.
    pub(crate) fn source(&mut self, conn: &Connection, source: &str) -> Result<i64, StoreError> {
        if source.is_empty() { Ok(NOBODY) } else { self.daemon(conn, source) }
    }

    /// Returns the numbers of an event's origin and log, which get numbers if they have none.
    pub(crate) fn of_event(&mut self, conn: &Connection, event: &Event) -> Result<EventNumbers, StoreError> {
        let kept = self.known.get(&event.origin).and_then(|known| Some((known.number, *known.logs.get(&event.log)?)));
        let (origin, log) = match kept {
            Some(kept) => kept,
            None => {
                let origin = self.daemon(conn, &event.origin)?;
                (origin, self.log(conn, origin, event)?)
            }
        };
        Ok(EventNumbers { signer: if event.signer().is_empty() { NOBODY } else { origin }, log })
    }

    /// Returns the number of a daemon, if it has one.
    fn find(&mut self, conn: &Connection, id: &str) -> Result<Option<i64>, StoreError> {
        if let Some(known) = self.known.get(id) {
            return Ok(Some(known.number));
        }
        let mut statement = conn.prepare_cached("SELECT number FROM daemons WHERE id = ?1")?;
        let found = statement.query_row([id], |row| row.get(0)).optional()?;
        Ok(found.inspect(|number| self.keep(id, *number)))
    }

    /// Returns the number of a daemon, which gets one if it has none.
    fn daemon(&mut self, conn: &Connection, id: &str) -> Result<i64, StoreError> {
        if let Some(number) = self.find(conn, id)? {
            return Ok(number);
        }
        let mut statement = conn.prepare_cached("INSERT INTO daemons (id) VALUES (?1) RETURNING number")?;
        let number = statement.query_row([id], |row| row.get(0))?;
        self.keep(id, number);
        Ok(number)
    }

    fn keep(&mut self, id: &str, number: i64) {
        if self.known.len() >= MOST_KEPT {
            self.known = Arc::default();
        }
        Arc::make_mut(&mut self.known).insert(id.to_owned(), Daemon { number, logs: HashMap::new() });
    }

    /// Returns the number of an event's log, which gets one if it has none. `origin` is the number of its origin.
    fn log(&mut self, conn: &Connection, origin: i64, event: &Event) -> Result<i64, StoreError> {
        let mut statement = conn.prepare_cached("SELECT number FROM logs WHERE origin = ?1 AND log = ?2")?;
        let log = match statement.query_row((origin, &event.log), |row| row.get(0)).optional()? {
            Some(log) => log,
            None => conn
                .prepare_cached("INSERT INTO logs (origin, log) VALUES (?1, ?2) RETURNING number")?
                .query_row((origin, &event.log), |row| row.get(0))?,
        };
        if let Some(known) = Arc::make_mut(&mut self.known).get_mut(&event.origin) {
            // A peer may name any number of logs.
            if known.logs.len() >= MOST_KEPT {
                known.logs.clear();
            }
            known.logs.insert(event.log.clone(), log);
        }
        Ok(log)
    }
}
