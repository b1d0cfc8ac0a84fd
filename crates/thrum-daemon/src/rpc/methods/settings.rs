//! `daemon.settings`: the variables that the running daemon goes by. It read them when it started.

use serde::Serialize;

use crate::{daemon::Daemon, env::Effective};

#[derive(Serialize)]
pub(super) struct Running<'a> {
    variables: &'a [Effective],
}

pub(super) fn running(daemon: &Daemon) -> Running<'_> {
    Running { variables: &daemon.variables }
}
