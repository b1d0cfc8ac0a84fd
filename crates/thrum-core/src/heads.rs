//! The version vector ([`Heads`]): what a daemon holds of every log of every origin. Two daemons that compare their
//! version vectors know in which logs events are missing, whatever route the events took.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// The digest of a set of events: the sum of SHA-256 hashes modulo 2^256, independent of the order. Protects against
/// faults, not against attackers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SetDigest([u8; 32]);

impl SetDigest {
    /// The digest of the set that contains only this text.
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Adds the digest of another set. The result is the digest of both sets together, if they have no element in
    /// common.
    pub fn add(&mut self, other: Self) {
        let mut carry = 0u16;
        for (byte, more) in self.0.iter_mut().zip(other.0) {
            let total = u16::from(*byte) + u16::from(more) + carry;
            *byte = total.to_le_bytes()[0];
            carry = total >> 8;
        }
    }

    /// Subtracts a digest that was added before.
    pub fn subtract(&mut self, other: Self) {
        let mut borrow = 0i16;
        for (byte, less) in self.0.iter_mut().zip(other.0) {
            let left = i16::from(*byte) - i16::from(less) - borrow;
            borrow = i16::from(left < 0);
            *byte = left.rem_euclid(256).to_le_bytes()[0];
        }
    }

    /// Returns `true` if this is the digest of the empty set.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// The stored form: 32 bytes, least significant first.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Restores a digest from the bytes returned by [`to_bytes`](Self::to_bytes).
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SetDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SetDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("not 64 hex digits"))
    }
}

/// Summary of one log of one origin in a daemon's database: the events that were ever stored, and those of them that
/// were purged since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `origin_daemon`; opaque if foreign.
    pub origin: String,
    /// `origin_log`; empty for events that name none, such as Go Thrum's.
    #[serde(default)]
    pub log: String,
    /// Number of events stored, including those purged since.
    pub count: u64,
    /// Highest `origin_seq` stored; 0 if the events have none.
    #[serde(default)]
    pub highest: u64,
    /// Digest over the canonical forms of all events that were stored.
    pub sum: SetDigest,
    /// Number of stored events that were purged since. An event that was never stored, because an earlier purge covers
    /// it, is not counted anywhere.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub purged: u64,
    /// Digest over the canonical forms of the purged events.
    #[serde(default, skip_serializing_if = "SetDigest::is_zero")]
    pub purged_sum: SetDigest,
}

/// Returns `true` for 0. `serde` requires the reference.
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Head {
    /// Number of events held now. Saturates, because a peer's counts may be inconsistent.
    pub const fn held(&self) -> u64 {
        self.count.saturating_sub(self.purged)
    }

    /// Returns `true` if neither side is missing an event. Either both hold the same events now, or both stored the
    /// same events and each may have purged some of them since.
    fn has_same_events(&self, there: &Self) -> bool {
        let plus = |one: SetDigest, other: SetDigest| {
            let mut both = one;
            both.add(other);
            both
        };
        let taken = self.count == there.count && self.sum == there.sum;
        let held = self.held() == there.held() && plus(self.sum, there.purged_sum) == plus(there.sum, self.purged_sum);
        taken || held
    }
}

/// All heads of a daemon, one per origin and log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads(BTreeMap<(String, String), Head>);

/// One log in which at least one of two daemons is missing events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The origin of the events.
    pub origin: String,
    /// The log of that origin.
    pub log: String,
    /// Number of events held here.
    pub here: u64,
    /// Number of events held there.
    pub there: u64,
    /// Number of events purged here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub purged_here: u64,
    /// Number of events purged there, as reported by the peer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub purged_there: u64,
}

impl Heads {
    /// The head of one log; `None` if no event of this log was ever stored.
    pub fn get(&self, origin: &str, log: &str) -> Option<&Head> {
        self.0.get(&(origin.to_owned(), log.to_owned()))
    }

    /// Inserts a head, replacing one of the same log.
    pub fn insert(&mut self, head: Head) {
        self.0.insert((head.origin.clone(), head.log.clone()), head);
    }

    /// All heads, ordered by origin and log.
    pub fn iter(&self) -> impl Iterator<Item = &Head> {
        self.0.values()
    }

    /// Number of logs, over all origins.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there is no head.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Total number of events held now.
    pub fn total(&self) -> u64 {
        self.iter().fold(0, |total, head| total.saturating_add(head.held()))
    }

    /// Lists every log in which at least one of the two daemons is missing events. An event that both stored and only
    /// one of them has purged since is missing on neither.
    pub fn differences(&self, there: &Self) -> Vec<Difference> {
        let keys: std::collections::BTreeSet<_> = self.0.keys().chain(there.0.keys()).collect();
        keys.into_iter()
            .filter_map(|key| {
                let none = Head::default();
                let (ours, theirs) = (self.0.get(key).unwrap_or(&none), there.0.get(key).unwrap_or(&none));
                (!ours.has_same_events(theirs)).then(|| Difference {
                    origin: key.0.clone(),
                    log: key.1.clone(),
                    here: ours.held(),
                    there: theirs.held(),
                    purged_here: ours.purged,
                    purged_there: theirs.purged,
                })
            })
            .collect()
    }
}

impl FromIterator<Head> for Heads {
    fn from_iter<I: IntoIterator<Item = Head>>(heads: I) -> Self {
        let mut all = Self::default();
        heads.into_iter().for_each(|head| all.insert(head));
        all
    }
}

impl Serialize for Heads {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Heads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Head>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_does_not_depend_on_the_order_and_carries_over() {
        let parts = [SetDigest::of(b"a"), SetDigest::of(b"b"), SetDigest::from_bytes([0xff; 32])];
        let total = |order: [usize; 3]| {
            let mut sum = SetDigest::default();
            order.into_iter().for_each(|n| sum.add(parts[n]));
            sum
        };
        assert_eq!(total([0, 1, 2]), total([2, 0, 1]));
        let mut one = [0; 32];
        one[0] = 1;
        let mut wrapped = parts[2];
        wrapped.add(SetDigest::from_bytes(one));
        assert_eq!(wrapped, SetDigest::default(), "all ones and one is zero again");
    }

    #[test]
    fn heads_show_differences_by_origin() {
        let head = |origin: &str, count, text: &[u8]| Head {
            origin: origin.into(),
            log: "l".into(),
            count,
            highest: count,
            sum: SetDigest::of(text),
            ..Head::default()
        };
        let here: Heads = [head("a", 3, b"abc"), head("b", 1, b"x")].into_iter().collect();
        let there: Heads = [head("a", 3, b"abc"), head("b", 1, b"y"), head("c", 2, b"z")].into_iter().collect();
        let found: Vec<_> = here.differences(&there).into_iter().map(|d| (d.origin, d.here, d.there)).collect();
        assert_eq!(found, [("b".to_owned(), 1, 1), ("c".to_owned(), 0, 2)]);
        let copied: Heads = serde_json::from_str(&serde_json::to_string(&here).expect("json")).expect("heads");
        assert_eq!(copied, here);
    }

    /// The heads of a daemon that stored the events `taken` in one log, and purged the events `purged` of them.
    fn head(taken: &[&str], purged: &[&str]) -> Heads {
        let sum = |texts: &[&str]| {
            let mut sum = SetDigest::default();
            texts.iter().for_each(|text| sum.add(SetDigest::of(text.as_bytes())));
            sum
        };
        let (count, gone) = (taken.len() as u64, purged.len() as u64);
        let head = Head {
            origin: "a".into(),
            log: "l".into(),
            count,
            highest: 9,
            sum: sum(taken),
            purged: gone,
            purged_sum: sum(purged),
        };
        std::iter::once(head).collect()
    }

    #[test]
    fn events_purged_on_one_side_are_missing_on_neither() {
        let whole = head(&["1", "2", "3"], &[]);
        let purged = head(&["1", "2", "3"], &["1", "2"]);
        let newcomer = head(&["3"], &[]);
        let one_more = head(&["1", "2", "3", "4"], &["1", "2"]);
        let nothing_left = head(&["1"], &["1"]);
        for (here, there, same) in [
            (&whole, &purged, true),
            (&purged, &newcomer, true),
            (&whole, &newcomer, false),
            (&purged, &one_more, false),
            (&whole, &one_more, false),
            (&nothing_left, &Heads::default(), true),
        ] {
            assert_eq!(here.differences(there).is_empty(), same, "{here:?} {there:?}");
            assert_eq!(there.differences(here).is_empty(), same, "{there:?} {here:?}");
        }
        assert_eq!(purged.total(), 1);
        let read: Heads = serde_json::from_str(&serde_json::to_string(&purged).expect("json")).expect("heads");
        assert_eq!(read, purged);
    }

    #[test]
    fn a_peer_may_claim_more_purged_than_stored_events() {
        let claim = |origin: &str, count, purged| Head { origin: origin.into(), count, purged, ..Head::default() };
        let absurd: Heads =
            [claim("a", 1, u64::MAX), claim("b", u64::MAX, 0), claim("c", u64::MAX, 0)].into_iter().collect();
        assert_eq!(absurd.total(), u64::MAX);
        assert_eq!(head(&["1"], &[]).differences(&absurd).len(), 3);
    }
}
