//! `daemon.settings`: returns the variables in effect in the running daemon, which it read at its start.

use serde::Serialize;

use crate::{daemon::Daemon, env::Effective};

#[derive(Serialize)]
pub(super) struct Running<'a> {
    variables: &'a [Effective],
}

pub(super) fn running(daemon: &Daemon) -> Running<'_> {
    Running { variables: &daemon.variables }
}
