//! Ids: ULIDs with the prefixes of Go Thrum, monotonic within a process.
//!
//! An id made here is bound to the daemon that makes it. Of the 80 bits that a ULID leaves to chance, 16 are a counter
//! and 64 are a hash over the daemon's id, the rest of the ULID and the prefix. Every daemon that sees the id can thus
//! verify which daemon made it ([`is_made_by`]), and no other daemon can pose as the maker: it would need a key with
//! the same hash, and would have to try some 2^64 keys to find one. To Go Thrum, such an id is an ordinary ULID.

use sha2::{Digest, Sha256};
use ulid::Ulid;

use crate::{Ambient, DaemonId, Timestamp, key};

/// The kind of thing that an id names; determines the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// `evt_…`
    Event,
    /// `msg_…`
    Message,
    /// `ses_…`
    Session,
}

impl IdKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Event => "evt_",
            Self::Message => "msg_",
            Self::Session => "ses_",
        }
    }
}

/// A source of ids that sort in the order in which they were made, even if the clock stops or goes back.
#[derive(Debug, Default)]
pub struct IdSource {
    last: Option<Ulid>,
    maker: Option<DaemonId>,
}

/// Number of counter bits in a bound id.
const COUNTING: u32 = 16;

impl IdSource {
    /// A source of ids that are bound to this daemon. A `default` source makes unbound ids, like those of Go Thrum.
    pub fn bound_to(maker: DaemonId) -> Self {
        Self { last: None, maker: Some(maker) }
    }

    /// Starts after the millisecond of this instant, up to which an earlier run may have made ids. If the clock has
    /// stopped or lags, only this keeps the ids of the two runs distinct.
    #[must_use]
    pub fn after(mut self, instant: Timestamp) -> Self {
        self.last = Some(Ulid::from_parts(instant.millis(), u128::MAX >> 48));
        self
    }

    /// Continues from the clock instead of from the last id. The caller must ensure that no id is made twice.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// Makes a new id of `kind`.
    pub fn next(&mut self, kind: IdKind, ambient: &mut dyn Ambient) -> String {
        let now = ambient.now().millis();
        let id = match &self.maker {
            Some(maker) => {
                // The counter starts in the lower half of its range, to leave room to count up from any start.
                let mut fresh = |time| (time, ambient.random_u128() & ((1 << (COUNTING - 1)) - 1));
                let (time, count) = match self.last {
                    Some(last) if now <= last.timestamp_ms() => match (last.random() >> u64::BITS) + 1 {
                        count if count < 1 << COUNTING => (last.timestamp_ms(), count),
                        _ => fresh(last.timestamp_ms() + 1),
                    },
                    _ => fresh(now),
                };
                let counted = Ulid::from_parts(time, count << u64::BITS);
                Ulid::from_parts(time, counted.random() | u128::from(tag(maker.as_str(), kind.prefix(), counted)))
            }
            None => {
                // Uses 79 of the 80 random bits: the free one leaves room to count up from any start.
                let mut fresh = || Ulid::from_parts(now, ambient.random_u128() & (u128::MAX >> 49));
                match self.last {
                    Some(last) if now <= last.timestamp_ms() => last.increment().unwrap_or_else(|_| fresh()),
                    _ => fresh(),
                }
            }
        };
        self.last = Some(id);
        format!("{}{}", kind.prefix(), id.to_string())
    }
}

/// The hash that binds an id to its maker. Covers the maker, the prefix, and the time and the counter of the ULID.
fn tag(maker: &str, prefix: &str, id: Ulid) -> u64 {
    let counted = (id.0 >> u64::BITS) as u64;
    let hash = Sha256::new()
        .chain_update(b"thrum-id-1\n")
        .chain_update(maker)
        .chain_update(b"\n")
        .chain_update(prefix)
        .chain_update(counted.to_be_bytes())
        .finalize();
    hash.iter().take(8).fold(0, |tag, byte| tag << 8 | u64::from(*byte))
}

/// Returns `true` if the daemon `origin` has made this id. `false` for an origin that does not sign, and for unbound
/// ids: those of Go Thrum, and those made here before ids were bound.
pub fn is_made_by(id: &str, origin: &str) -> bool {
    let Some((prefix, text)) = id.find('_').map(|at| id.split_at(at + 1)) else { return false };
    let Ok(ulid) = Ulid::from_string(text) else { return false };
    // Other spellings of the same ULID are different ids.
    key::is_signed_origin(origin)
        && ulid.to_string() == text
        && ulid.0 & u128::from(u64::MAX) == u128::from(tag(origin, prefix, ulid))
}

/// The time encoded in an id such as `evt_01M83E0S5FJJYA5B1VP5F76S9R`. `None` if the id contains no ULID, or one with a
/// time after 2262.
pub fn ulid_time(id: &str) -> Option<Timestamp> {
    let (_, text) = id.split_once('_')?;
    let ulid = Ulid::from_string(text).ok()?;
    Timestamp::from_millis(ulid.timestamp_ms())
}

/// The id of the thread that starts with this message. Derived from the message id, so that the first replies to a
/// message start the same thread on all daemons.
pub fn thread_of(message_id: &str) -> String {
    format!("thr_{}", message_id.strip_prefix("msg_").unwrap_or(message_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Frozen(i64);

    impl Ambient for Frozen {
        fn now(&mut self) -> Timestamp {
            Timestamp::from_nanos(self.0)
        }
        fn fill(&mut self, buffer: &mut [u8]) {
            buffer.fill(0xff);
        }
    }

    fn daemon(seed: i64) -> DaemonId {
        struct Seed(u8);
        impl Ambient for Seed {
            fn now(&mut self) -> Timestamp {
                Timestamp::ZERO
            }
            fn fill(&mut self, buffer: &mut [u8]) {
                buffer.fill(self.0);
            }
        }
        crate::DaemonKey::generate(&mut Seed(u8::try_from(seed).expect("small"))).id()
    }

    #[test]
    fn ids_sort_in_order_of_creation_even_if_the_clock_is_set_back() {
        for mut source in [IdSource::default(), IdSource::bound_to(daemon(1))] {
            let mut clock = Frozen(1_774_717_513_941_000_000);
            let mut made = vec![source.next(IdKind::Event, &mut clock)];
            clock.0 -= 60_000_000_000;
            // More ids than a millisecond has room for.
            for _ in 0..70_000 {
                made.push(source.next(IdKind::Event, &mut clock));
            }
            assert!(made.is_sorted());
            made.dedup();
            assert_eq!(made.len(), 70_001);
            assert!(made.iter().all(|id| id.len() == 30 && id.starts_with("evt_")));
        }
    }

    /// Events under another id (C21 in docs/security.md): no other daemon can pose as the maker of an id, or bind
    /// another id to its maker.
    #[test]
    fn an_id_is_bound_to_its_maker_only() {
        let (maker, other) = (daemon(1), daemon(2));
        let mut source = IdSource::bound_to(maker.clone());
        let mut clock = Frozen(1_774_717_513_941_000_000);
        let unbound = IdSource::default().next(IdKind::Message, &mut clock);
        for _ in 0..100 {
            let id = source.next(IdKind::Message, &mut clock);
            assert!(is_made_by(&id, maker.as_str()), "{id}");
            assert!(!is_made_by(&id, other.as_str()) && !is_made_by(&id, "d_go") && !is_made_by(&id, ""));
            assert!(!is_made_by(&id.replace("msg_", "ses_"), maker.as_str()), "as a session's");
            assert!(!is_made_by(&id.to_lowercase(), maker.as_str()), "in another spelling");
            // Every character except the first, which encodes too few bits to be changed.
            for at in 5..id.len() {
                let mut changed = id.clone().into_bytes();
                changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
                let changed = String::from_utf8(changed).expect("ascii");
                assert!(!is_made_by(&changed, maker.as_str()), "{changed}");
            }
        }
        for id in [unbound.as_str(), "", "_", "msg_", "msg_x", "nonsense", "msg_01M83E0S5FJJYA5B1VP5F76S9R"] {
            assert!(!is_made_by(id, maker.as_str()), "{id}");
        }
    }

    #[test]
    fn the_time_of_an_id_is_that_of_its_ulid() {
        assert_eq!(ulid_time("evt_01M83E0S5FJJYA5B1VP5F76S9R").map(Timestamp::millis), Some(1_795_411_698_863));
        assert_eq!(ulid_time("evt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), None, "the year 10889");
        assert_eq!(ulid_time("evt_nonsense"), None);
        assert_eq!(ulid_time("nonsense"), None);
    }
}
