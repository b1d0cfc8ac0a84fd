//! Serves a legacy peer only events that it can apply.
//!
//! A legacy peer applies a batch event by event. At the first event that it cannot apply, it drops the rest and
//! requests the same batch again, forever. Therefore a row is withheld if the peer would fail to apply it. The event
//! stays in the log, and all non-legacy peers get it. The sequences that the peer sees then have gaps, which are
//! harmless.
//!
//! An event that costs the peer only one failed attempt (a second creation of a message, an unknown member of a group)
//! is served: the peer gets past it the second time. The exception is updates of unknown sessions: after a purge there
//! may be hundreds, each a failed attempt, and they would have no effect at the peer.
//!
//! Not every failure is predictable: the peer may have deleted data itself, or have an unknown bug. Therefore its
//! progress is observed. If it requests the same position for [`LEGACY_STUCK`](limits::LEGACY_STUCK) although it got
//! events, it gets them one by one. If it then requests the position of a single event for as long, at least
//! [`LEGACY_REFUSED_ASKS`](limits::LEGACY_REFUSED_ASKS) times, that event is the one it refuses, and is skipped for
//! this peer. The skipped events are kept in memory only: by the time we forget one, the peer has passed it.
//!
//! A peer that is only slow (because of its network or disk) looks the same. Therefore the batch size grows again after
//! the single events: it doubles with each batch that the peer has passed.
//!
//! A range of the log without servable events is also remembered, so that withheld rows are examined once and not for
//! every request.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thrum_core::{
    Error, Payload, Timestamp,
    exchange::{Page, Prerequisites, Row},
    limits,
    payload::{EventType, Legacy},
};

use super::{
    journal,
    unsent::{self, Unsent, Withheld},
};
use crate::{Log, Now, protocol::wire::Pull};

/// Minimum number of rows to read at once, when fewer are to be served than the peer requests.
const LOOKED_AT: usize = 16;

/// Returns why a row would stop a legacy peer; `None` if it would not.
pub fn withheld(row: &Row, prerequisites: &Prerequisites) -> Option<&'static str> {
    if prerequisites.hidden {
        return Some("a purge or a clean-up hides it");
    }
    if prerequisites.session_missing {
        return Some("its session did not begin before it");
    }
    if journal::is_too_long(&row.body) {
        return Some("it is longer than a line of its journal may be");
    }
    let is_applied = EventType::by_name(&row.kind).is_some_and(|known| known.legacy == Legacy::Applied);
    match Payload::read(&row.kind, &row.body) {
        payload if row.kind.starts_with("message.") && (payload.is_err() || !is_applied) => {
            Some("it is of a message, and unknown or unreadable")
        }
        Ok(_) if EventType::waits_for_message(&row.kind) => {
            prerequisites.message_missing.then_some("its message does not stand before it")
        }
        Ok(payload) => payload.legacy_author().and_then(unfit),
        Err(_) => None,
    }
}

/// Returns `true` if the user should know that this row is withheld. Rows hidden by a purge or clean-up are no loss,
/// and neither are rows about a message that the peer does not have, or of a type that Go Thrum does not apply.
/// [`Log::long_events`] finds events that are too long.
fn is_worth_telling(row: &Row, prerequisites: &Prerequisites) -> bool {
    let would_be_applied = EventType::by_name(&row.kind).is_none_or(|known| known.legacy == Legacy::Applied);
    would_be_applied && !prerequisites.hidden && !prerequisites.message_missing && !journal::is_too_long(&row.body)
}

/// Returns why an author's name is unusable; `None` if it is usable. A legacy peer uses the name, unmodified, in the
/// name of a file.
fn unfit(agent_id: &str) -> Option<&'static str> {
    let name = agent_id.strip_prefix("agent:").unwrap_or(agent_id);
    let leads_elsewhere =
        name.contains(['/', '\\']) || name == "." || name == ".." || name.chars().any(char::is_control);
    match () {
        () if name.is_empty() => Some("it has no author"),
        () if leads_elsewhere => Some("its agent's name is a path"),
        () if name.len() > limits::LEGACY_AUTHOR_BYTES => Some("its agent's name is too long for a file's"),
        () => None,
    }
}

/// An event that a legacy peer refused, and that is no longer served to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The event's id.
    pub event_id: String,
    /// The event's type.
    pub r#type: String,
    /// When it was skipped.
    pub since: Timestamp,
}

/// The requests and the progress of legacy peers.
#[derive(Debug, Default)]
pub struct Askers(BTreeMap<String, Asker>);

#[derive(Debug, Default)]
struct Asker {
    /// Positions requested recently, for which the peer got events.
    asked: Vec<Asked>,
    /// Events up to this sequence are served one by one.
    singly: u64,
    /// Batch size above `singly`; `None` for as many as the peer requests.
    most: Option<usize>,
    skipped: VecDeque<Skipped>,
    barren: Option<Barren>,
    withheld: Withheld,
    /// The log that the peer reads, its position according to the last request and reply, and the time of the request.
    read: Option<(Arc<str>, u64, Timestamp)>,
}

/// A range of a log without servable events.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Barren {
    log: Arc<str>,
    after: u64,
    upto: u64,
}

/// A position that was requested, perhaps repeatedly.
#[derive(Debug)]
struct Asked {
    after: u64,
    first: Duration,
    last: Duration,
    times: u32,
    /// The last sequence that was served.
    upto: u64,
    /// Id and type of the served event, if there was only one.
    only: Option<(String, String)>,
}

/// How to answer a request.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    most: Option<usize>,
    skips: Vec<String>,
    barren: Option<Barren>,
}

impl Askers {
    /// Returns the events skipped for a peer, oldest first.
    pub fn skipped(&self, peer: &str) -> Vec<Skipped> {
        self.0.get(peer).map(|asker| asker.skipped.iter().cloned().collect()).unwrap_or_default()
    }

    /// Returns the withheld events that the user should know about, by reason, as found for the peer's requests since
    /// this daemon started.
    pub(crate) fn withheld(&self, peer: &str) -> Vec<(&'static str, Unsent)> {
        self.0.get(peer).map(|asker| asker.withheld.reasons()).unwrap_or_default()
    }

    /// Returns how far a peer has read the log `id`, according to its last request and reply, and the time of the
    /// request. `None` before its first request for this log.
    pub fn read_upto(&self, peer: &str, id: &str) -> Option<(u64, Timestamp)> {
        let asker = self.0.get(peer)?;
        let (_, after, at) = asker.read.as_ref().filter(|(log, ..)| **log == *id)?;
        let barren =
            asker.barren.as_ref().filter(|barren| *barren.log == *id && (barren.after..=barren.upto).contains(after));
        Some((barren.map_or(*after, |barren| barren.upto), *at))
    }

    /// Forgets a removed peer.
    pub fn forget(&mut self, peer: &str) {
        self.0.remove(peer);
    }

    /// Finds the rows for a peer's request. `locked` locks the askers; the lock is not held while the log is read.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn page<'a, G: std::ops::DerefMut<Target = Self>>(
        locked: impl Fn() -> G + 'a,
        peer: &str,
        pull: &Pull,
        log: &dyn Log,
        now: Now,
    ) -> Result<Page, Error> {
        let plan = locked().0.entry(peer.to_owned()).or_default().ask(peer, pull.after, now);
        let id = log.id();
        let mut withheld = Vec::new();
        let (page, barren, end, upto) = rows(pull, &plan, log, &id, &mut withheld)?;
        if let Some(asker) = locked().0.get_mut(peer) {
            asker.withheld.record(&id, withheld, upto);
            asker.got(pull.after, &page, now.tick);
            asker.barren = barren.or(asker.barren.take());
            // A peer that requests one position repeatedly has not applied the events after it, and so has not read to
            // the end.
            let asks_again = asker.asked.iter().any(|place| place.after == pull.after && place.times > 1);
            let upto = end.filter(|_| !asks_again).unwrap_or(pull.after);
            asker.read = Some((id, upto, now.at));
        }
        Ok(page)
    }
}

impl Asker {
    fn ask(&mut self, peer: &str, after: u64, now: Now) -> Plan {
        // Forget positions that were not requested for so long: the peer is not stuck there.
        self.asked.retain(|place| place.last + limits::LEGACY_STUCK >= now.tick);
        if let Some(place) = self.asked.iter_mut().find(|place| place.after == after) {
            place.last = now.tick;
            place.times += 1;
            let enough = if place.only.is_some() { limits::LEGACY_REFUSED_ASKS } else { limits::LEGACY_STUCK_ASKS };
            if place.times >= enough && now.tick >= place.first + limits::LEGACY_STUCK {
                let (upto, only) = (place.upto, place.only.take());
                self.asked.retain(|place| place.after != after);
                self.stuck(peer, upto, only, now.at);
            }
        } else if after >= self.singly {
            // The peer has passed a batch. Double the size, up to what it requests.
            self.most = self.most.map(|most| most.saturating_mul(2)).filter(|most| *most < limits::MAX_BATCH_EVENTS);
        }
        let skips = self.skipped.iter().map(|skipped| skipped.event_id.clone()).collect();
        Plan { most: if after < self.singly { Some(1) } else { self.most }, skips, barren: self.barren.clone() }
    }

    fn stuck(&mut self, peer: &str, upto: u64, only: Option<(String, String)>, since: Timestamp) {
        let Some((event_id, kind)) = only else {
            tracing::warn!(daemon_id = %peer, "a peer requests the same events repeatedly; sending them one by one");
            (self.singly, self.most) = (upto, Some(1));
            return;
        };
        tracing::warn!(daemon_id = %peer, event = %event_id, r#type = %kind, "a peer refuses an event; skipping it for this peer");
        (self.singly, self.most) = (0, None);
        self.skipped.push_back(Skipped { event_id, r#type: kind, since });
        if self.skipped.len() > limits::LEGACY_SKIPPED {
            self.skipped.pop_front();
        }
    }

    fn got(&mut self, after: u64, page: &Page, now: Duration) {
        let Some(last) = page.rows.last() else {
            self.asked.retain(|place| place.after != after);
            return;
        };
        let only = (page.rows.len() == 1).then(|| (last.id.clone(), last.kind.clone()));
        match self.asked.iter_mut().find(|place| place.after == after) {
            // If the reply is no longer the same single event, or is a single event now, the count starts anew: the
            // earlier requests do not show whether the peer refuses that event.
            Some(place) if place.only != only => {
                (place.only, place.upto, place.first, place.times) = (only, last.sequence, now, 1)
            }
            Some(place) => place.upto = last.sequence,
            None => {
                if self.asked.len() >= limits::LEGACY_ASKED_POSITIONS {
                    self.asked.remove(0);
                }
                self.asked.push(Asked { after, first: now, last: now, times: 1, upto: last.sequence, only });
            }
        }
    }
}

/// Returns the next servable rows, if any; the range before them without servable rows; the last sequence, if the end
/// of the log was reached; and the last examined sequence. Adds to `found` the withheld rows that the user should know
/// about.
fn rows(
    pull: &Pull,
    plan: &Plan,
    log: &dyn Log,
    id: &Arc<str>,
    found: &mut Vec<unsent::WithheldRow>,
) -> Result<(Page, Option<Barren>, Option<u64>, u64), Error> {
    let most = plan.most.unwrap_or(usize::MAX).min(pull.max_batch);
    let looked_at = if most < pull.max_batch { most.max(LOOKED_AT) } else { pull.max_batch };
    let fits = |row: &Row| withheld(row, &Prerequisites::default()).is_none() && !plan.skips.contains(&row.id);
    let known =
        plan.barren.as_ref().filter(|known| known.log == *id && (known.after..=known.upto).contains(&pull.after));
    let mut known = known.cloned();
    let mut after = known.as_ref().map_or(pull.after, |known| known.upto);
    let mut looked = 0;
    loop {
        let Page { rows, more } = log.page(after, looked_at, limits::MAX_BATCH_BYTES)?;
        // Purges and clean-ups change which rows are withheld, also in the known range.
        if known.is_some() && rows.iter().any(|row| matches!(row.kind.as_str(), "purge.executed" | "agent.cleanup")) {
            (known, after) = (None, pull.after);
            continue;
        }
        let prerequisites = log.prerequisites(&rows, &fits)?;
        looked += rows.len();
        let before = after;
        after = rows.last().map_or(after, |last| last.sequence);
        let mut fit = Vec::with_capacity(rows.len());
        for (row, prerequisites) in rows.into_iter().zip(&prerequisites) {
            match withheld(&row, prerequisites) {
                None if plan.skips.contains(&row.id) => {}
                None => fit.push(row),
                Some(why) if is_worth_telling(&row, prerequisites) => found.push((row.sequence, row.id, why)),
                Some(_) => {}
            }
        }
        let mut rows = fit;
        let more = more || rows.len() > most;
        rows.truncate(most);
        let is_enough = looked >= limits::LEGACY_ROWS_LOOKED_AT;
        if !rows.is_empty() || !more || is_enough {
            let upto = if rows.is_empty() { after } else { before };
            let barren = Barren { after: known.map_or(pull.after, |known| known.after), upto, log: Arc::clone(id) };
            // The log may have been replaced meanwhile.
            let barren = Some(barren).filter(|barren| barren.after < barren.upto && barren.log == log.id());
            return Ok((Page { more: more && !rows.is_empty(), rows }, barren, Some(after).filter(|_| !more), after));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use thrum_core::compare::{Listing, LogOf, Numbers, Wanted};

    use super::*;

    const PEER: &str = "d_go";

    fn row(sequence: u64, kind: &str, body: &str) -> Row {
        Row {
            sequence,
            id: format!("evt_{sequence}"),
            kind: kind.into(),
            origin: "d_x".into(),
            body: body.into(),
            reference: None,
        }
    }

    fn create(agent_id: &str) -> Row {
        row(1, "message.create", &serde_json::json!({"message_id": "msg_1", "agent_id": agent_id}).to_string())
    }

    #[test]
    fn what_would_stop_an_old_peer_is_withheld_from_it() {
        let alone = Prerequisites::default();
        let long = "x".repeat(limits::LEGACY_AUTHOR_BYTES + 1);
        for author in ["", "agent:", "../../evil", "a/b", "a\\b", "..", "a\0b", "a\nb", &long] {
            assert!(withheld(&create(author), &alone).is_some(), "{author:?}");
        }
        for author in ["ann", "user:ann", "agent:ann", "ann-2_b", "Ann.B"] {
            assert_eq!(withheld(&create(author), &alone), None, "{author}");
        }
        for (kind, body) in [
            ("message.pinned", "{}"),
            ("message.create", r#"{"message_id":7,"agent_id":"ann"}"#),
            ("message.create", r#"{"message_id":"m"}"#),
        ] {
            assert!(withheld(&row(1, kind, body), &alone).is_some(), "{kind} {body}");
        }
        let claim = r#"{"agent_id":"ann","paths":["src"],"expires_at":"2026-03-28T17:05:13Z"}"#;
        for (kind, body) in [
            ("file.claim", claim),
            ("future.thing", "{}"),
            ("agent.update", r#"{"agent_id":7}"#),
            ("agent.session.end", r#"{"session_id":"s"}"#),
        ] {
            assert_eq!(withheld(&row(1, kind, body), &alone), None, "{kind} {body}");
        }
        assert!(withheld(&row(1, "agent.register", r#"{"agent_id":"a/b","role":"r","module":"m"}"#), &alone).is_some());
        assert!(withheld(&create("ann"), &Prerequisites { hidden: true, ..Prerequisites::default() }).is_some());
        let update = row(1, "agent.update", r#"{"agent_id":"ann","work_contexts":[{"session_id":"ses_1"}]}"#);
        assert!(withheld(&update, &Prerequisites { session_missing: true, ..Prerequisites::default() }).is_some());
        assert_eq!(withheld(&update, &alone), None);
    }

    #[test]
    fn what_is_about_a_message_is_withheld_unless_a_creation_that_was_served_stands_before_it() {
        let on = |message_missing: bool| Prerequisites { message_missing, ..Prerequisites::default() };
        for (kind, body) in [
            ("message.edit", r#"{"message_id":"msg_1","body":{}}"#),
            ("message.delete", r#"{"message_id":"msg_1"}"#),
            ("message.receipt", r#"{"message_id":"msg_1","agent_id":"ann","receipt_type":"read"}"#),
        ] {
            let row = row(2, kind, body);
            assert!(withheld(&row, &on(true)).is_some(), "{kind}");
            assert_eq!(withheld(&row, &on(false)), None, "{kind}");
        }
    }

    #[test]
    fn a_withheld_row_is_reported_unless_the_peer_would_not_have_applied_it() {
        let alone = Prerequisites::default();
        for (kind, is_reported) in
            [("message.create", true), ("message.pinned", true), ("file.claim", false), ("agent.woken", false)]
        {
            assert_eq!(is_worth_telling(&row(1, kind, "{}"), &alone), is_reported, "{kind}");
        }
        let missing = Prerequisites { message_missing: true, ..Prerequisites::default() };
        let hidden = Prerequisites { hidden: true, ..Prerequisites::default() };
        for prerequisites in [missing, hidden] {
            assert!(!is_worth_telling(&row(1, "message.create", "{}"), &prerequisites));
        }
        assert!(!is_worth_telling(&row(1, "message.create", &"x".repeat(limits::LEGACY_LINE_BYTES + 1)), &alone));
    }

    /// A log in which only rows of type `x` are servable. Counts the examined rows.
    #[derive(Default)]
    struct Rows {
        kinds: Mutex<Vec<&'static str>>,
        looked_at: Mutex<usize>,
    }

    impl Log for Rows {
        fn id(&self) -> Arc<str> {
            "log".into()
        }
        fn latest(&self) -> u64 {
            self.kinds.lock().unwrap().len() as u64
        }
        fn page(&self, after: u64, max_events: usize, _: usize) -> Result<Page, Error> {
            let kinds = self.kinds.lock().unwrap();
            let above = (after + 1..).zip(kinds.iter().skip(usize::try_from(after).unwrap()));
            let rows: Vec<Row> = above.take(max_events).map(|(n, kind)| row(n, kind, "{}")).collect();
            *self.looked_at.lock().unwrap() += rows.len();
            Ok(Page { more: after + (rows.len() as u64) < kinds.len() as u64, rows })
        }
        fn page_for(&self, _: thrum_core::exchange::Holder<'_>, _: u64, _: usize, _: usize) -> Result<Page, Error> {
            unreachable!()
        }
        fn long_events(&self, _: usize, _: fn(&str) -> bool) -> Result<thrum_core::exchange::LongEvents, Error> {
            unreachable!()
        }
        fn prerequisites(&self, rows: &[Row], _: &dyn Fn(&Row) -> bool) -> Result<Vec<Prerequisites>, Error> {
            Ok(rows.iter().map(|row| Prerequisites { hidden: row.kind != "x", ..Prerequisites::default() }).collect())
        }
        fn heads(&self) -> Result<thrum_core::Heads, Error> {
            unreachable!()
        }
        fn counted(&self) -> Result<thrum_core::Heads, Error> {
            unreachable!()
        }
        fn recount(&self) -> Result<bool, Error> {
            unreachable!()
        }
        fn numbers(&self, _: &LogOf, _: u64, _: usize) -> Result<Numbers, Error> {
            unreachable!()
        }
        fn listing(&self, _: &LogOf, _: &str, _: &str, _: usize) -> Result<Listing, Error> {
            unreachable!()
        }
        fn stretch(&self, _: &LogOf, _: &str, _: &str) -> Result<(u64, thrum_core::SetDigest), Error> {
            unreachable!()
        }
        fn requested(&self, _: &LogOf, _: &Wanted) -> Result<Page, Error> {
            unreachable!()
        }
        fn projection(&self) -> Result<thrum_core::SetDigest, Error> {
            unreachable!()
        }
        fn purge_goes_on(&self) -> Result<bool, Error> {
            unreachable!()
        }
        fn purge_waits(&self) -> Result<bool, Error> {
            unreachable!()
        }
        fn checkpoint(&self, _: &str) -> Result<Option<thrum_core::exchange::Checkpoint>, Error> {
            unreachable!()
        }
        fn holds_references(&self, _: &[(&str, &str)]) -> Result<bool, Error> {
            unreachable!()
        }
        fn holds(&self, _: &[&thrum_core::Event]) -> Result<Vec<bool>, Error> {
            unreachable!()
        }
        fn apply(&self, _: thrum_core::exchange::Batch) -> Result<thrum_core::exchange::Applied, Error> {
            unreachable!()
        }
        fn acknowledged(&self, _: &str, _: u64, _: Timestamp) {}
        fn forget(&self, _: &str) -> Result<(), Error> {
            unreachable!()
        }
        fn backlog(&self, _: &str, _: u64) -> Result<u64, Error> {
            unreachable!()
        }
        fn troubles(&self, _: &str) -> Result<thrum_core::exchange::Troubles, Error> {
            unreachable!()
        }
    }

    #[test]
    fn withheld_events_at_the_end_are_examined_once() {
        let (askers, log) = (Mutex::new(Askers::default()), Rows::default());
        log.kinds.lock().unwrap().extend(["x", "x"].into_iter().chain(["hidden"; 5000]));
        // Returns the rows served above `after`, and how many rows were examined.
        let ask = |after: u64| {
            *log.looked_at.lock().unwrap() = 0;
            let pull = Pull { after, max_batch: 1000, log: None, stored: None, references: None };
            let page = Askers::page(|| askers.lock().unwrap(), PEER, &pull, &log, Now::default()).unwrap();
            (page.rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), *log.looked_at.lock().unwrap())
        };
        assert_eq!(ask(2), (vec![], 5000));
        assert_eq!((ask(2), ask(3)), ((vec![], 0), (vec![], 0)));
        assert_eq!(ask(0), (vec![1, 2], 1000), "below it, nothing is known");
        log.kinds.lock().unwrap().extend(["hidden", "hidden"]);
        assert_eq!((ask(2), ask(2)), ((vec![], 2), (vec![], 0)));
        log.kinds.lock().unwrap().push("agent.cleanup");
        assert_eq!((ask(2), ask(2)), ((vec![], 1 + 5003), (vec![], 0)), "that may have changed anything");
        log.kinds.lock().unwrap().push("x");
        assert_eq!((ask(2), ask(5006)), ((vec![5006], 1), (vec![], 0)));
    }

    /// A peer that requests positions in rows 1 to 9.
    struct Case {
        asker: Asker,
        now: Duration,
    }

    impl Case {
        fn new() -> Self {
            Self { asker: Asker::default(), now: Duration::ZERO }
        }

        fn ask(&mut self, after: u64) -> Vec<u64> {
            let plan = self.asker.ask(PEER, after, Now { tick: self.now, at: Timestamp::ZERO });
            let most = plan.most.unwrap_or(5).min(5);
            let above = (after + 1..10).map(|n| row(n, "x", "{}")).filter(|row| !plan.skips.contains(&row.id));
            let page = Page { rows: above.take(most).collect(), more: true };
            self.asker.got(after, &page, self.now);
            page.rows.iter().map(|row| row.sequence).collect()
        }

        fn later(&mut self, seconds: u64) -> &mut Self {
            self.now += Duration::from_secs(seconds);
            self
        }

        fn skipped(&self) -> Vec<&str> {
            self.asker.skipped.iter().map(|skipped| skipped.event_id.as_str()).collect()
        }
    }

    #[test]
    fn a_stuck_legacy_peer_gets_single_events_and_skips_the_refused_one() {
        let mut case = Case::new();
        for _ in 0..4 {
            assert_eq!(case.ask(2), [3, 4, 5, 6, 7]);
            case.later(15);
        }
        assert_eq!(case.ask(2), [3], "a minute is over");
        assert_eq!(case.ask(3), [4]);
        for _ in 0..5 {
            assert_eq!(case.ask(4), [5], "it refuses 5");
            case.later(15);
        }
        assert_eq!(case.skipped(), Vec::<&str>::new());
        assert_eq!(case.ask(4), [6, 7, 8, 9]);
        assert_eq!(case.skipped(), ["evt_5"]);
        assert_eq!((case.ask(9), case.ask(2)), (vec![], vec![3, 4, 6, 7, 8]), "and it stays so");
    }

    #[test]
    fn a_peer_that_progresses_one_by_one_gets_full_batches_again() {
        let mut case = Case::new();
        for _ in 0..4 {
            case.ask(2);
            case.later(15);
        }
        let served: Vec<Vec<u64>> = (2..8).map(|after| case.ask(after)).collect();
        assert_eq!(
            served,
            [vec![3], vec![4], vec![5], vec![6], vec![7], vec![8, 9]],
            "twice as many at once behind that"
        );
        assert_eq!(case.skipped(), Vec::<&str>::new());
    }

    /// A slow peer would otherwise be stuck again.
    #[test]
    fn behind_what_came_one_by_one_batches_grow_with_each_that_was_passed() {
        let mut case = Case::new();
        for _ in 0..4 {
            case.ask(2);
            case.later(15);
        }
        assert_eq!(case.ask(2), [3]);
        let mut most = |after: u64| case.asker.ask(PEER, after, Now { tick: case.now, at: Timestamp::ZERO }).most;
        assert_eq!((most(3), most(6)), (Some(1), Some(1)));
        assert_eq!([most(7), most(9), most(13), most(21)], [Some(2), Some(4), Some(8), Some(16)]);
        assert_eq!((0..10).map(|n| most(100 + n)).last(), Some(None), "as many as it asks for");
    }

    #[test]
    fn empty_rare_and_parallel_requests_do_not_count_as_stuck() {
        let mut case = Case::new();
        for _ in 0..100 {
            assert!(case.later(15).ask(9).is_empty(), "quiet");
        }
        for _ in 0..10 {
            assert_eq!(case.later(61).ask(2).len(), 5, "it may just not have got the answers");
        }
        let mut case = Case::new();
        for place in 0..4 {
            for thread in 0..10 {
                assert_eq!(case.later(1).ask(place).len(), 5, "{thread}");
            }
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut case = Case::new();
        for after in 0..1_000u64 {
            case.asker.got(after, &Page { rows: vec![row(after + 1, "x", "{}")], more: true }, Duration::ZERO);
            case.asker.stuck(PEER, 0, Some((format!("evt_{after}"), "x".into())), Timestamp::ZERO);
        }
        assert_eq!(
            (case.asker.asked.len(), case.asker.skipped.len()),
            (limits::LEGACY_ASKED_POSITIONS, limits::LEGACY_SKIPPED)
        );
        assert_eq!(case.skipped().last(), Some(&"evt_999"));
    }
}
