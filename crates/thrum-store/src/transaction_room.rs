//! Limits how much pending work one transaction does.
//!
//! An event may affect any number of other rows. The work on these rows is pending work (`fold/pending.rs`), and a
//! transaction that did all of it would block all other writes. So each transaction has [`Room`] for a bounded number
//! of rows, and every piece of work uses some of it.
//!
//! Example: a message arrives for which 150 receipts wait. The transaction has room for 100 rows and releases 100
//! receipts. The next transaction releases the other 50 and has room for 50 rows of other work.

/// Maximum number of a peer's events, of due events, or of rows of pending work in one transaction: ten to twenty
/// milliseconds of work.
pub(crate) const PIECE: usize = 100;

/// Maximum number of bytes of events in a piece of a batch, unless a single event is larger. A piece of a purge ends
/// with the event that reaches this number.
pub(crate) const PIECE_BYTES: usize = 512 << 10;

/// Maximum number of log rows that a piece reads for each row that it may change: a few milliseconds in all.
const LOOKED_AT: usize = 10;

/// How much pending work a transaction may still do, in changed rows.
#[derive(Debug)]
pub(crate) struct Room(usize);

impl Room {
    pub(crate) fn new(rows: usize) -> Self {
        Self(rows)
    }

    /// Room for a transaction that leaves no work to others.
    pub(crate) const ALL: Self = Self(usize::MAX);

    /// Returns `true` while there is room for more work.
    pub(crate) fn is_left(&self) -> bool {
        self.0 > 0
    }

    /// Maximum number of rows in the next piece.
    pub(crate) fn piece(&self) -> usize {
        self.0.min(PIECE)
    }

    /// Maximum number of log rows that the next piece may read.
    pub(crate) fn rows(&self) -> usize {
        self.piece() * LOOKED_AT
    }

    /// Counts a piece by the rows that it changed, or by a tenth of those that it read if that is more; at least as one
    /// row.
    pub(crate) fn spend_looking(&mut self, rows: usize, looked_at: usize) {
        self.spend(rows.max(looked_at / LOOKED_AT));
    }

    /// Counts a piece by its rows; at least as one row.
    pub(crate) fn spend(&mut self, rows: usize) {
        self.0 = self.0.saturating_sub(rows.max(1));
    }
}
