//! The event log and its projection in SQLite: a plain synchronous function over batches.
//!
//! No sockets, and no thread but the one that drives it. The `events` table is the only truth; every other table about mail
//! and agents is a fold of the *set* of events and can be thrown away and folded again ([`Store::rebuild`]).
//!
//! * [`Store`] owns the one writing connection; [`Writer`] is the thread that commits once for all who wait.
//! * [`Tx`] is what a job may do inside a transaction; [`ops`] are the jobs that agents ask for.
//! * [`Readers`] hand out read-only connections; [`query`] is what they answer.

mod acknowledged;
mod arrival;
pub mod backup;
mod checkup;
mod digest;
mod effort;
mod error;
mod fold;
mod forget;
mod go;
mod log_copy;
mod migrate;
pub mod ops;
mod origin;
mod pieces;
pub mod query;
mod readers;
mod salvage;
mod store;
mod tx;
mod writer;

pub use arrival::Ahead;
pub use checkup::{Checkup, Compared, Condition, reindex};
pub use effort::Effort;
pub use error::StoreError;
pub use fold::Purged;
pub use forget::Forgotten;
pub use go::{GoDatabase, GoEvent, GoTotals, not_gos};
pub use log_copy::LogCopy;
pub use origin::Left;
pub use readers::{Reader, Readers};
pub use salvage::{Salvaged, salvage};
pub use store::{OpenOptions, Store};
pub use tx::Tx;
pub use writer::{Busy, Writer};
