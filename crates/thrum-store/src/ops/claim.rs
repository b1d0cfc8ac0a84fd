//! Claims files and releases them.

use std::{collections::BTreeSet, time::Duration};

use thrum_core::{
    Error, ErrorKind, Payload, Timestamp, limits, path,
    payload::{FileClaim, FileRelease},
};

use super::resident;
use crate::{StoreError, Tx, query::Claim};

/// The result of a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The agent's current claims of the requested paths.
    pub claims: Vec<Claim>,
    /// Overlapping claims of other agents. They do not prevent the claim.
    pub others: Vec<Claim>,
}

/// The paths in normal form, without duplicates.
fn normal(paths: &[String]) -> Result<Vec<String>, StoreError> {
    let paths: BTreeSet<String> = paths.iter().map(|given| path::normal(given)).collect::<Result<_, _>>()?;
    if paths.len() > limits::MAX_CLAIM_PATHS {
        let why = format!("{} paths; at most {} at a time", paths.len(), limits::MAX_CLAIM_PATHS);
        return Err(Error::new(ErrorKind::Invalid, why).hint("Claim the directory that they are in.").into());
    }
    Ok(paths.into_iter().collect())
}

impl Tx<'_> {
    /// Claims paths for an agent of this daemon, or extends or shortens its existing claims. Peers are notified at
    /// once.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Refused`], as for [`resident`]; [`ErrorKind::Refused`] for more than
    /// [`limits::MAX_CLAIMS`] claims of the agent; [`ErrorKind::Invalid`] for paths or a time out of bounds.
    pub fn claim(&mut self, agent_id: &str, paths: &[String], within: Duration) -> Result<Claimed, StoreError> {
        resident(&self.reader(), agent_id)?;
        let paths = normal(paths)?;
        if paths.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "no path to claim").into());
        }
        if within.is_zero() || within > limits::MAX_CLAIM {
            let why =
                format!("a claim lasts more than no time, and up to {} hours", limits::MAX_CLAIM.as_secs() / 3600);
            return Err(Error::new(ErrorKind::Invalid, why)
                .hint("`thrum release` ends one; claimed again, it lasts anew.")
                .into());
        }
        let now = self.now();
        let home = self.home().to_owned();
        let (held, more) = self.reader().claims(now, |claim| claim.is_of(agent_id, &home))?;
        let added = paths.iter().filter(|path| !held.iter().any(|claim| claim.path == **path)).count();
        if more || held.len() + added > limits::MAX_CLAIMS {
            let why = format!("an agent claims up to {} paths at a time", limits::MAX_CLAIMS);
            return Err(Error::new(ErrorKind::Refused, why).hint("Claim a directory, or thrum release some.").into());
        }
        let others = self.reader().claims_of_others(now, agent_id, &paths)?;
        let after = self.last_of_claims(agent_id)?;
        let payload =
            FileClaim { agent_id: agent_id.to_owned(), paths: paths.clone(), expires_at: now.plus(within).to_string() };
        self.append_over(Payload::FileClaim(payload), after)?;
        let now = self.now();
        let claims = self.reader().claims(now, |claim| claim.is_of(agent_id, &home) && paths.contains(&claim.path))?.0;
        Ok(Claimed { claims, others })
    }

    /// Releases the claims of an agent of this daemon on these paths and within them, or all its claims if no path is
    /// given. Returns the released paths.
    ///
    /// # Errors
    /// Those of [`resident`]; [`ErrorKind::Invalid`] for paths out of bounds.
    pub fn release(&mut self, agent_id: &str, paths: &[String]) -> Result<Vec<String>, StoreError> {
        resident(&self.reader(), agent_id)?;
        let (paths, home, now) = (normal(paths)?, self.home().to_owned(), self.now());
        let meant = |claim: &Claim| paths.is_empty() || paths.iter().any(|wanted| path::is_within(&claim.path, wanted));
        let (held, _) = self.reader().claims(now, |claim| claim.is_of(agent_id, &home) && meant(claim))?;
        let mut held: Vec<String> = held.into_iter().map(|claim| claim.path).collect();
        held.sort();
        let after = self.last_of_claims(agent_id)?;
        let release = |paths: &[String]| {
            Payload::FileRelease(FileRelease { agent_id: agent_id.to_owned(), paths: paths.to_vec() })
        };
        if paths.is_empty() && !held.is_empty() {
            self.append_over(release(&[]), after)?;
        } else {
            for part in held.chunks(limits::MAX_CLAIM_PATHS) {
                self.append_over(release(part), after)?;
            }
        }
        Ok(held)
    }

    /// The latest time of any event about an agent's claims, including the agent's deletion. The next event must be
    /// later to take precedence.
    fn last_of_claims(&self, agent_id: &str) -> Result<Option<Timestamp>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT max(at) FROM claims WHERE agent_id = ?1 AND home = ?2")?;
        let last: Option<i64> = statement.query_row((agent_id, self.home()), |row| row.get(0))?;
        Ok(last.map(Timestamp::from_nanos).max(self.reader().deleted_at(agent_id)?))
    }
}
