//! One file per command: its arguments, the call, and how its result reads.

pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod body;
pub(crate) mod context;
pub(crate) mod daemon;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod inbox;
pub(crate) mod init;
pub(crate) mod message;
pub(crate) mod peer;
pub(crate) mod prime;
pub(crate) mod purge;
pub(crate) mod quickstart;
pub(crate) mod reply;
pub(crate) mod restore;
pub(crate) mod send;
pub(crate) mod sent;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod team;
pub(crate) mod version;
pub(crate) mod wait;
pub(crate) mod whoami;
