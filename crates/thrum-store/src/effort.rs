//! Measures the work of the database in rows changed and instructions run. These show how work grows and do not depend
//! on the machine.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rusqlite::Connection;

use crate::StoreError;

/// Counts the work of one store's writing connection, from [`Store::count_effort`](crate::Store::count_effort) on.
#[derive(Clone, Debug, Default)]
pub struct Effort {
    steps: Arc<AtomicU64>,
    largest: Arc<AtomicU64>,
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

    pub(crate) fn count_transaction(&self, rows: u64) {
        self.largest.fetch_max(rows, Ordering::Relaxed);
    }
}
