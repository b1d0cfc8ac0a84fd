//! What the database was made to do: rows changed and instructions run, which tell how work grows and do not depend on the machine.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{Store, StoreError};

/// Counts what one store's writing connection does, from [`Store::count_effort`] on.
#[derive(Clone, Debug, Default)]
pub struct Effort {
    steps: Arc<AtomicU64>,
}

impl Effort {
    /// Instructions of SQLite's machine, in tens. A statement runs some dozens of them, and some more for each row that it looks at.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }
}

impl Store {
    /// Counts from now on what the database does for this store. It costs a few percent of time: for tests.
    ///
    /// # Errors
    /// SQLite's.
    pub fn count_effort(&mut self) -> Result<Effort, StoreError> {
        let effort = Effort::default();
        let steps = Arc::clone(&effort.steps);
        let count = move || {
            steps.fetch_add(1, Ordering::Relaxed);
            false
        };
        self.conn.progress_handler(10, Some(count))?;
        Ok(effort)
    }

    /// How many rows were changed since the store was opened, those that triggers changed among them.
    pub fn rows_changed(&self) -> u64 {
        self.conn.total_changes()
    }
}
