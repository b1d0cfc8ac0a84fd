//! What an exchange needs of git: the objects and tips that are kept here, and their exchange with the remote. Knows bytes
//! and ids, not what they mean.

use std::collections::{BTreeMap, BTreeSet};

use crate::GitError;

/// Our copy of the part of the remote that is ours. Nobody else may use it meanwhile.
pub trait Mirror: Send + Sync {
    /// Fetches the tips of all daemons, or only those of `only`, and forgets all others. Returns the number of daemons on
    /// the remote that were left out.
    ///
    /// # Errors
    /// The remote cannot be reached, or refuses; [`GitError::TooMuch`] if it sends too much.
    fn fetch(&self, only: Option<&BTreeSet<String>>) -> Result<usize, GitError>;

    /// The tips of the remote as of the last fetch, by the rest of the ref's name.
    ///
    /// # Errors
    /// The mirror fails.
    fn tips(&self) -> Result<BTreeMap<String, String>, GitError>;

    /// The tip that this daemon published last, or was about to.
    ///
    /// # Errors
    /// The mirror fails.
    fn own_tip(&self) -> Result<Option<String>, GitError>;

    /// Keeps a tip, which may be published now.
    ///
    /// # Errors
    /// The mirror fails.
    fn set_own_tip(&self, tip: &str) -> Result<(), GitError>;

    /// Reads blobs, each given as an object id or as `COMMIT:PATH`. `None` for what is missing, no blob, or longer than
    /// `most` bytes.
    ///
    /// # Errors
    /// The mirror fails.
    fn blobs(&self, names: &[String], most: usize) -> Result<Vec<Option<Vec<u8>>>, GitError>;

    /// Stores a blob. Returns its id.
    ///
    /// # Errors
    /// The mirror fails.
    fn write_blob(&self, bytes: &[u8]) -> Result<String, GitError>;

    /// Stores a commit with a flat tree of blobs, given as name and id. Returns its id. The same files and parents give
    /// the same id.
    ///
    /// # Errors
    /// The mirror fails.
    fn write_commit(&self, files: &[(&str, &str)], parents: &[String]) -> Result<String, GitError>;

    /// Publishes a tip as that of the daemon `id`. `before` is the tip that the remote has, as of the last fetch.
    ///
    /// # Errors
    /// The remote cannot be reached, or refuses. After a time-out the ref may be set all the same, as the next fetch
    /// shows.
    fn push(&self, id: &str, tip: &str, before: Option<&str>) -> Result<Pushed, GitError>;

    /// Removes the objects that no tip needs any more, once there are many. Returns the bytes that are kept.
    ///
    /// # Errors
    /// The mirror fails.
    fn collect_garbage(&self) -> Result<u64, GitError>;
}

/// What a push did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The ref is set.
    Set,
    /// Somebody else changed the ref after it was fetched.
    LostLease,
}
