//! Shows purges and their authors. A purge removes mail on all daemons, so everybody can see who made it, and through
//! which peer it came.

use serde::Serialize;
use thrum_core::{Error, Timestamp};
use thrum_store::query;

use crate::daemon::Daemon;

/// The latest cutoff, and the last purges that arrived.
#[derive(Serialize)]
pub(super) struct Purges {
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Timestamp>,
    last: Vec<PurgeRecord>,
}

#[derive(Serialize)]
pub(super) struct PurgeRecord {
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_name: Option<String>,
    /// `true` if the purge is signed. An unsigned purge removes only events of `by`.
    signed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<String>,
    at: Timestamp,
    before: Timestamp,
    /// Number of messages, sessions and events that the purge names in addition, because they claim a later time.
    #[serde(skip_serializing_if = "is_zero")]
    named: usize,
    /// `true` if the purge lies in the future and waits.
    waiting: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Returns the purges; `None` if the log contains none. Also adds a warning for a purge that is dated far ahead.
pub(super) async fn purges(daemon: &Daemon, warnings: &mut Vec<String>) -> Result<Option<Purges>, Error> {
    let mut machines = daemon.machines();
    let found = daemon.storage.read(move |reader| {
        let said = reader.purges()?;
        reader.name_machines(&mut machines, said.iter().flat_map(|purge| [purge.by.as_str(), purge.via.as_str()]))?;
        Ok((reader.purged_before()?, said, machines))
    });
    let (before, said, machines) = found.await?;
    if said.is_empty() {
        return Ok(None);
    }
    let name = |id: &str| machines.name(id).into_owned();
    if let Some(far) = said.iter().find(|purge| purge.far_ahead) {
        let by = thrum_core::name::shown_machine(&name(&far.by));
        warnings.push(format!(
            "a purge of {by} is dated {}, far ahead of this clock: it waits until then and takes nothing away before",
            far.at.to_the_second(),
        ));
    }
    let shown = |purge: query::PurgeRecord| PurgeRecord {
        by_name: Some(name(&purge.by)),
        via: Some(purge.via).filter(|via| !via.is_empty()).map(|via| name(&via)),
        signed: purge.signed,
        by: purge.by,
        at: purge.at,
        before: purge.cutoff,
        named: purge.listed,
        waiting: purge.waits,
    };
    Ok(Some(Purges {
        before: Some(before).filter(|before| *before > Timestamp::ZERO),
        last: said.into_iter().map(shown).collect(),
    }))
}
