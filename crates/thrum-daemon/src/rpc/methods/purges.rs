//! Who purged what: anybody who is paired can purge everything, so everybody sees who did.

use serde::Serialize;
use thrum_core::{Fault, Stamp};
use thrum_store::query::PurgeSaid;
use thrum_sync::service::PeerStatus;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<String>,
    at: Stamp,
    before: Stamp,
    /// Whether it lies ahead and waits.
    waiting: bool,
}

/// What there is to tell; nothing where nobody ever purged. What waits for a time far ahead is a warning, too.
pub(super) async fn purges(daemon: &Daemon, peers: &[PeerStatus], warnings: &mut Vec<String>) -> Result<Option<Purges>, Fault> {
    let (before, said) = daemon.storage.read(|reader| Ok((reader.purged_before()?, reader.purges()?))).await?;
    if said.is_empty() {
        return Ok(None);
    }
    let name = |id: &str| {
        if id == daemon.id {
            Some(daemon.name.clone())
        } else {
            peers.iter().find(|peer| peer.daemon_id == id).map(|peer| peer.name.clone())
        }
    };
    if let Some(far) = said.iter().find(|purge| purge.far_ahead) {
        let by = thrum_core::name::printable(&name(&far.by).unwrap_or_else(|| far.by.clone()));
        warnings.push(format!(
            "a purge of {by} is dated {}, far ahead of this clock: it waits until then and takes nothing away before",
            far.at.to_the_second(),
        ));
    }
    let shown = |PurgeSaid { by, via, at, cutoff, waits, .. }: PurgeSaid| Shown {
        by_name: name(&by),
        via: Some(via).filter(|via| !via.is_empty()).map(|via| name(&via).unwrap_or(via)),
        by,
        at,
        before: cutoff,
        waiting: waits,
    };
    Ok(Some(Purges { before: Some(before).filter(|before| *before > Stamp::ZERO), last: said.into_iter().map(shown).collect() }))
}
