//! Names of others on the command line: one that is nobody's is an error, not an empty list.

use serde_json::{Value, json};
use thrum_core::Fault;

use crate::context::Context;

/// A name without its `@`.
pub(crate) fn bare(name: &str) -> &str {
    name.strip_prefix('@').unwrap_or(name)
}

/// Asked where nothing was found for a name: whoever is gone may have left something.
///
/// # Errors
/// `not_found` if no agent has this name, with who may have been meant.
pub(crate) fn agent(name: &str, cx: &Context) -> Result<(), Fault> {
    check(name, false, cx)
}

/// The same, where the name of a role will do.
pub(crate) fn agent_or_role(name: &str, cx: &Context) -> Result<(), Fault> {
    check(name, true, cx)
}

fn check(name: &str, roles: bool, cx: &Context) -> Result<(), Fault> {
    cx.daemon()?.call::<Value>("agent.check", json!({"name": bare(name), "roles": roles})).map(drop)
}
