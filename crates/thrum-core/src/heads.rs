//! Heads: what a daemon holds of every origin's log. Two daemons that compare them know what is missing, on any route.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// A sum of SHA-256 hashes modulo 2^256: the same for the same set in any order. Against faults, not attackers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Sum([u8; 32]);

impl Sum {
    /// The sum of one text.
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Adds another sum.
    pub fn add(&mut self, other: Self) {
        let mut carry = 0u16;
        for (byte, more) in self.0.iter_mut().zip(other.0) {
            let total = u16::from(*byte) + u16::from(more) + carry;
            *byte = total.to_le_bytes()[0];
            carry = total >> 8;
        }
    }

    /// Takes away a sum that was added.
    pub fn subtract(&mut self, other: Self) {
        let mut borrow = 0i16;
        for (byte, less) in self.0.iter_mut().zip(other.0) {
            let left = i16::from(*byte) - i16::from(less) - borrow;
            borrow = i16::from(left < 0);
            *byte = left.rem_euclid(256).to_le_bytes()[0];
        }
    }

    /// Whether it is the sum of nothing.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// As stored: 32 bytes, least significant first.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// From what [`to_bytes`](Self::to_bytes) gave.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("not 64 hex digits"))
    }
}

/// What was taken of one log of one origin, and how much of that a purge has taken away again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `origin_daemon`; opaque if foreign.
    pub origin: String,
    /// `origin_log`; empty for events that name none, as Go's.
    #[serde(default)]
    pub log: String,
    /// Events taken, purged ones included.
    pub count: u64,
    /// Highest `origin_seq` taken; 0 where there is none.
    #[serde(default)]
    pub highest: u64,
    /// Sum over the canonical forms of all that were taken.
    pub sum: Sum,
    /// Events of these that were purged. An event that a purge kept from being taken at all is not counted anywhere.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub purged: u64,
    /// Sum over the canonical forms of the purged ones.
    #[serde(default, skip_serializing_if = "Sum::is_zero")]
    pub purged_sum: Sum,
}

/// `serde` asks by reference.
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Head {
    /// Events held now. What a peer counts is not trusted to add up.
    pub const fn held(&self) -> u64 {
        self.count.saturating_sub(self.purged)
    }

    /// Whether nothing is missing on either side: both hold the same now, or took the same, of which a purge that reached
    /// only one of them has taken some away.
    fn lacks_nothing_of(&self, there: &Self) -> bool {
        let plus = |one: Sum, other: Sum| {
            let mut both = one;
            both.add(other);
            both
        };
        let taken = self.count == there.count && self.sum == there.sum;
        let held = self.held() == there.held() && plus(self.sum, there.purged_sum) == plus(there.sum, self.purged_sum);
        taken || held
    }
}

/// All heads of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads(BTreeMap<(String, String), Head>);

/// One log of which two daemons hold different sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Whose events.
    pub origin: String,
    /// Of which of its logs.
    pub log: String,
    /// Events held here.
    pub here: u64,
    /// Events held there.
    pub there: u64,
    /// Events held here before a purge took them away.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub purged_here: u64,
    /// The same there, as it says.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub purged_there: u64,
}

impl Heads {
    /// The head of one log.
    pub fn get(&self, origin: &str, log: &str) -> Option<&Head> {
        self.0.get(&(origin.to_owned(), log.to_owned()))
    }

    /// Puts a head in, in place of the one of the same log.
    pub fn insert(&mut self, head: Head) {
        self.0.insert((head.origin.clone(), head.log.clone()), head);
    }

    /// All heads, by origin and log.
    pub fn iter(&self) -> impl Iterator<Item = &Head> {
        self.0.values()
    }

    /// How many logs of how many origins there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Events held in all.
    pub fn total(&self) -> u64 {
        self.iter().fold(0, |total, head| total.saturating_add(head.held()))
    }

    /// Every log of which the two hold different sets.
    pub fn differences(&self, there: &Self) -> Vec<Difference> {
        let keys: std::collections::BTreeSet<_> = self.0.keys().chain(there.0.keys()).collect();
        keys.into_iter()
            .filter_map(|key| {
                let none = Head::default();
                let (ours, theirs) = (self.0.get(key).unwrap_or(&none), there.0.get(key).unwrap_or(&none));
                (!ours.lacks_nothing_of(theirs)).then(|| Difference {
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
    fn a_sum_is_the_same_in_any_order_and_carries() {
        let parts = [Sum::of(b"a"), Sum::of(b"b"), Sum::from_bytes([0xff; 32])];
        let total = |order: [usize; 3]| {
            let mut sum = Sum::default();
            order.into_iter().for_each(|n| sum.add(parts[n]));
            sum
        };
        assert_eq!(total([0, 1, 2]), total([2, 0, 1]));
        let mut one = [0; 32];
        one[0] = 1;
        let mut wrapped = parts[2];
        wrapped.add(Sum::from_bytes(one));
        assert_eq!(wrapped, Sum::default(), "all ones and one is zero again");
    }

    #[test]
    fn heads_say_what_is_missing_by_origin() {
        let head = |origin: &str, count, text: &[u8]| Head {
            origin: origin.into(),
            log: "l".into(),
            count,
            highest: count,
            sum: Sum::of(text),
            ..Head::default()
        };
        let here: Heads = [head("a", 3, b"abc"), head("b", 1, b"x")].into_iter().collect();
        let there: Heads = [head("a", 3, b"abc"), head("b", 1, b"y"), head("c", 2, b"z")].into_iter().collect();
        let found: Vec<_> = here.differences(&there).into_iter().map(|d| (d.origin, d.here, d.there)).collect();
        assert_eq!(found, [("b".to_owned(), 1, 1), ("c".to_owned(), 0, 2)]);
        let copied: Heads = serde_json::from_str(&serde_json::to_string(&here).expect("json")).expect("heads");
        assert_eq!(copied, here);
    }

    /// `taken` in all, of which `purged` are gone.
    fn head(taken: &[&str], purged: &[&str]) -> Heads {
        let sum = |texts: &[&str]| {
            let mut sum = Sum::default();
            texts.iter().for_each(|text| sum.add(Sum::of(text.as_bytes())));
            sum
        };
        let (count, gone) = (taken.len() as u64, purged.len() as u64);
        let head = Head { origin: "a".into(), log: "l".into(), count, highest: 9, sum: sum(taken), purged: gone, purged_sum: sum(purged) };
        std::iter::once(head).collect()
    }

    #[test]
    fn what_one_side_purged_is_missing_on_neither() {
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
        let told: Heads = serde_json::from_str(&serde_json::to_string(&purged).expect("json")).expect("heads");
        assert_eq!(told, purged);
    }

    #[test]
    fn a_peer_that_claims_to_have_purged_more_than_it_took_breaks_nothing() {
        let claim = |origin: &str, count, purged| Head { origin: origin.into(), count, purged, ..Head::default() };
        let absurd: Heads = [claim("a", 1, u64::MAX), claim("b", u64::MAX, 0), claim("c", u64::MAX, 0)].into_iter().collect();
        assert_eq!(absurd.total(), u64::MAX);
        assert_eq!(head(&["1"], &[]).differences(&absurd).len(), 3);
    }
}
