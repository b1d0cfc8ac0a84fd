//! Decides from where to read the log of a legacy peer, which shows N+1 before N and may be replaced at any time.
//!
//! Between two runs of pulls, the state machine remembers its recent positions, and when it reached each of them. A run
//! begins at one of two positions:
//!
//! * the *head*, the current position: usually, so that announced mail is not delayed;
//! * the *anchor*, the position [`LEGACY_LOOK_BACK`](limits::LEGACY_LOOK_BACK) ago: on every new connection, and at
//!   most every [`LEGACY_LOOK_GAP`](limits::LEGACY_LOOK_GAP) if the anchor lies below the head or a notify announced a
//!   sequence at or below the head. The reply must begin with the anchor's own event. If that event is missing or
//!   differs, the log was rebuilt and is read from its start. Events that are already here are skipped by their id.
//!
//! A run that was cut off with its connection continues where it stopped, and checks the event there. The anchor is
//! checked after the run has ended. Thus a log that takes longer to read than connections last is still read
//! completely.
//!
//! Two minutes after the last new event, anchor and head are the same, and each sync interval costs one empty pull.
//!
//! Only the anchor and its event are on disk, never a later head: after a restart within two minutes of the last new
//! event, what was read in the two minutes before that event is read again.

use std::{collections::VecDeque, time::Duration};

use thrum_core::{exchange::Checkpoint, limits};

use crate::protocol::wire::Served;

/// A position in the peer's log: an event, and since when we have been there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Position {
    sequence: u64,
    /// The event's `event_id`; empty if the event has none.
    event: String,
    /// When the position was reached; `None` if before this state machine was created.
    since: Option<Duration>,
}

impl Position {
    fn is_old(&self, now: Duration) -> bool {
        self.since.is_none_or(|since| since + limits::LEGACY_LOOK_BACK <= now)
    }
}

/// The consequence of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Store these events with this checkpoint, and then call [`Reading::stored`].
    Store(Checkpoint),
    /// All events are here.
    End,
    /// The log is not the one that we have read. Read it from its start.
    Rebuilt,
}

/// How far the log of a legacy peer has been read.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Previous positions, oldest first. The last one is the head.
    stood: VecDeque<Position>,
    /// The checkpoint on disk.
    kept: Checkpoint,
    /// Where the current run continues: the last event that it returned. `None` between runs.
    cursor: Option<Position>,
    /// Whether the next reply must show that the cursor's event is still there.
    cut_off: bool,
    /// The event with which the next reply must begin.
    must_show: Option<Position>,
    /// Whether the next run begins at the anchor even if that is also the head.
    doubt: bool,
    /// When a run last began at the anchor.
    looked: Option<Duration>,
    /// The anchor at the time of the last reply on the previous connection, for the first check on this one. Events
    /// that appeared late while disconnected have not been looked for yet.
    look_from: Option<Position>,
    /// When the peer last replied.
    heard: Duration,
}

impl Reading {
    /// Continues from a checkpoint, if it belongs to a log without an id.
    pub(crate) fn new(checkpoint: Option<&Checkpoint>) -> Self {
        let kept = checkpoint.filter(|kept| kept.log.is_empty()).cloned().unwrap_or_default();
        let known = Some(&kept).filter(|kept| kept.sequence > 0);
        let stood = known.map(|kept| Position { sequence: kept.sequence, event: kept.event.clone(), since: None });
        Self { stood: stood.into_iter().collect(), kept, ..Self::default() }
    }

    /// Returns the current position.
    pub(crate) fn head(&self) -> u64 {
        self.stood.back().map_or(0, |position| position.sequence)
    }

    /// Handles a new connection, which may lead to another log.
    pub(crate) fn met(&mut self) {
        (self.cut_off, self.must_show, self.looked, self.doubt) = (self.cursor.is_some(), None, None, true);
        self.look_from = Some(self.anchor(self.heard));
    }

    /// Handles an announcement. A sequence at or below the head appeared late, or belongs to another log.
    pub(crate) fn notified(&mut self, latest: u64) {
        self.doubt |= latest <= self.head();
    }

    /// Returns the sequence after which to request events.
    pub(crate) fn ask(&mut self, now: Duration) -> u64 {
        if let Some(cursor) = &self.cursor {
            self.must_show = self.cut_off.then(|| cursor.clone());
            return cursor.sequence.saturating_sub(u64::from(self.cut_off));
        }
        let anchor = self.look_from.clone().unwrap_or_else(|| self.anchor(now));
        let head = self.head();
        let may_look = self.looked.is_none_or(|looked| looked + limits::LEGACY_LOOK_GAP <= now);
        self.must_show = None;
        if !may_look || !(self.doubt || anchor.sequence < head) {
            return head;
        }
        (self.looked, self.doubt, self.look_from) = (Some(now), false, None);
        let before = anchor.sequence.saturating_sub(1);
        self.must_show = Some(anchor).filter(|anchor| anchor.sequence > 0);
        before
    }

    /// Handles an empty reply.
    pub(crate) fn nothing(&mut self, now: Duration) -> Read {
        self.heard = now;
        self.cursor = None;
        if self.must_show.take().is_some() {
            return self.rebuilt();
        }
        let anchor = self.anchor(now);
        if anchor.sequence == self.head()
            && anchor.sequence > 0
            && (anchor.sequence, &anchor.event) != (self.kept.sequence, &self.kept.event)
        {
            return Read::Store(checkpoint(anchor));
        }
        Read::End
    }

    /// Handles a reply with events.
    pub(crate) fn found(&mut self, events: &[Served], now: Duration) -> Read {
        self.heard = now;
        let shown = events.first().map(|event| (event.sequence, id(event)));
        if let Some(must) = self.must_show.take()
            && shown.is_none_or(|(sequence, id)| u64::try_from(sequence) != Ok(must.sequence) || id != must.event)
        {
            return self.rebuilt();
        }
        self.cut_off = false;
        Read::Store(checkpoint(self.anchor(now)))
    }

    /// Records that the events and this checkpoint are on disk. `last` is the last event that was read.
    pub(crate) fn stored(&mut self, kept: Checkpoint, last: Option<(u64, String)>, more: bool, now: Duration) {
        if kept.sequence > 0 {
            self.kept = kept;
        }
        self.cursor = last.clone().filter(|_| more).map(|(sequence, event)| Position { sequence, event, since: None });
        if let Some((sequence, event)) = last.filter(|(sequence, _)| *sequence > self.head()) {
            self.move_to(Position { sequence, event, since: Some(now) });
        }
    }

    fn rebuilt(&mut self) -> Read {
        self.stood.clear();
        (self.cursor, self.cut_off, self.must_show, self.look_from) = (None, false, None, None);
        Read::Rebuilt
    }

    /// Returns the position two minutes ago; the start if nothing had been read by then.
    fn anchor(&mut self, now: Duration) -> Position {
        while self.stood.get(1).is_some_and(|next| next.is_old(now)) {
            self.stood.pop_front();
        }
        self.stood.front().filter(|position| position.is_old(now)).cloned().unwrap_or_default()
    }

    /// Moves the head, possibly without keeping its previous position. The anchor may then lie further back than two
    /// minutes, but never closer.
    fn move_to(&mut self, position: Position) {
        let before =
            self.stood.len().checked_sub(2).and_then(|n| self.stood.get(n)).and_then(|position| position.since);
        let is_close =
            before.zip(position.since).is_some_and(|(before, now)| now < before + limits::LEGACY_POSITIONS_APART);
        if is_close || self.stood.len() >= limits::LEGACY_POSITIONS {
            self.stood.pop_back();
        }
        self.stood.push_back(position);
    }
}

fn id(event: &Served) -> &str {
    event.envelope[0].as_deref().unwrap_or_default()
}

/// Returns sequence and id of the last of these events up to a sequence; `None` if all are above it.
pub(crate) fn last_upto(events: &[Served], sequence: u64) -> Option<(u64, String)> {
    let numbered = events.iter().filter_map(|event| Some((u64::try_from(event.sequence).ok()?, event)));
    numbered.take_while(|(number, _)| *number <= sequence).last().map(|(number, event)| (number, id(event).to_owned()))
}

fn checkpoint(position: Position) -> Checkpoint {
    Checkpoint { log: String::new(), sequence: position.sequence, event: position.event }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn served(sequence: i64) -> Served {
        let envelope = [Some(format!("evt_{sequence}")), None, None, None];
        Served { sequence, envelope, event_json: "{}".into(), reference: None }
    }

    fn at(sequence: u64) -> Checkpoint {
        Checkpoint { log: String::new(), sequence, event: format!("evt_{sequence}") }
    }

    /// Requests events, answers with `sequences` and stores them. Returns the requested sequence and the stored
    /// checkpoint.
    fn round(reading: &mut Reading, sequences: &[i64], now: Duration) -> (u64, u64) {
        let after = reading.ask(now);
        let events: Vec<Served> = sequences.iter().copied().map(served).collect();
        let Read::Store(kept) = reading.found(&events, now) else { panic!("another log") };
        let sequence = kept.sequence;
        reading.stored(kept, last_upto(&events, u64::MAX), false, now);
        (after, sequence)
    }

    #[test]
    fn for_two_minutes_after_the_news_it_is_read_again_from_before_them_and_then_costs_an_empty_pull() {
        let mut reading = Reading::new(Some(&at(10)));
        reading.met();
        assert_eq!(round(&mut reading, &[10, 12], seconds(0)), (9, 10), "12 may be shown before 11");
        assert_eq!(reading.head(), 12);
        for n in 1..8 {
            assert_eq!(round(&mut reading, &[10, 12], seconds(15 * n)), (9, 10), "{n}");
        }
        assert_eq!(reading.ask(seconds(120)), 12);
        assert_eq!(reading.nothing(seconds(120)), Read::Store(at(12)), "now it may be kept");
        reading.stored(at(12), None, false, seconds(120));
        for n in 9..20 {
            assert_eq!((reading.ask(seconds(15 * n)), reading.nothing(seconds(15 * n))), (12, Read::End));
        }
    }

    #[test]
    fn news_are_read_at_once_and_the_past_at_most_every_ten_seconds() {
        let mut reading = Reading::new(Some(&at(10)));
        reading.met();
        let asked: Vec<u64> =
            (0..21).map(|n| round(&mut reading, &[10, 11 + n], seconds(n.unsigned_abs())).0).collect();
        assert_eq!(asked[0], 9);
        assert_eq!(asked[1..10], (11..20).collect::<Vec<u64>>());
        assert_eq!((asked[10], asked[20]), (9, 9));
    }

    #[test]
    fn a_log_that_shows_another_event_at_the_anchor_or_none_is_read_from_its_start() {
        for answer in [
            vec![served(11)],
            vec![Served { envelope: [Some("evt_x".into()), None, None, None], ..served(10) }],
            vec![],
        ] {
            let mut reading = Reading::new(Some(&at(10)));
            reading.met();
            assert_eq!(reading.ask(seconds(0)), 9);
            let read = if answer.is_empty() { reading.nothing(seconds(0)) } else { reading.found(&answer, seconds(0)) };
            assert_eq!((read, reading.ask(seconds(0)), reading.head()), (Read::Rebuilt, 0, 0));
        }
    }

    #[test]
    fn a_notify_at_or_below_the_head_makes_the_anchor_be_looked_at_even_in_quiet() {
        let mut reading = Reading::new(Some(&at(10)));
        assert_eq!(reading.ask(seconds(0)), 10);
        reading.notified(11);
        assert_eq!(reading.ask(seconds(20)), 10);
        reading.notified(3);
        assert_eq!(reading.ask(seconds(40)), 9);
        assert_eq!(reading.nothing(seconds(40)), Read::Rebuilt);
    }

    #[test]
    fn a_checkpoint_without_its_event_cannot_be_trusted() {
        let mut reading = Reading::new(Some(&Checkpoint { event: String::new(), ..at(10) }));
        reading.met();
        reading.ask(seconds(0));
        assert_eq!(reading.found(&[served(10)], seconds(0)), Read::Rebuilt);
        let ours = Checkpoint { log: "a log with an id".into(), ..at(10) };
        assert_eq!(Reading::new(Some(&ours)).ask(seconds(0)), 0);
    }

    #[test]
    fn a_run_goes_on_where_its_batch_ended_and_the_next_one_begins_at_the_anchor() {
        let mut reading = Reading::default();
        reading.met();
        assert_eq!(reading.ask(seconds(0)), 0);
        assert_eq!(reading.found(&[served(1), served(2)], seconds(0)), Read::Store(Checkpoint::default()));
        reading.stored(Checkpoint::default(), Some((2, "evt_2".into())), true, seconds(0));
        assert_eq!(reading.ask(seconds(0)), 2);
        assert_eq!((reading.nothing(seconds(0)), reading.head()), (Read::End, 2));
        assert_eq!((reading.ask(seconds(15)), reading.ask(seconds(16))), (0, 2));
    }

    #[test]
    fn late_events_are_fetched_on_the_next_connection() {
        let mut reading = Reading::new(Some(&at(10)));
        reading.met();
        assert_eq!(round(&mut reading, &[10, 12], seconds(0)), (9, 10), "11 is not shown yet");
        reading.met();
        assert_eq!(reading.ask(seconds(300)), 9, "and not where we have stood for five minutes, at 12");
        // Cut off again before a reply.
        reading.met();
        assert_eq!(round(&mut reading, &[10, 11, 12], seconds(600)).0, 9);
        assert_eq!(reading.ask(seconds(615)), 12);
    }

    /// A log that takes longer to read than a connection lasts must still be read.
    #[test]
    fn a_run_goes_on_over_a_new_connection_if_the_event_there_is_the_same_and_the_anchor_is_looked_at_afterwards() {
        let cut_at_20 = || {
            let mut reading = Reading::new(Some(&at(10)));
            reading.met();
            assert_eq!(reading.ask(seconds(0)), 9);
            let events = [served(10), served(20)];
            let Read::Store(kept) = reading.found(&events, seconds(0)) else { panic!("another log") };
            reading.stored(kept, last_upto(&events, u64::MAX), true, seconds(0));
            for _ in 0..3 {
                assert_eq!(reading.ask(seconds(0)), 20);
                // Cut off before the reply, twice in a row.
                reading.met();
                assert_eq!(reading.ask(seconds(1)), 19, "with the event there");
                reading.met();
                assert_eq!(reading.ask(seconds(1)), 19);
                assert_eq!(reading.found(&[served(20)], seconds(1)), Read::Store(at(10)));
                reading.stored(at(10), Some((20, "evt_20".into())), true, seconds(1));
            }
            reading.met();
            assert_eq!(reading.ask(seconds(2)), 19);
            reading
        };
        let mut reading = cut_at_20();
        let events = [served(20), served(21)];
        assert_eq!(reading.found(&events, seconds(2)), Read::Store(at(10)));
        reading.stored(at(10), last_upto(&events, u64::MAX), false, seconds(2));
        assert_eq!((reading.head(), reading.ask(seconds(3)), reading.ask(seconds(3))), (21, 9, 21), "the anchor, once");

        let other = Served { envelope: [Some("evt_x".into()), None, None, None], ..served(20) };
        for answer in [vec![served(21)], vec![other], vec![]] {
            let mut reading = cut_at_20();
            let read = if answer.is_empty() { reading.nothing(seconds(2)) } else { reading.found(&answer, seconds(2)) };
            assert_eq!((read, reading.ask(seconds(2)), reading.head()), (Read::Rebuilt, 0, 0));
        }
    }

    #[test]
    fn the_places_are_bounded_and_never_older_than_they_were() {
        let mut reading = Reading::default();
        for tick in 0..1_000_000u64 {
            let now = Duration::from_millis(tick);
            reading.stored(Checkpoint::default(), Some((tick + 1, format!("evt_{tick}"))), false, now);
            if tick % 1000 == 0 {
                let anchor = reading.anchor(now);
                assert!(reading.stood.len() <= limits::LEGACY_POSITIONS, "{}", reading.stood.len());
                assert!(u128::from(anchor.sequence) <= now.saturating_sub(limits::LEGACY_LOOK_BACK).as_millis() + 1);
                assert!(tick < 130_000 || u128::from(anchor.sequence) + 130_000 > now.as_millis(), "it follows");
            }
        }
    }
}
