//! The store for the daemon's tasks. One thread writes; the async methods wait for it without blocking a thread of the
//! runtime.

use std::sync::Arc;

use thrum_core::{
    Error,
    exchange::{Applied, Batch, Commit},
    limits,
    quota::Amounts,
};
use thrum_store::{OpenOptions, Reader, Readers, Store, StoreError, Tx, Writer};
use thrum_sync::blocking::blocking;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    acknowledged::Acknowledged, ambient::System, config::Config, hold::Hold, identity::Identity, large::Turn,
    paths::Repo, private_files,
};

/// The open log and its projection.
pub(crate) struct Storage {
    pub(crate) writer: Writer,
    pub(crate) readers: Readers,
    /// Which part of our log each peer has acknowledged, and when.
    pub(crate) acknowledged: Acknowledged,
    /// Checks that the open database is still the one at its path.
    hold: Hold,
    /// Returns how much data of one peer may be stored, according to the current settings.
    pub(crate) quota: Box<dyn Fn() -> Amounts + Send + Sync>,
    commits: watch::Receiver<Commit>,
    /// Cancelled when the writing thread ends.
    broken: CancellationToken,
    /// Permits for writes, fewer than the writer's queue has room for, so that queueing never blocks a runtime thread.
    places: Arc<Semaphore>,
}

impl Storage {
    /// Opens the database of `repo` and records which one it is before anything is stored in it.
    ///
    /// # Errors
    /// Those of [`Store::open`]; file system errors.
    pub(crate) fn open(repo: &Repo, identity: &mut Identity, hold: Hold) -> Result<Self, Error> {
        let path = repo.database();
        private_files::refuse_links(&[&path, &path.with_extension("db-wal"), &path.with_extension("db-shm")])?;
        let mut options = OpenOptions::new(identity.key().clone(), identity.left());
        options.new_log = identity.new_log;
        let store = Store::open(&path, options, Box::new(System))?;
        identity.record(&store.fingerprint())?;
        hold.keep(path.clone());
        let readers = Readers::new(&path, store.daemon_id().as_str());
        let acknowledged = Acknowledged::new(store.reader().acknowledged()?);
        let (sender, commits) = watch::channel(store.commit().clone());
        let (token, kept) = (CancellationToken::new(), hold.clone());
        let (broken, ended) = (token.clone(), token.drop_guard());
        let announce = move |commit: &Commit| {
            // The commit is durable, but its file may have been deleted or replaced. One check serves all callers of
            // the commit: they get its result.
            let _ = kept.check();
            sender.send_replace(commit.clone());
            // The guard ends with the writing thread.
            let _ = &ended;
        };
        let writer = Writer::start(store, announce)
            .map_err(|error| private_files::io_error("start the writer of", &path, &error))?;
        let of = repo.clone();
        let quota = Box::new(move || Config::current(&of).quota());
        Ok(Self {
            writer,
            readers,
            acknowledged,
            quota,
            hold,
            commits,
            broken,
            places: Arc::new(Semaphore::new(limits::WRITER_QUEUE / 2)),
        })
    }

    /// Ends the writer after all accepted work. If nothing else uses the storage any more, the readers are closed
    /// first: SQLite copies the write-ahead log into the database file when the last connection closes, if that
    /// connection may write.
    ///
    /// Nothing is closed once the state directory or the database is lost. SQLite would remove the write-ahead log by
    /// its path, where another daemon's log may be by then. The operating system closes the files when the process
    /// ends.
    pub(crate) fn close(self: Arc<Self>) {
        if !self.hold.may_close() {
            std::mem::forget(self);
            return;
        }
        match Arc::try_unwrap(self) {
            Ok(Self { writer, readers, .. }) => {
                drop(readers);
                writer.close();
            }
            Err(shared) => shared.writer.close(),
        }
    }

    /// Resolves when nothing can be written any more. Only a defect causes this: the writing thread panicked.
    pub(crate) async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Subscribes to the durable state and its changes.
    pub(crate) fn commits(&self) -> watch::Receiver<Commit> {
        self.commits.clone()
    }

    /// Runs a query on one snapshot.
    ///
    /// # Errors
    /// Errors of the query and of SQLite; those of [`Hold::check`].
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Reader<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let storage = Arc::clone(self);
        blocking(move || storage.read_now(question)).await
    }

    /// Runs a query on one snapshot, in the turn of an answer that may have megabytes.
    ///
    /// # Errors
    /// Errors of the query and of SQLite; those of [`Hold::check`].
    pub(crate) async fn read_much<T: Send + 'static>(
        self: &Arc<Self>,
        turn: &Turn,
        question: impl FnOnce(&Reader<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let storage = Arc::clone(self);
        turn.work(move || storage.read_now(question)).await
    }

    /// Runs a query on one snapshot; blocks.
    ///
    /// # Errors
    /// Errors of the query and of SQLite; those of [`Hold::check`].
    pub(crate) fn read_now<T>(&self, question: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>) -> Result<T, Error> {
        // Check before the query, because it may open a connection, and after it, because the connection may have been
        // opened to another database.
        self.hold.check_lately()?;
        let answer = self.readers.with(question)?;
        self.hold.check()?;
        Ok(answer)
    }

    /// Does work in the next commit. Blocks until the work is durable, in a database that is still at its path.
    ///
    /// # Errors
    /// The error of the work or of the commit; those of [`Hold::check`].
    pub(crate) fn write_now<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        self.hold.check_lately()?;
        let outcome = self.writer.call(work)?;
        self.hold.check_result()?;
        Ok(outcome)
    }

    /// Stores a batch of events from a peer or an import, in pieces. Blocks until all of them are durable.
    ///
    /// # Errors
    /// Those of [`Writer::apply`] and of [`Hold::check`].
    pub(crate) fn take(&self, batch: Batch) -> Result<Applied, Error> {
        self.hold.check_lately()?;
        let applied = self.writer.apply(batch)?;
        self.hold.check_result()?;
        Ok(applied)
    }

    /// Does work in one of the next commits without waiting for it. If the writer is so busy that all permits are
    /// taken, the work is dropped, so this is only for work that is soon repeated anyway.
    pub(crate) fn write_unless_busy(&self, work: impl FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static) {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            self.submit(work, place);
        }
    }

    /// Does work in one of the next commits. Waits until the writer has room for the work, but not for the commit.
    pub(crate) async fn write_in_background(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static,
    ) {
        // The semaphore is never closed.
        if let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
            self.submit(work, place);
        }
    }

    /// Queues work that nothing waits for; a failure is only logged.
    fn submit(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static,
        place: OwnedSemaphorePermit,
    ) {
        self.writer.submit(work, move |outcome| {
            drop(place);
            if let Err(error) = outcome {
                tracing::warn!(%error, "cannot write a note");
            }
        });
    }

    /// Does work in the next commit and returns when it is durable (I3). Once queued, the work is done even if the
    /// caller drops the future.
    ///
    /// # Errors
    /// The error of the work or of the commit; those of [`Hold::check`].
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let closed = || Error::from(StoreError::Closed);
        self.hold.check_lately()?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
        let (sender, receiver) = oneshot::channel();
        self.writer.submit(work, move |outcome| {
            drop(place);
            // The receiver is gone if the caller dropped the future.
            let _ = sender.send(outcome);
        });
        let outcome = receiver.await.map_err(|_| closed())?;
        self.hold.check_result()?;
        Ok(outcome?)
    }
}

/// Storages for tests that pause the writer.
#[cfg(test)]
pub(crate) mod kit {
    use std::sync::mpsc;

    use serde_json::json;
    use tempfile::TempDir;
    use thrum_core::event::Candidate;

    use super::*;
    use crate::{identity::Claim, lock};

    /// The number of messages that one piece of pending work handles.
    pub(crate) const PIECE: u64 = 100;

    /// Takes all the room for queued writes until the permit is dropped.
    pub(crate) async fn keep_busy(storage: &Storage) -> OwnedSemaphorePermit {
        let all = u32::try_from(storage.places.available_permits()).unwrap();
        Arc::clone(&storage.places).acquire_many_owned(all).await.unwrap()
    }

    /// Creates a storage in its own directory, with this many messages from a peer for an agent that is not registered
    /// yet.
    pub(crate) fn with_mail_of_dan(messages: u64) -> (TempDir, Arc<Storage>) {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::create(dir.path(), None).unwrap();
        let mut identity = Identity::load(&repo, Claim::None, &mut System).unwrap();
        let hold = Hold::new(lock::acquire(&repo).unwrap(), &repo);
        let storage = Storage::open(&repo, &mut identity, hold).unwrap();
        let mail = |n: u64| {
            let fields = json!({"event_id": format!("evt_{n}"), "type": "message.create", "timestamp": "2026-01-01T00:00:00Z",
                "origin_daemon": "d_go", "message_id": format!("msg_{n}"), "agent_id": "cy", "recipients": ["dan"]});
            Candidate::new(fields.as_object().unwrap()).unwrap().into_held()
        };
        let batch = Batch {
            peer: "d_go".to_owned(),
            log: String::new(),
            checkpoint: 0,
            checkpoint_event: String::new(),
            events: (0..messages).map(mail).collect(),
            rejected: Vec::new(),
        };
        storage.take(batch).unwrap();
        (dir, Arc::new(storage))
    }

    /// Does `work` together with the first piece of the pending work that it leaves, and the second piece in its own
    /// commit. The writer then pauses until the returned sender is dropped.
    pub(crate) fn hold_after_two_pieces<T: Send + 'static>(
        storage: &Storage,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> mpsc::Sender<()> {
        let wait = || {
            let ((entered, is_held), (holding, held)) = (mpsc::channel(), mpsc::channel::<()>());
            let job = move |_: &mut Tx<'_>| {
                // Dropping the sender lets the test continue.
                drop(entered);
                let _ = held.recv();
                Ok(())
            };
            storage.writer.submit(job, |outcome| outcome.unwrap());
            (is_held, holding)
        };
        let until = |is_held: mpsc::Receiver<()>| assert!(is_held.recv().is_err(), "nothing is ever sent");
        let (is_held, first) = wait();
        until(is_held);
        // Fill a whole group commit; after it the writer turns to pending work.
        storage.writer.submit(work, |outcome| drop(outcome.unwrap()));
        for _ in 1..limits::MAX_GROUP_COMMIT {
            storage.writer.submit(|_| Ok(()), |outcome| outcome.unwrap());
        }
        let (is_held, second) = wait();
        drop(first);
        until(is_held);
        second
    }
}
