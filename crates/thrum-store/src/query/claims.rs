//! Queries over the files that agents have claimed for themselves.

use thrum_core::{Timestamp, limits, path};

use super::agents::stamp;
use crate::{Reader, StoreError, arrival};

/// A file or directory that an agent has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Name of the agent that made the claim.
    pub agent_id: String,
    /// The agent's home.
    pub home: String,
    /// The path, relative to the top of the worktree.
    pub path: String,
    /// When the path was last claimed. If that time lay ahead of our clock when the claim arrived, about the time of
    /// arrival (`arrival.rs`).
    pub claimed_at: Timestamp,
    /// When the claim expires: the requested duration after `claimed_at`.
    pub until: Timestamp,
}

impl Claim {
    /// Returns `true` if this agent holds the claim.
    pub fn is_of(&self, agent_id: &str, home: &str) -> bool {
        self.agent_id == agent_id && self.home == home
    }
}

impl Reader<'_> {
    /// Returns the claims that hold at `now` and satisfy `wanted`, at most [`limits::MAX_LISTED_CLAIMS`], and whether
    /// there are more among the [`limits::MAX_CLAIMS_LOOKED_AT`] claims that are examined. Latest expiry first,
    /// according to the clock of each claim's home; [`Claim::until`] may be earlier.
    ///
    /// # Errors
    /// SQLite's.
    pub fn claims(&self, now: Timestamp, wanted: impl Fn(&Claim) -> bool) -> Result<(Vec<Claim>, bool), StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT c.agent_id, c.home, c.path, c.at, c.until FROM claims c WHERE c.until > ?1 AND c.until > c.at AND c.path <> ''
             AND NOT EXISTS (SELECT 1 FROM claims r WHERE r.agent_id = c.agent_id AND r.home = c.home AND r.path = ''
                 AND (r.at, r.event_id) > (c.at, c.event_id))
             ORDER BY c.until DESC LIMIT ?2",
        )?;
        let mut rows = statement.query((now.nanos(), limits::MAX_CLAIMS_LOOKED_AT))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (at, until) = (stamp(row.get(3)?), stamp(row.get(4)?));
            let mut claim =
                Claim { agent_id: row.get(0)?, home: row.get(1)?, path: row.get(2)?, claimed_at: at, until };
            if !wanted(&claim) {
                continue;
            }
            // If the home's clock is ahead, the requested duration counts from about the arrival.
            claim.claimed_at = arrival::shown_of(self.conn, &claim.home, at)?;
            claim.until = claim.claimed_at.plus(until.since(at));
            if claim.until <= now {
                continue;
            }
            if found.len() == limits::MAX_LISTED_CLAIMS {
                return Ok((found, true));
            }
            found.push(claim);
        }
        Ok((found, false))
    }

    /// Returns the claims that overlap one of the paths, except those of this agent of this daemon.
    ///
    /// # Errors
    /// SQLite's.
    pub fn claims_of_others(&self, now: Timestamp, agent_id: &str, paths: &[String]) -> Result<Vec<Claim>, StoreError> {
        let of_others = |claim: &Claim| {
            !claim.is_of(agent_id, self.home) && paths.iter().any(|wanted| path::overlap(wanted, &claim.path))
        };
        Ok(self.claims(now, of_others)?.0)
    }
}
