//! The daemon's answers, as far as commands display them. The type of an answer that only one command reads is defined
//! in that command's file.
//!
//! A command that passes on the whole answer with `--json` reads an [`Answer`].

mod agents;
mod git;
mod health;
mod mail;
mod peers;
mod work;

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use thrum_core::Error;

pub(crate) use agents::{AgentRef, Agents, Contexts, ListedAgent, Member, Team, Whoami, Working};
pub(crate) use git::{GitDaemon, GitStatus, Waiting};
pub(crate) use health::{Health, Purges, SaidPurge, Tailnet};
pub(crate) use mail::{Body, Listing, News, Recipient, Sent, Summary, Tag};
pub(crate) use peers::{Pairing, Peer, SyncStatus, millis, node, over_quota, route};
pub(crate) use work::{Claim, Claims, Collisions};

use crate::client;

/// An answer as received, and the parts of it that we read.
#[derive(Clone, Debug)]
pub(crate) struct Answer<T> {
    pub(crate) raw: Value,
    pub(crate) read: T,
}

impl<T: Default> Answer<T> {
    /// Returns the answer; an empty `list` in place of the error `not_found`, as for an agent that the daemon does not
    /// know.
    ///
    /// # Errors
    /// Returns the daemon's other errors, also that of an earlier version that does not know the method.
    pub(crate) fn or_empty(answer: Result<Self, Error>, list: &str) -> Result<Self, Error> {
        match answer {
            Err(error) if client::is_unknown_method(&error) => Ok(Self { raw: json!({list: []}), read: T::default() }),
            answer => answer,
        }
    }
}

impl<'de, T: for<'a> Deserialize<'a>> Deserialize<'de> for Answer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Value::deserialize(deserializer)?;
        let read = T::deserialize(&raw).map_err(serde::de::Error::custom)?;
        Ok(Self { raw, read })
    }
}

/// For an answer that is passed on without being read.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Any {}
