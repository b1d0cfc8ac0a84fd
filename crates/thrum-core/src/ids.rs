//! Ids: ULIDs with the prefixes of Go Thrum, monotonic within a process.

use ulid::Ulid;

use crate::{Ambient, Stamp};

/// What an id names; decides its prefix.
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

/// Makes ids that sort in the order they were made, also when the clock stands still or goes back.
#[derive(Debug, Default)]
pub struct IdSource {
    last: Option<Ulid>,
}

impl IdSource {
    /// A new id of `kind`.
    pub fn next(&mut self, kind: IdKind, ambient: &mut dyn Ambient) -> String {
        let now = ambient.now().millis();
        // 79 of the 80 random bits: the free one leaves room for counting up from any start.
        let mut fresh = || Ulid::from_parts(now, ambient.random_u128() & (u128::MAX >> 49));
        let id = match self.last {
            Some(last) if now <= last.timestamp_ms() => last.increment().unwrap_or_else(|_| fresh()),
            _ => fresh(),
        };
        self.last = Some(id);
        format!("{}{}", kind.prefix(), id.to_string())
    }
}

/// The time inside an id such as `evt_01M83E0S5FJJYA5B1VP5F76S9R`. `None` if it holds no ULID, or one after 2262.
pub fn ulid_time(id: &str) -> Option<Stamp> {
    let (_, text) = id.split_once('_')?;
    let ulid = Ulid::from_string(text).ok()?;
    Stamp::from_millis(ulid.timestamp_ms())
}

/// The thread that begins with this message: every daemon that sees the first reply gives it the same one.
pub fn thread_of(message_id: &str) -> String {
    format!("thr_{}", message_id.strip_prefix("msg_").unwrap_or(message_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Frozen(i64);

    impl Ambient for Frozen {
        fn now(&mut self) -> Stamp {
            Stamp::from_nanos(self.0)
        }
        fn fill(&mut self, buffer: &mut [u8]) {
            buffer.fill(0xff);
        }
    }

    #[test]
    fn ids_sort_in_the_order_they_were_made_even_when_the_clock_goes_back() {
        let mut source = IdSource::default();
        let mut clock = Frozen(1_774_717_513_941_000_000);
        let mut made = vec![source.next(IdKind::Event, &mut clock)];
        clock.0 -= 60_000_000_000;
        for _ in 0..100 {
            made.push(source.next(IdKind::Event, &mut clock));
        }
        assert!(made.is_sorted());
        made.dedup();
        assert_eq!(made.len(), 101);
        assert!(made.iter().all(|id| id.len() == 30 && id.starts_with("evt_")));
    }

    #[test]
    fn the_time_of_an_id_is_its_ulids() {
        assert_eq!(ulid_time("evt_01M83E0S5FJJYA5B1VP5F76S9R").map(Stamp::millis), Some(1_795_411_698_863));
        assert_eq!(ulid_time("evt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), None, "the year 10889");
        assert_eq!(ulid_time("evt_nonsense"), None);
        assert_eq!(ulid_time("nonsense"), None);
    }
}
