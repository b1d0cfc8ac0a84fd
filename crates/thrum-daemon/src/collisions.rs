//! Detects when two agents change one file at nearly the same time, and records it for those of the two whose home is
//! this daemon.

use std::{sync::Arc, time::Duration};

use thrum_core::{Ambient, Error};
use tokio::time::sleep;

use crate::{ambient::System, shutdown::Shutdown, storage::Storage};

/// Minimum pause between two searches. A search costs about as much as storing a message, so under load one search
/// covers many commits.
const PAUSE: Duration = Duration::from_millis(200);

/// Searches after each commit until the daemon stops. Events that were in the log before the start are not searched:
/// they are too old to matter.
pub(crate) async fn follow(storage: Arc<Storage>, shutdown: Shutdown) {
    let mut commits = storage.commits();
    let mut after = commits.borrow_and_update().latest;
    loop {
        tokio::select! {
            changed = commits.changed() => if changed.is_err() { return },
            () = shutdown.stopping() => return,
        }
        let latest = commits.borrow_and_update().latest;
        after = searched_up_to(&storage, after, latest).await;
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = shutdown.stopping() => return,
        }
    }
}

/// Searches the events after the sequence `after`, in parts. Returns the sequence after which the next search begins:
/// `latest`, or the end of the last part before one that failed.
async fn searched_up_to(storage: &Arc<Storage>, mut after: u64, latest: u64) -> u64 {
    loop {
        match search(storage, after).await {
            Ok(None) => return latest,
            Ok(Some(reached)) => after = reached,
            Err(error) => {
                tracing::warn!(%error, "cannot search for files that two agents have changed");
                return after;
            }
        }
    }
}

/// Searches the events after the sequence `after` for collisions, and records the new ones. Returns the sequence up to
/// which it has searched if there may be more.
async fn search(storage: &Arc<Storage>, after: u64) -> Result<Option<u64>, Error> {
    let searched = storage.read(move |reader| {
        let changed = reader.updated_since(after)?;
        let found = match changed.agents.as_slice() {
            [] => Vec::new(),
            agents => reader.collisions_of(agents, System.now())?,
        };
        Ok((reader.new_collisions(found, System.now())?, changed.reached))
    });
    let (new_collisions, reached) = searched.await?;
    if !new_collisions.is_empty() {
        storage.write(move |tx| tx.record_collisions(new_collisions)).await?;
    }
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use thrum_core::work::{FileChange, Work};
    use thrum_store::ops::{Heartbeat, Register};

    use super::*;
    use crate::storage::kit;

    #[tokio::test]
    async fn collisions_that_a_failed_search_missed_are_found_by_the_next_one() {
        let (dir, storage) = kit::with_mail_of_dan(1);
        let after = storage.commits().borrow().latest;
        let at = System.now().plus(Duration::from_secs(1));
        for name in ["ann", "bob"] {
            let change = FileChange {
                path: "a.rs".to_owned(),
                last_modified: Some(at.to_string()),
                status: "modified".to_owned(),
                ..FileChange::default()
            };
            let work = Work {
                worktree_path: Some(format!("/src/{name}")),
                uncommitted_files: vec!["a.rs".to_owned()],
                file_changes: vec![change],
                ..Work::default()
            };
            let register = Register {
                name: name.to_owned(),
                role: format!("role-{name}"),
                module: "m".to_owned(),
                ..Register::default()
            };
            let beat = Heartbeat { work: Some(work), ..Heartbeat::default() };
            storage.write(move |tx| tx.register(register).map(drop)).await.unwrap();
            storage.write(move |tx| tx.start_session(name, beat).map(drop)).await.unwrap();
        }
        let latest = storage.commits().borrow().latest;
        let repo = crate::paths::Repo::create(dir.path(), None).unwrap();
        let database = rusqlite::Connection::open(repo.database()).unwrap();
        database.execute_batch("ALTER TABLE collisions RENAME TO away").unwrap();
        let next = searched_up_to(&storage, after, latest).await;
        database.execute_batch("ALTER TABLE away RENAME TO collisions").unwrap();
        assert_eq!(searched_up_to(&storage, next, latest).await, latest);
        let found = storage.read(|reader| reader.collisions(System.now(), None)).await.unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
