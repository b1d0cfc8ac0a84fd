//! Scenarios of the store, by what must hold.

mod acts;
mod answers;
mod bounded;
mod bounds;
mod disk;
mod faults;
mod fold;
mod footing;
mod forged;
mod forget;
mod growth;
mod kit;
mod log;
mod losses;
mod migrated;
mod moved;
mod odd;
mod order;
mod origin;
mod outbox;
mod pieces;
mod plans;
mod presence;
mod purge;
mod recorded;
mod salvage;
