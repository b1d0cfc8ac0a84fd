//! `daemon.settings`: returns the variables that the running daemon read at its start, except those of keys in
//! `config.json`.

use serde::Serialize;

use crate::{daemon::Daemon, env::Effective};

#[derive(Serialize)]
pub(super) struct Running<'a> {
    variables: &'a [Effective],
}

pub(super) fn running(daemon: &Daemon) -> Running<'_> {
    Running { variables: &daemon.variables }
}
