//! Who purged what: a purge takes away mail everywhere, so everybody sees who did it, and through which peer it came.

use serde::Serialize;
use thrum_core::{Fault, Stamp};
use thrum_store::query::PurgeSaid;

use crate::daemon::Daemon;

/// Before what all is gone, and the last purges that came.
#[derive(Serialize)]
pub(super) struct Purges {
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Stamp>,
    last: Vec<Shown>,
}

#[derive(Serialize)]
pub(super) struct Shown {
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_name: Option<String>,
    /// Whether it is signed. If not, it takes away only what `by` wrote.
    signed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<String>,
    at: Stamp,
    before: Stamp,
    /// Whether it lies ahead and waits.
    waiting: bool,
}

/// What there is to tell; nothing where nobody ever purged. What waits for a time far ahead is a warning, too.
pub(super) async fn purges(daemon: &Daemon, warnings: &mut Vec<String>) -> Result<Option<Purges>, Fault> {
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
    let shown = |PurgeSaid { by, signed, via, at, cutoff, waits, .. }: PurgeSaid| Shown {
        by_name: Some(name(&by)),
        via: Some(via).filter(|via| !via.is_empty()).map(|via| name(&via)),
        signed,
        by,
        at,
        before: cutoff,
        waiting: waits,
    };
    Ok(Some(Purges { before: Some(before).filter(|before| *before > Stamp::ZERO), last: said.into_iter().map(shown).collect() }))
}
