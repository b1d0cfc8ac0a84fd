//! Names of other agents on the command line. An unknown name is an error, not an empty list.

use serde_json::{Value, json};
use thrum_core::Error;

use crate::context::Context;

/// A name without its `@`.
pub(crate) fn bare(name: &str) -> &str {
    name.strip_prefix('@').unwrap_or(name)
}

/// Checks that an agent exists or was deleted here. Called only after nothing was found for a name, because an agent
/// that is gone may still have data here.
///
/// # Errors
/// `not_found` if no agent has or had this name; the hint names the closest match, if there is one. Otherwise the daemon's
/// error.
pub(crate) fn agent(name: &str, cx: &Context) -> Result<(), Error> {
    check(name, false, cx)
}

/// Checks that an agent or a role of this name exists, or that the name is `everyone`. Fails like [`agent`].
pub(crate) fn agent_or_role(name: &str, cx: &Context) -> Result<(), Error> {
    check(name, true, cx)
}

fn check(name: &str, roles: bool, cx: &Context) -> Result<(), Error> {
    cx.daemon()?.call::<Value>("agent.check", json!({"name": bare(name), "roles": roles})).map(drop)
}
