//! Claims of files, and collisions.

use std::time::Duration;

use serde::Deserialize;
use thrum_core::Timestamp;

use super::AgentRef;
use crate::{
    render::who,
    text::{count, quote},
    time,
};

/// The answer to `claim.list`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Claims {
    pub(crate) claims: Vec<Claim>,
    pub(crate) more: bool,
}

/// A file or directory that an agent has claimed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Claim {
    #[serde(flatten)]
    pub(crate) agent: AgentRef,
    pub(crate) path: String,
    pub(crate) expires_at: Timestamp,
}

impl Claim {
    /// Formats the remaining time as `for 30m`, cut to the units shown. A begun second counts as a whole one, so that a
    /// claim just taken for 30 minutes is not shown as `29m`.
    pub(crate) fn lasts(&self, now: Timestamp) -> String {
        format!("for {}", time::brief(self.expires_at.since(now) + Duration::from_millis(999)))
    }

    /// Formats the claim as a line.
    pub(crate) fn line(&self, now: Timestamp) -> String {
        format!("{} {}", self.agent.who(), self.rest(now))
    }

    /// Formats the claim as plain text, with a mark after the agent.
    pub(crate) fn line_plain(&self, now: Timestamp, mark: &str) -> String {
        format!("{}{mark} {}", self.agent.plain_agent(), self.rest(now))
    }

    fn rest(&self, now: Timestamp) -> String {
        format!("has claimed {} {}", quote(&self.path), self.lasts(now))
    }
}

/// The answer to `collision.list` and `collision.news`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Collisions {
    pub(crate) collisions: Vec<Collision>,
}

/// A file that two agents changed at nearly the same time.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Collision {
    pub(crate) path: String,
    pub(crate) agent_id: String,
    pub(crate) address: String,
    pub(crate) changed_at: Timestamp,
    pub(crate) other: CollidedWith,
}

impl Collision {
    /// Formats both agents and the file as a line for a third party.
    pub(crate) fn line(&self) -> String {
        let (one, other) = (who(&self.agent_id, &self.address, None), self.other.agent.who());
        format!("{one} and {other} changed {} within {}", quote(&self.path), self.apart())
    }

    /// Formats both agents and the file as plain text.
    pub(crate) fn line_plain(&self) -> String {
        anstream::adapter::strip_str(&self.line()).to_string()
    }

    /// Formats the collision for the agent `agent_id`.
    pub(crate) fn to_agent(&self) -> String {
        let other = self.other.agent.plain_agent();
        format!("{other} changed {} within {} of you", quote(&self.path), self.apart())
    }

    fn apart(&self) -> String {
        let (one, other) = (self.changed_at, self.other.changed_at);
        let seconds = one.since(other).max(other.since(one)).as_secs();
        count(seconds.max(1), "second")
    }
}

/// The other agent of a collision.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CollidedWith {
    #[serde(flatten)]
    pub(crate) agent: AgentRef,
    pub(crate) changed_at: Timestamp,
}
