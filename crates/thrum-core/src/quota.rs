//! Quotas: how much data received from one peer is kept before the peer is read no further.
//!
//! A quota counts all data received *from* a peer, including events of other daemons that the peer relayed: the user
//! can act on it by removing the peer. A quota never drops single events: which ones arrived first depends on order and
//! route, and daemons that dropped different ones would differ for ever (I6). Instead the daemon stops reading from
//! that peer between two batches. Nothing is lost: the checkpoint stays where it is, and reading continues from there
//! once the quota is raised or data of the peer is gone.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;

/// A quantity that a quota limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Bytes of events received from the peer.
    Bytes,
    /// Agents whose latest registration was received from the peer.
    Agents,
    /// Origins: daemons whose events were received from the peer.
    Origins,
    /// Parked events received from the peer.
    Parked,
}

crate::list_variants!(pub Measure: Bytes, Agents, Origins, Parked);

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Agents => "agents",
            Self::Origins => "daemons",
            Self::Parked => "parked events",
        })
    }
}

/// One number per measure: either how much of a peer's data is stored, or how much may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amounts {
    /// See [`Measure::Bytes`].
    pub bytes: u64,
    /// See [`Measure::Agents`].
    pub agents: u64,
    /// See [`Measure::Origins`].
    pub origins: u64,
    /// See [`Measure::Parked`].
    pub parked: u64,
}

impl Amounts {
    /// The default quota of a peer.
    pub const QUOTA: Self = Self {
        bytes: limits::MAX_PEER_BYTES,
        agents: limits::MAX_PEER_AGENTS,
        origins: limits::MAX_PEER_ORIGINS,
        parked: limits::MAX_PEER_PARKED,
    };

    /// Nothing of anything.
    pub const NONE: Self = Self { bytes: 0, agents: 0, origins: 0, parked: 0 };

    /// Returns the sum of two amounts.
    #[must_use]
    pub const fn plus(&self, more: &Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(more.bytes),
            agents: self.agents.saturating_add(more.agents),
            origins: self.origins.saturating_add(more.origins),
            parked: self.parked.saturating_add(more.parked),
        }
    }

    /// Returns the amount of one measure.
    pub const fn of(&self, measure: Measure) -> u64 {
        match measure {
            Measure::Bytes => self.bytes,
            Measure::Agents => self.agents,
            Measure::Origins => self.origins,
            Measure::Parked => self.parked,
        }
    }

    /// Returns the first measure in which these amounts exceed a quota; `None` if none does.
    pub fn beyond(&self, quota: &Self) -> Option<OverQuota> {
        let over = |measure: &Measure| self.of(*measure) > quota.of(*measure);
        let measure = Measure::ALL.into_iter().find(over)?;
        Some(OverQuota { measure, kept: self.of(measure), allowed: quota.of(measure) })
    }
}

/// The reason why a peer is read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverQuota {
    /// The measure that exceeds its quota.
    pub measure: Measure,
    /// How much of the peer's data is stored, in this measure.
    pub kept: u64,
    /// How much may be stored, in this measure.
    pub allowed: u64,
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measure, kept, allowed } = self;
        write!(f, "over quota: {kept} {measure} of it are kept here, {allowed} are allowed; it is read no further")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_exceeded_only_above_its_value_and_names_the_first_measure() {
        let quota = Amounts { bytes: 10, agents: 2, origins: 3, parked: 4 };
        assert_eq!(quota.beyond(&quota), None);
        let over = |amounts: Amounts| amounts.beyond(&quota).map(|over| (over.measure, over.kept, over.allowed));
        assert_eq!(over(Amounts { bytes: 11, parked: 9, ..quota }), Some((Measure::Bytes, 11, 10)));
        assert_eq!(over(Amounts { agents: 3, ..quota }), Some((Measure::Agents, 3, 2)));
        assert_eq!(over(Amounts { origins: 4, ..quota }), Some((Measure::Origins, 4, 3)));
        assert_eq!(over(Amounts { parked: 5, ..quota }), Some((Measure::Parked, 5, 4)));
    }
}
