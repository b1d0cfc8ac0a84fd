//! The environment variables with a meaning for Thrum.

use thrum_daemon::{config::Key, env::VARIABLES};

use crate::{hook::probe, mcp};

/// Variables that the command reads only from its own process environment, never from a `.env`. The caller decides
/// which agent acts; a file that came with the repository must not.
pub(crate) const OF_THE_COMMAND: [&str; 4] = ["THRUM_NAME", "THRUM_AGENT_ID", "THRUM_HOME", "THRUM_NO_HINTS"];

/// Returns `true` if the command or the daemon reads the variable `name`, or sets it for a program that it starts.
pub(crate) fn is_known(name: &str) -> bool {
    OF_THE_COMMAND.contains(&name)
        || [probe::VARIABLE, mcp::PLUGIN].contains(&name)
        || VARIABLES.iter().any(|variable| variable.name == name)
        || Key::ALL.iter().any(|key| key.variable() == name)
}
