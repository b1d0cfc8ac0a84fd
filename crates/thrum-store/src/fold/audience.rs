//! The rows of a message in the table `audience`: one for each agent and home, one for each role, and one if the
//! message is for everyone.
//!
//! Example: a message that mentions `reviewer`, but lists only `coder` as recipient, has the rows agent `coder`, agent
//! `reviewer` and role `reviewer`. A message without addressees has the row everyone. `thrum_core::audience` reads the
//! addressees from the message.

use std::fmt;

use rusqlite::{
    ToSql,
    types::{ToSqlOutput, Value},
};
use thrum_core::{audience::Audience, payload::MessageCreate};

/// The column `kind` of the tables `audience` and `audience_counts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AudienceKind {
    /// An agent, by name and home; with an empty home if the message gives none.
    Agent = 0,
    /// All agents with a role.
    Role = 1,
    /// All agents.
    Everyone = 2,
}

impl ToSql for AudienceKind {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Integer(*self as i64)))
    }
}

/// Writes the number, as a literal of SQL.
impl fmt::Display for AudienceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (*self as i64).fmt(f)
    }
}

/// Lists the rows of a message: kind, value and home. An agent for which the message gives no home has one row with an
/// empty home.
pub(super) fn rows<'a>(
    message: &'a MessageCreate,
    audience: &Audience<'a>,
) -> impl Iterator<Item = (AudienceKind, &'a str, &'a str)> {
    let agents = audience.agents.iter().flat_map(move |agent| {
        let mut homes: Vec<&str> = message.homes_of(agent).collect();
        if homes.is_empty() {
            homes.push("");
        }
        homes.into_iter().map(|home| (AudienceKind::Agent, *agent, home))
    });
    let roles = audience.roles.iter().map(|role| (AudienceKind::Role, *role, ""));
    agents.chain(roles).chain(audience.everyone.then_some((AudienceKind::Everyone, "", "")))
}
