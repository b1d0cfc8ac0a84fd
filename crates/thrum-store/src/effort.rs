//! Measures the work of the database in rows changed, instructions run and statements parsed. These show how work grows
//! and do not depend on the machine.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rusqlite::{
    Connection,
    hooks::{AuthAction, AuthContext, Authorization},
};

use crate::StoreError;

/// Counts the work of one store's writing connection, from [`Store::count_effort`](crate::Store::count_effort) on.
#[derive(Clone, Debug, Default)]
pub struct Effort {
    steps: Arc<AtomicU64>,
    largest: Arc<AtomicU64>,
    parsed: Arc<Mutex<BTreeSet<String>>>,
}

impl Effort {
    /// Starts to count the instructions of a connection.
    pub(crate) fn of(conn: &mut Connection) -> Result<Self, StoreError> {
        let effort = Self::default();
        let steps = Arc::clone(&effort.steps);
        let count = move || {
            steps.fetch_add(1, Ordering::Relaxed);
            false
        };
        conn.progress_handler(10, Some(count))?;
        let parsed = Arc::clone(&effort.parsed);
        // SQLite asks for permission while it parses a statement, also when it parses a cached one again.
        let note = move |asked: AuthContext<'_>| {
            if let AuthAction::Read { table_name, .. }
            | AuthAction::Insert { table_name }
            | AuthAction::Update { table_name, .. }
            | AuthAction::Delete { table_name } = asked.action
            {
                parsed.lock().unwrap_or_else(PoisonError::into_inner).insert(table_name.to_owned());
            }
            Authorization::Allow
        };
        conn.authorizer(Some(note))?;
        Ok(effort)
    }

    /// Number of SQLite virtual machine instructions, in tens. A statement runs some dozens, plus some for each row
    /// that it reads.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Number of rows changed by the largest committed transaction; group commits are not counted.
    pub fn largest(&self) -> u64 {
        self.largest.load(Ordering::Relaxed)
    }

    /// Returns the tables in the statements that SQLite has parsed since the last call, and forgets them.
    pub fn take_parsed(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.parsed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn count_transaction(&self, rows: u64) {
        self.largest.fetch_max(rows, Ordering::Relaxed);
    }
}
