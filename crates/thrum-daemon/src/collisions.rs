//! Detects when two agents change one file at nearly the same time, and records it for those of them that live here.

use std::{sync::Arc, time::Duration};

use thrum_core::{Ambient, Error};
use tokio::time::sleep;

use crate::{ambient::System, shutdown::Shutdown, storage::Storage};

/// Least time between two searches. A search costs as much as a message, so it is not made for each of a thousand
/// messages per second.
const PAUSE: Duration = Duration::from_millis(200);

/// Follows the log until the daemon stops. Work reported while the daemon was down is too old to matter.
pub(crate) async fn follow(storage: Arc<Storage>, shutdown: Shutdown) {
    let mut commits = storage.commits();
    let mut after = commits.borrow_and_update().latest;
    loop {
        tokio::select! {
            changed = commits.changed() => if changed.is_err() { return },
            () = shutdown.stopping() => return,
        }
        let latest = commits.borrow_and_update().latest;
        if let Err(error) = search(&storage, after).await {
            tracing::warn!(%error, "cannot search for files that two agents have changed");
        }
        after = latest;
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = shutdown.stopping() => return,
        }
    }
}

async fn search(storage: &Arc<Storage>, after: u64) -> Result<(), Error> {
    let news = storage.read(move |reader| {
        let changed = reader.updated_since(after)?;
        let found = if changed.is_empty() { Vec::new() } else { reader.collisions_of(&changed, System.now())? };
        reader.new_collisions(found, System.now())
    });
    let news = news.await?;
    if !news.is_empty() {
        storage.write(move |tx| tx.record_collisions(news)).await?;
    }
    Ok(())
}
