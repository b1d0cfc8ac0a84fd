//! The real binary, as people and agents run it, in surroundings of its own. One module per command.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

mod abuse;
mod agent;
mod arguments;
mod backup;
mod bench;
mod bodies;
mod clock;
mod completions;
mod config;
mod context;
mod copied;
mod crash;
mod daemon;
mod damaged;
mod demo;
mod disk;
mod doctor;
mod examples;
mod export;
mod help;
mod hostile;
mod identity;
mod import;
mod inbox;
mod init;
mod json;
mod labels;
mod large;
mod layout;
mod message;
mod outlook;
mod output;
mod pairing;
mod prime;
mod purge;
mod quickstart;
mod quota;
mod register;
mod reply;
mod sandbox;
mod send;
mod sent;
mod session;
mod state;
mod status;
mod story;
mod sync;
mod team;
mod wait;
mod who;
