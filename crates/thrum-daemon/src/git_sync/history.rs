//! `git-log.jsonl`: the exchanges in which something happened, one line of JSON each, oldest first.
//!
//! The file helps people to see what happened; nothing depends on it. So a line or a file that cannot be used is passed
//! over, and a file that cannot be written fails nothing: both are reported in the daemon's log.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thrum_core::{Error, Timestamp, name};
use thrum_git::Report;

use super::state::{Known, State, fingerprint};
use crate::{hold::Hold, paths::Repo, private_files};

/// The most entries that are kept: weeks of mail, or months of a quiet remote. The oldest ones are dropped.
const MOST: usize = 500;

/// The most entries about daemons that no person here caused. Anybody who may push can cause these, and must not push
/// out all others.
const MOST_OF_OTHERS: usize = 200;

/// The most daemons seen for the first time in one exchange that have an entry each. The rest is counted in one.
const MOST_SEEN_AT_ONCE: usize = 10;

/// The most characters of a reason or of the name of a remote.
const MOST_CHARS: usize = 400;

/// The most bytes of a line that is read: two texts of [`MOST_CHARS`] and some ids are less.
const MOST_LINE_BYTES: usize = 4 << 10;

/// The most bytes of the file.
const MOST_BYTES: u64 = (MOST * MOST_LINE_BYTES) as u64;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// When it happened, or happened first.
    at: Timestamp,
    #[serde(flatten)]
    what: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Event {
    /// It was switched on, or its remote or encryption changed.
    On { remote: String, encrypted: bool },
    /// It was switched off.
    Off,
    /// Events were stored or published.
    Exchanged {
        stored: u64,
        published: u64,
        /// Bytes of the published events, compressed.
        bytes: u64,
        /// Whether purged events are no longer published since.
        purged: bool,
    },
    /// An exchange failed. Further ones failed for the same reason if `count` is more than one.
    Failed { reason: String, count: u64, last_at: Timestamp },
    /// An exchange succeeded after one that failed.
    Recovered { failed_at: Timestamp },
    /// A daemon was seen for the first time.
    Seen(Daemon),
    /// More daemons were seen for the first time than have entries of their own.
    MoreSeen { count: u64 },
    /// The events of a daemon are stored from now on: a person decided that, or it is a peer, or a trusted daemon
    /// trusts it.
    Trusted {
        #[serde(flatten)]
        daemon: Daemon,
        by_person: bool,
    },
    /// A person decided that a daemon is not trusted.
    Distrusted(Daemon),
    /// A trusted daemon is no longer on the remote.
    Gone(Daemon),
    /// A trusted daemon is on the remote again.
    Returned(Daemon),
    /// What this daemon had published elsewhere was removed there.
    Removed {
        remote: String,
        #[serde(rename = "ref")]
        reference: String,
    },
}

impl Event {
    /// The ref of this daemon below a prefix was removed from a remote.
    pub(super) fn removed(remote: &str, prefix: &str, daemon_id: &str) -> Self {
        Self::Removed { remote: cut(remote), reference: cut(&format!("{prefix}{daemon_id}")) }
    }

    /// Returns `true` for what happened to a daemon and was not decided by a person here.
    const fn is_of_others(&self) -> bool {
        match self {
            Self::Seen(_) | Self::MoreSeen { .. } | Self::Gone(_) | Self::Returned(_) => true,
            Self::Trusted { by_person, .. } => !*by_person,
            Self::On { .. }
            | Self::Off
            | Self::Exchanged { .. }
            | Self::Failed { .. }
            | Self::Recovered { .. }
            | Self::Removed { .. }
            | Self::Distrusted(_) => false,
        }
    }
}

/// A daemon on the remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Daemon {
    name: String,
    daemon_id: String,
    fingerprint: String,
}

impl Daemon {
    fn of(id: &str, known: &Known) -> Self {
        Self { name: cut(&known.name), daemon_id: id.to_owned(), fingerprint: fingerprint(id) }
    }
}

/// The beginning of a text on one line, escaped.
fn cut(text: &str) -> String {
    name::printable(text).chars().take(MOST_CHARS).collect()
}

/// What happened between two states, one of which follows the other.
pub(super) fn changes(before: &State, after: &State) -> Vec<Event> {
    let mut events = Vec::new();
    match &after.remote {
        Some(remote) if (&before.remote, before.encrypts) != (&after.remote, after.encrypts) => {
            events.push(Event::On { remote: cut(remote), encrypted: after.encrypts });
        }
        None if before.remote.is_some() => events.push(Event::Off),
        _ => {}
    }
    let mut seen = 0;
    let mut daemons: Vec<(&String, &Known)> = after.known.iter().collect();
    daemons.sort_by_key(|(id, known)| (&known.name, *id));
    for (id, known) in daemons {
        let daemon = || Daemon::of(id, known);
        let former = before.known.get(id);
        if former.is_none() {
            seen += 1;
            if seen <= MOST_SEEN_AT_ONCE {
                events.push(Event::Seen(daemon()));
            }
        }
        let (decided, was_trusted, was_gone) =
            former.map_or((None, false, false), |former| (former.is_trusted, former.was_trusted, former.is_gone));
        match known.is_trusted {
            Some(is_trusted) if decided != Some(is_trusted) => events.push(match is_trusted {
                true => Event::Trusted { daemon: daemon(), by_person: true },
                false => Event::Distrusted(daemon()),
            }),
            None if known.was_trusted && !was_trusted => {
                events.push(Event::Trusted { daemon: daemon(), by_person: false });
            }
            _ => {}
        }
        match (was_gone, known.is_gone) {
            (false, true) => events.push(Event::Gone(daemon())),
            (true, false) if known.counts_as_trusted() => events.push(Event::Returned(daemon())),
            _ => {}
        }
    }
    if seen > MOST_SEEN_AT_ONCE {
        events.push(Event::MoreSeen { count: (seen - MOST_SEEN_AT_ONCE) as u64 });
    }
    events
}

/// The entries, and the file that keeps them across restarts.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    entries: VecDeque<Entry>,
    /// Whether the last attempt to write the file failed, so that each disturbance is logged once.
    is_unwritten: bool,
}

impl History {
    /// Reads the file, as far as it can be used.
    pub(super) fn load(repo: &Repo) -> Self {
        let path = repo.var().join("git-log.jsonl");
        let entries = match private_files::read_private(&path, MOST_BYTES) {
            Ok(bytes) => read(&bytes.unwrap_or_default(), &path),
            Err(error) => {
                tracing::warn!(%error, "the log of sync through git begins anew");
                VecDeque::new()
            }
        };
        let mut history = Self { path, entries, is_unwritten: false };
        history.drop_oldest();
        history
    }

    /// The newest entries, newest last, and `true` if there are earlier ones.
    pub(super) fn newest(&self, most: usize) -> (Vec<Entry>, bool) {
        let earlier = self.entries.len().saturating_sub(most);
        (self.entries.iter().skip(earlier).cloned().collect(), earlier > 0)
    }

    /// Adds what happened.
    pub(super) fn add(&mut self, now: Timestamp, events: Vec<Event>, hold: &Hold) {
        if !events.is_empty() {
            self.entries.extend(events.into_iter().map(|what| Entry { at: now, what }));
            self.save(hold);
        }
    }

    /// Adds what an exchange did; nothing if it did nothing.
    pub(super) fn succeeded(&mut self, now: Timestamp, report: &Report, hold: &Hold) {
        let mut events = Vec::new();
        if let Some(failed_at) = self.failures().map(|entry| entry.at).min() {
            events.push(Event::Recovered { failed_at });
        }
        let stored = report.applied.applied as u64;
        let published = report.published.unwrap_or_default();
        if stored + published.events + published.bytes > 0 || published.purged {
            let (bytes, purged, published) = (published.bytes, published.purged, published.events);
            events.push(Event::Exchanged { stored, published, bytes, purged });
        }
        self.add(now, events, hold);
    }

    /// Adds a failed exchange, or counts it if one failed for the same reason since the last that succeeded.
    pub(super) fn failed(&mut self, now: Timestamp, error: &Error, hold: &Hold) {
        let why = cut(&error.message);
        let repeated = self.failures().find_map(|entry| match &mut entry.what {
            Event::Failed { reason, count, last_at } if is_same(reason, &why) => Some((count, last_at)),
            _ => None,
        });
        if let Some((count, last_at)) = repeated {
            (*count, *last_at) = (count.saturating_add(1), now);
            self.save(hold);
        } else {
            self.add(now, vec![Event::Failed { reason: why, count: 1, last_at: now }], hold);
        }
    }

    /// The failures since the last exchange that succeeded, and since it was switched on; newest first.
    fn failures(&mut self) -> impl Iterator<Item = &mut Entry> {
        let ends = |entry: &Entry| matches!(entry.what, Event::Recovered { .. } | Event::On { .. } | Event::Off);
        let newest = self.entries.iter_mut().rev().take_while(move |entry| !ends(entry));
        newest.filter(|entry| matches!(entry.what, Event::Failed { .. }))
    }

    /// Drops the oldest entries if there are too many.
    fn drop_oldest(&mut self) {
        let of_others = self.entries.iter().filter(|entry| entry.what.is_of_others()).count();
        let mut surplus = of_others.saturating_sub(MOST_OF_OTHERS);
        self.entries.retain(|entry| {
            let is_surplus = surplus > 0 && entry.what.is_of_others();
            surplus -= usize::from(is_surplus);
            !is_surplus
        });
        self.entries.drain(..self.entries.len().saturating_sub(MOST));
    }

    /// Replaces the file. On an error the entries stay in memory, and the next entry tries again.
    fn save(&mut self, hold: &Hold) {
        self.drop_oldest();
        let lines = self.entries.iter().filter_map(|entry| serde_json::to_string(entry).ok());
        let text = lines.fold(String::new(), |text, line| text + &line + "\n");
        match hold.check().and_then(|()| private_files::write_private(&self.path, text.as_bytes())) {
            Ok(()) => self.is_unwritten = false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_unwritten, true) {
                    tracing::warn!(%error, "the log of sync through git cannot be written");
                }
            }
        }
    }
}

/// The entries in the content of the file. Lines that cannot be used are passed over.
fn read(bytes: &[u8], path: &Path) -> VecDeque<Entry> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let (mut entries, mut damaged) = (VecDeque::new(), 0);
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(entry) if line.len() <= MOST_LINE_BYTES => entries.push_back(entry),
            _ => damaged += 1,
        }
    }
    if damaged > 0 {
        tracing::warn!(path = %path.display(), damaged, "passed over lines of the log of sync through git");
    }
    entries
}

/// Returns `true` for reasons that differ in numbers only, such as that of a port or a process.
fn is_same(one: &str, other: &str) -> bool {
    let words = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    words(one) == words(other)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use thrum_core::{ErrorKind, exchange::Applied};
    use thrum_git::Published;

    use super::*;
    use crate::lock;

    struct Place {
        _dir: tempfile::TempDir,
        repo: Repo,
        hold: Hold,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let repo = Repo::create(dir.path(), None).unwrap();
            let hold = Hold::new(lock::acquire(&repo).unwrap(), &repo);
            Self { _dir: dir, repo, hold }
        }

        fn file(&self) -> PathBuf {
            self.repo.var().join("git-log.jsonl")
        }

        /// Loads the entries again, as after a restart.
        fn events(&self) -> Vec<Event> {
            History::load(&self.repo).newest(MOST).0.into_iter().map(|entry| entry.what).collect()
        }
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::ZERO.plus(std::time::Duration::from_secs(second))
    }

    fn error(message: &str) -> Error {
        Error::new(ErrorKind::TryAgain, message)
    }

    fn failed(reason: &str, count: u64, last_at: u64) -> Event {
        Event::Failed { reason: reason.to_owned(), count, last_at: at(last_at) }
    }

    #[test]
    fn a_failure_that_repeats_is_one_entry_until_an_exchange_succeeds() {
        let place = Place::new();
        let (mut history, hold) = (History::load(&place.repo), &place.hold);
        history.failed(at(1), &error("port 4711 is closed"), hold);
        history.failed(at(2), &error("port 815 is closed"), hold);
        history.failed(at(3), &error("no route"), hold);
        // The daemon is started again meanwhile.
        let mut history = History::load(&place.repo);
        history.failed(at(4), &error("port 4712 is closed"), hold);
        assert_eq!(place.events(), [failed("port 4711 is closed", 3, 4), failed("no route", 1, 3)]);

        history.succeeded(at(5), &Report::default(), hold);
        history.succeeded(at(6), &Report::default(), hold);
        history.failed(at(7), &error("no route"), hold);
        let events = place.events();
        assert_eq!(events[2..], [Event::Recovered { failed_at: at(1) }, failed("no route", 1, 7)]);
    }

    #[test]
    fn an_exchange_is_an_entry_if_it_did_something() {
        let place = Place::new();
        let mut history = History::load(&place.repo);
        let stored = |applied| Report { applied: Applied { applied, ..Applied::default() }, ..Report::default() };
        let published = |events, purged| Report {
            published: Some(Published { events, bytes: 10 * events, purged }),
            ..Report::default()
        };
        let reports =
            [Report::default(), stored(0), stored(2), published(0, false), published(3, false), published(0, true)];
        for report in reports {
            history.succeeded(at(1), &report, &place.hold);
        }
        let exchanged = |stored, published, bytes, purged| Event::Exchanged { stored, published, bytes, purged };
        let expected = [exchanged(2, 0, 0, false), exchanged(0, 3, 30, false), exchanged(0, 0, 0, true)];
        assert_eq!(place.events(), expected);
    }

    #[test]
    fn what_changes_between_two_states_is_found() {
        let known = Known {
            name: "desk".to_owned(),
            first_seen: at(0),
            is_trusted: None,
            number: 1,
            was_trusted: false,
            is_waiting: false,
            is_gone: false,
        };
        let daemon = Daemon::of("d_k", &known);
        let state = |known: &Known| State { known: [("d_k".to_owned(), known.clone())].into(), ..State::default() };
        let on = |encrypts| State { remote: Some("origin".to_owned()), encrypts, ..State::default() };
        let vouched = Known { was_trusted: true, ..known.clone() };
        let trusted = Known { is_trusted: Some(true), ..known.clone() };
        let gone = Known { is_trusted: Some(true), was_trusted: true, is_gone: true, ..known.clone() };
        let back = Known { is_gone: false, ..gone.clone() };
        let distrusted = Known { is_trusted: Some(false), is_gone: false, ..gone.clone() };
        let on_through = |encrypted| Event::On { remote: "origin".to_owned(), encrypted };
        for (before, after, expected) in [
            (State::default(), on(false), vec![on_through(false)]),
            (on(false), on(true), vec![on_through(true)]),
            (on(true), State::default(), vec![Event::Off]),
            (on(true), on(true), vec![]),
            (State::default(), state(&known), vec![Event::Seen(daemon.clone())]),
            (state(&known), state(&vouched), vec![Event::Trusted { daemon: daemon.clone(), by_person: false }]),
            (state(&known), state(&trusted), vec![Event::Trusted { daemon: daemon.clone(), by_person: true }]),
            (state(&trusted), state(&gone), vec![Event::Gone(daemon.clone())]),
            (state(&gone), state(&back), vec![Event::Returned(daemon.clone())]),
            (state(&gone), state(&distrusted), vec![Event::Distrusted(daemon.clone())]),
            (state(&back), state(&back), vec![]),
        ] {
            assert_eq!(changes(&before, &after), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn daemons_that_anybody_can_add_do_not_push_out_the_rest() {
        let place = Place::new();
        let mut history = History::load(&place.repo);
        history.add(at(1), vec![Event::Off], &place.hold);
        let mut before = State::default();
        for round in 0..30 {
            let mut after = before.clone();
            for number in 0..40 {
                let known = Known {
                    name: "\u{1b}".repeat(5_000),
                    first_seen: at(1),
                    is_trusted: None,
                    number: 1,
                    was_trusted: false,
                    is_waiting: false,
                    is_gone: false,
                };
                after.known.insert(format!("d_{round}_{number}"), known);
            }
            let events = changes(&before, &after);
            assert_eq!((events.len(), events.last()), (11, Some(&Event::MoreSeen { count: 30 })));
            history.add(at(2), events, &place.hold);
            before = after;
        }
        let events = place.events();
        assert_eq!((events.len(), &events[0]), (1 + MOST_OF_OTHERS, &Event::Off));
        for second in 0..1_000 {
            history.entries.push_back(Entry { at: at(second), what: failed(&"x".repeat(MOST_CHARS), second, second) });
        }
        history.add(at(1), vec![Event::Off], &place.hold);
        assert_eq!(place.events().len(), MOST);
        let (newest, more) = history.newest(3);
        assert_eq!((newest.len(), more), (3, true));
    }

    #[test]
    fn damaged_lines_are_passed_over() {
        let place = Place::new();
        let good = serde_json::to_string(&Entry { at: at(1), what: Event::Off }).unwrap();
        let long = good.replace("off", &format!("off\",\"more\":\"{}", "x".repeat(MOST_LINE_BYTES)));
        let lines =
            [good.as_str(), "{\"at\":", "\u{0}\u{1}", &long, "{\"at\":\"2026-03-28T10:05:13Z\",\"what\":\"?\"}", &good];
        fs::write(place.file(), lines.join("\n")).unwrap();
        assert_eq!(place.events(), [Event::Off, Event::Off]);
    }

    #[test]
    fn without_a_file_the_entries_stay_in_memory_and_are_written_when_that_is_possible() {
        let place = Place::new();
        fs::create_dir(place.file()).unwrap();
        let mut history = History::load(&place.repo);
        history.add(at(1), vec![Event::Off], &place.hold);
        assert_eq!((history.newest(9).0.len(), history.is_unwritten), (1, true));
        fs::remove_dir(place.file()).unwrap();
        history.add(at(2), vec![Event::Off], &place.hold);
        assert_eq!((place.events().len(), history.is_unwritten), (2, false));
        fs::write(place.file(), vec![b'x'; usize::try_from(MOST_BYTES).unwrap() + 1]).unwrap();
        assert_eq!(place.events(), []);
    }
}
