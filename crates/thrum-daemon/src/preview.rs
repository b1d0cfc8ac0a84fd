//! Previews an import into a repository whose daemon does not run, without starting the daemon or changing any file of
//! the repository.

use std::path::Path;

use serde_json::Value;
use thrum_core::{Error, ErrorKind};
use thrum_store::LogCopy;

use crate::{
    paths::Repo,
    rpc::{envelope::Params, methods::import},
};

/// A repository whose daemon does not run, and a copy of its log.
pub struct Preview {
    repo: Repo,
    log: LogCopy,
}

impl Preview {
    /// Copies the log of `repo` into `scratch`, a private directory.
    ///
    /// # Errors
    /// The database cannot be read; file system errors.
    pub fn of(repo: &Repo, scratch: &Path) -> Result<Self, Error> {
        Ok(Self { repo: repo.clone(), log: LogCopy::of(&repo.database(), scratch)? })
    }

    /// Returns the answer that a running daemon would give to a dry run of `import.events` or `import.peers`.
    ///
    /// # Errors
    /// Those of the method; `not_found` for another method.
    pub fn call(&self, method: &str, params: &Value) -> Result<Value, Error> {
        let params = Params::of_value(params)?;
        let shown = match method {
            "import.events" => serde_json::to_value(import::preview_events(&self.log, params.read()?)?),
            "import.peers" => serde_json::to_value(import::preview_peers(&self.repo, params.read()?)?),
            _ => return Err(Error::new(ErrorKind::NotFound, format!("there is no preview of {method}"))),
        };
        shown.map_err(|error| Error::new(ErrorKind::Failed, format!("the preview has no JSON form: {error}")))
    }
}
