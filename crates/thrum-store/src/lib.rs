//! The event log and its projection in SQLite: a synchronous library that stores and folds batches of events.
//!
//! It uses no sockets, and no thread except the writer thread. The log, `event_rows`, is the only source of truth about
//! mail and agents. The tables of the projection are a fold of the *set* of events and can be discarded and rebuilt
//! ([`Store::rebuild`]).
//!
//! * [`Store`] owns the only writing connection; [`Writer`] is the handle to the thread that does one commit for all
//!   waiting jobs.
//! * [`Tx`] is the interface of a job inside a transaction; [`ops`] are the operations that agents request.
//! * [`Readers`] hand out read-only connections; [`query`] contains the queries.

mod acknowledged;
mod append;
mod apply;
mod arrival;
pub mod backup;
mod checkup;
mod clock;
mod collisions;
mod connection;
mod cursors;
mod cutoff;
mod deferred;
mod digest;
mod effort;
mod error;
mod event_rows;
mod fold;
mod forget;
mod go;
mod log_copy;
mod migrate;
mod numbers;
pub mod ops;
mod origin;
mod parked_kind;
mod pieces;
mod progress;
mod purged_ranges;
pub mod query;
mod readers;
mod rejected;
mod salvage;
mod store;
mod transaction_room;
mod tx;
mod write_ahead_log;
mod writer;

pub use arrival::Ahead;
pub use checkup::{Checkup, Compared, Condition, reindex};
pub use collisions::Collision;
pub use cutoff::Purged;
pub use effort::Effort;
pub use error::StoreError;
pub use forget::{Forgetting, Forgotten};
pub use go::{GoDatabase, GoEvent, GoTotals, not_gos};
pub use log_copy::LogCopy;
pub use migrate::is_head_of_other;
pub use origin::StoreFingerprint;
pub use readers::{Reader, Readers};
pub use salvage::{Salvaged, salvage};
pub use store::{OpenOptions, Store};
pub use tx::Tx;
pub use writer::{Busy, Writer};
