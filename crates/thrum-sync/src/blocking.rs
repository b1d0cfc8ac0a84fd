//! Runs blocking work outside the threads that serve connections.

use thrum_core::{Error, ErrorKind};

/// Runs work on the blocking pool, because the work may wait for the disk or for another program.
///
/// # Errors
/// Those of the work; `Failed` if it panics.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(ErrorKind::Failed, format!("an internal task failed: {error}"))),
    }
}
