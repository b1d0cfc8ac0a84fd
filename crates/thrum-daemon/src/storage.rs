//! The store as the daemon's tasks use it: many wait, one thread writes, nobody blocks the runtime.

use std::sync::Arc;

use thrum_core::{
    ErrorKind, Fault,
    exchange::{Applied, Batch, Commit},
    limits,
    quota::Amounts,
};
use thrum_store::{OpenOptions, Reader, Readers, Store, StoreError, Tx, Writer};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    acknowledged::Acknowledged, ambient::System, config::Config, disk, env::Environment, hold::Hold, identity::Identity, paths::Repo,
};

/// The log and its projection, open.
pub(crate) struct Storage {
    pub(crate) writer: Writer,
    pub(crate) readers: Readers,
    /// Since when each peer has what of our log.
    pub(crate) acknowledged: Acknowledged,
    /// Whether the database is still the one at its path.
    hold: Hold,
    /// How much of one peer may be kept, as the settings have it now.
    pub(crate) quota: Box<dyn Fn() -> Amounts + Send + Sync>,
    commits: watch::Receiver<Commit>,
    /// Fewer than the writer's queue has room for, so that queueing never blocks a thread of the runtime.
    places: Arc<Semaphore>,
}

impl Storage {
    /// Opens the database of `repo` and writes down which one it is, before anything is stored in it.
    ///
    /// # Errors
    /// Those of [`Store::open`]; those of the file system.
    pub(crate) fn open(repo: &Repo, identity: &mut Identity, hold: Hold) -> Result<Self, Fault> {
        let path = repo.database();
        disk::refuse_links(&[&path, &path.with_extension("db-wal"), &path.with_extension("db-shm")])?;
        let mut options = OpenOptions::new(identity.key().clone(), identity.left());
        options.new_log = identity.new_log;
        let store = Store::open(&path, options, Box::new(System))?;
        identity.record(&store.left())?;
        let readers = Readers::new(&path, store.daemon_id().as_str());
        let acknowledged = Acknowledged::new(store.reader().acknowledged()?);
        let (sender, commits) = watch::channel(store.commit().clone());
        let announce = move |commit: &Commit| drop(sender.send_replace(commit.clone()));
        let writer = Writer::start(store, announce).map_err(|error| disk::fault("start the writer of", &path, &error))?;
        let of = repo.clone();
        let quota = Box::new(move || Config::load(&of, &Environment::load(&of, std::env::vars_os())).quota());
        Ok(Self { writer, readers, acknowledged, quota, hold, commits, places: Arc::new(Semaphore::new(limits::WRITER_QUEUE / 2)) })
    }

    /// Ends the writer after the work that was accepted. If nobody else uses the storage any more, the readers are closed
    /// first: SQLite folds the write-ahead log into the database file when the last connection closes, if that one may write.
    ///
    /// Nothing is closed once the state directory is lost: SQLite would remove the write-ahead log by its path, which is another
    /// daemon's by then. The files end with the process.
    pub(crate) fn close(self: Arc<Self>) {
        if self.hold.check().is_err() {
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

    /// Resolves when nothing can be written any more, which happens by a defect only: the writing thread panicked.
    pub(crate) async fn broken(&self) {
        // The thread owns the sender.
        let _ = self.commits().wait_for(|_| false).await;
    }

    /// What is durable, now and whenever that changes.
    pub(crate) fn commits(&self) -> watch::Receiver<Commit> {
        self.commits.clone()
    }

    /// Asks about one moment.
    ///
    /// # Errors
    /// The question's, SQLite's.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Reader<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Fault> {
        let storage = Arc::clone(self);
        match tokio::task::spawn_blocking(move || storage.read_now(question)).await {
            Ok(answer) => answer,
            Err(error) => Err(Fault::new(ErrorKind::Failed, format!("a question to the store failed: {error}"))),
        }
    }

    /// Asks about one moment; blocks.
    ///
    /// # Errors
    /// The question's, SQLite's; those of [`Hold::check`].
    pub(crate) fn read_now<T>(&self, question: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>) -> Result<T, Fault> {
        // Before, for a connection may be opened, and after, for it may have been opened to another database.
        self.hold.check()?;
        let answer = self.readers.with(question)?;
        self.hold.check()?;
        Ok(answer)
    }

    /// Does a piece of work in the next commit; blocks until it is durable in the directory that is at its path.
    ///
    /// # Errors
    /// The work's own, or why the commit failed; those of [`Hold::check`].
    pub(crate) fn write_now<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Fault> {
        self.hold.check()?;
        let outcome = self.writer.call(work)?;
        self.hold.check()?;
        Ok(outcome)
    }

    /// Stores what a pull brought, in pieces; returns when all of it is durable. Blocks.
    ///
    /// # Errors
    /// Those of [`Writer::apply`], those of [`Hold::check`].
    pub(crate) fn take(&self, batch: Batch) -> Result<Applied, Fault> {
        self.hold.check()?;
        let applied = self.writer.apply(batch)?;
        self.hold.check()?;
        Ok(applied)
    }

    /// Does a piece of work in one of the next commits, for what nobody waits for; nothing if the writer is very busy.
    pub(crate) fn note(&self, work: impl FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static) {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            self.writer.submit(work, move |outcome| {
                drop(place);
                if let Err(error) = outcome {
                    tracing::warn!("a note was not written: {error}");
                }
            });
        }
    }

    /// Does a piece of work in the next commit; returns when it is durable (I3). Given up by its caller, it is done all the
    /// same.
    ///
    /// # Errors
    /// The work's own, or why the commit failed.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Fault> {
        let closed = || Fault::from(StoreError::Closed);
        self.hold.check()?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
        let (sender, receiver) = oneshot::channel();
        self.writer.submit(work, move |outcome| {
            drop(place);
            // Nobody listens if the caller was given up.
            let _ = sender.send(outcome);
        });
        let outcome = receiver.await.map_err(|_| closed())?;
        // Durable, but in a file that nobody can open any more.
        self.hold.check()?;
        Ok(outcome?)
    }
}
