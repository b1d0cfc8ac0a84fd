//! Detects two processes that run with the same daemon key, from their signs of life here.
//!
//! Each process of a daemon draws an id at its start, its instance, and sends it in the handshake that encrypts a
//! connection, or in `sync.hello`. After a restart there is another instance. A daemon holds a lock on its directory,
//! so the earlier process has ended by then, and its instance never returns. Therefore two processes run at the same
//! time exactly if each was alive after the other was first seen. This happens when a machine was cloned or a `.thrum`
//! copied, and original and copy both run. A reply proves only that the process was alive after our request, because
//! the reply may have been delayed for a long time; therefore the time of the request counts.
//!
//! An instance counts only on a connection on which the key was proven, so that no daemon can fake a second process of
//! another daemon. A peer of an earlier version sends no instance, and is not checked.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use thrum_core::{Timestamp, limits};

use crate::{Now, transport::Node, transport::with_port};

/// A process that runs with a daemon's key, as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The process's listening address, or at least its host; empty if unknown.
    pub address: String,
    /// The process's node; `None` if unknown or on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// When the process was last seen.
    pub at: Timestamp,
}

impl Seen {
    /// Describes the location of the process, for display.
    pub fn location(&self) -> String {
        let address = if self.address.is_empty() {
            "an unknown address".to_owned()
        } else {
            thrum_core::name::printable(&self.address)
        };
        match &self.node {
            Some(node) => format!("{address} on {node}"),
            None => address,
        }
    }
}

/// A sign of life of a process that has proven the daemon's key on its connection.
#[derive(Clone, Debug)]
pub struct Sign<'a> {
    /// The id that the process drew at its start.
    pub instance: &'a str,
    /// The process's host, if the connection reveals it.
    pub host: Option<&'a str>,
    /// The process's listening port, if known.
    pub port: Option<u16>,
    /// The process's node; `None` if unknown or on loopback.
    pub node: Option<Node>,
    /// Lower bound for the time at which the process was alive.
    pub after: Duration,
}

/// One process of a peer, as far as it is known. It may have ended.
#[derive(Debug)]
struct Life {
    instance: String,
    host: String,
    port: Option<u16>,
    node: Option<Node>,
    /// When the process was first seen. It started earlier.
    since: Duration,
    /// The latest time after which the process is known to have been alive.
    after: Duration,
    heard: Duration,
    heard_at: Timestamp,
}

impl Life {
    fn overlaps(&self, other: &Self) -> bool {
        self.instance != other.instance && self.after > other.since && other.after > self.since
    }

    fn is_fresh(&self, now: Duration) -> bool {
        now.saturating_sub(self.heard) <= limits::SAME_KEY_RECENT
    }

    fn seen(&self) -> Seen {
        let address = match self.port {
            Some(port) if !self.host.is_empty() => with_port(&self.host, port),
            _ => self.host.clone(),
        };
        Seen { address, node: self.node.clone(), at: self.heard_at }
    }
}

/// The processes of one daemon, at most [`limits::MAX_LIVES`], and whether concurrent ones were already reported.
#[derive(Debug, Default)]
struct History {
    lives: Vec<Life>,
    is_said: bool,
}

impl History {
    /// Returns two processes that run at the same time and were both seen recently.
    fn both(&self, now: Duration) -> Option<(&Life, &Life)> {
        let fresh: Vec<&Life> = self.lives.iter().filter(|life| life.is_fresh(now)).collect();
        fresh
            .iter()
            .enumerate()
            .find_map(|(n, one)| fresh[n + 1..].iter().find(|other| one.overlaps(other)).map(|other| (*one, *other)))
    }
}

/// The processes of all peers, and the peers' reports about our own key. In memory only.
#[derive(Debug, Default)]
pub(super) struct Lives {
    of: BTreeMap<String, History>,
    /// By peer: another process with our own key, and when the peer last reported it.
    reports: BTreeMap<String, (Seen, Duration)>,
}

impl Lives {
    /// Records a sign of life. Returns two concurrent processes, if they were not known as such before.
    pub(super) fn alive(&mut self, daemon_id: &str, sign: &Sign<'_>, now: Now) -> Option<(Seen, Seen)> {
        let history = self.of.entry(daemon_id.to_owned()).or_default();
        let life = match history.lives.iter().position(|life| life.instance == sign.instance) {
            Some(known) => &mut history.lives[known],
            None => {
                if history.lives.len() >= limits::MAX_LIVES {
                    let oldest =
                        history.lives.iter().enumerate().min_by_key(|(_, life)| life.heard).map_or(0, |(n, _)| n);
                    history.lives.remove(oldest);
                }
                history.lives.push_mut(Life {
                    instance: sign.instance.to_owned(),
                    host: String::new(),
                    port: None,
                    node: None,
                    since: now.tick,
                    after: sign.after,
                    heard: now.tick,
                    heard_at: now.at,
                })
            }
        };
        (life.after, life.heard, life.heard_at) = (life.after.max(sign.after), now.tick, now.at);
        if let Some(host) = sign.host {
            if life.host != host {
                (life.host, life.port) = (host.to_owned(), None);
            }
            life.node.clone_from(&sign.node);
        }
        life.port = sign.port.or(life.port);
        let both = history.both(now.tick).map(|(one, other)| (one.seen(), other.seen()));
        let was_said = std::mem::replace(&mut history.is_said, both.is_some());
        both.filter(|_| !was_said)
    }

    /// Returns the two concurrent processes of a peer.
    pub(super) fn both(&self, daemon_id: &str, now: Now) -> Option<(Seen, Seen)> {
        self.of.get(daemon_id)?.both(now.tick).map(|(one, other)| (one.seen(), other.seen()))
    }

    /// Returns another process that runs with the same key as process `instance`, and the time since that other process
    /// was last seen.
    pub(super) fn other(&self, daemon_id: &str, instance: &str, now: Now) -> Option<(Seen, Duration)> {
        let lives = &self.of.get(daemon_id)?.lives;
        let asks = lives.iter().find(|life| life.instance == instance)?;
        let others = lives.iter().filter(|life| life.is_fresh(now.tick) && life.overlaps(asks));
        others.max_by_key(|life| life.heard).map(|life| (life.seen(), now.tick.saturating_sub(life.heard)))
    }

    /// Records a peer's report about our own key: `Some` if another process uses it, `None` if not. Returns `true` if
    /// the peer reports another process and did not before.
    pub(super) fn record_report(&mut self, by: &str, other: Option<Seen>, now: Now) -> bool {
        match other {
            Some(seen) => self.reports.insert(by.to_owned(), (seen, now.tick)).is_none(),
            None => {
                self.reports.remove(by);
                false
            }
        }
    }

    /// Returns other processes that use our own key, each with the peer that reports it.
    pub(super) fn others_of_ours(&self, now: Now) -> Vec<(String, Seen)> {
        let lately =
            self.reports.iter().filter(|(_, (_, told))| now.tick.saturating_sub(*told) <= limits::SAME_KEY_RECENT);
        lately.map(|(by, (seen, _))| (by.clone(), seen.clone())).collect()
    }

    pub(super) fn forget(&mut self, daemon_id: &str) {
        self.of.remove(daemon_id);
        self.reports.remove(daemon_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { tick: Duration::from_secs(seconds), at: Timestamp::ZERO.plus(Duration::from_secs(seconds)) }
    }

    /// Records a sign of life at second `now`, which proves that the process was alive after second `after`.
    fn sign(lives: &mut Lives, instance: &str, port: u16, after: u64, now: u64) -> Option<(Seen, Seen)> {
        let sign =
            Sign { instance, host: Some("127.0.0.1"), port: Some(port), node: None, after: Duration::from_secs(after) };
        lives.alive("d_k", &sign, at(now))
    }

    #[test]
    fn a_process_that_comes_back_after_another_one_came_runs_beside_it() {
        let mut lives = Lives::default();
        assert_eq!(sign(&mut lives, "i1", 9101, 1, 1), None);
        assert_eq!(sign(&mut lives, "i2", 9102, 2, 2), None, "a restart");
        let (one, other) = sign(&mut lives, "i1", 9101, 3, 3).expect("said");
        assert_eq!((one.location(), other.location()), ("127.0.0.1:9101".to_owned(), "127.0.0.1:9102".to_owned()));
        assert_eq!(sign(&mut lives, "i2", 9102, 4, 4), None, "once");
        assert!(lives.both("d_k", at(4)).is_some());
        let other = lives.other("d_k", "i1", at(10)).unwrap();
        assert_eq!((other.0.address.as_str(), other.1), ("127.0.0.1:9102", Duration::from_secs(6)));
        // The state clears when one of the processes is gone, and is reported anew when that process returns.
        let later = 4 + limits::SAME_KEY_RECENT.as_secs() + 1;
        assert_eq!(sign(&mut lives, "i1", 9101, later, later), None);
        assert!(lives.both("d_k", at(later)).is_none() && lives.other("d_k", "i1", at(later)).is_none());
        assert!(sign(&mut lives, "i2", 9102, later + 1, later + 1).is_some());
    }

    #[test]
    fn restarts_are_one_process_after_the_other_also_where_their_last_words_come_late() {
        let mut lives = Lives::default();
        for n in 0..10 {
            assert_eq!(sign(&mut lives, &format!("i{n}"), 9101, n, n), None);
        }
        // A delayed reply of the previous process, to a request from its lifetime.
        assert_eq!(sign(&mut lives, "i8", 9101, 8, 11), None);
        assert_eq!(sign(&mut lives, "i9", 9101, 12, 12), None);
        assert!(lives.of["d_k"].lives.len() <= limits::MAX_LIVES);
        assert!(sign(&mut lives, "i8", 9101, 13, 13).is_some());
    }

    #[test]
    fn a_clone_is_found_whatever_happens_to_the_other_one_between() {
        let mut lives = Lives::default();
        sign(&mut lives, "quiet", 9101, 0, 0);
        for n in 1..10 {
            assert_eq!(sign(&mut lives, &format!("i{n}"), 9102, n, n), None);
        }
        // The quiet process was forgotten in the meantime, and counts as new.
        assert_eq!(sign(&mut lives, "quiet", 9101, 10, 10), None);
        assert!(sign(&mut lives, "i9", 9102, 11, 11).is_some());
    }

    #[test]
    fn a_report_about_our_key_holds_until_withdrawn_or_stale() {
        let mut lives = Lives::default();
        let seen = Seen { address: "127.0.0.1:9102".into(), ..Seen::default() };
        assert!(lives.record_report("d_p", Some(seen.clone()), at(1)));
        assert!(!lives.record_report("d_p", Some(seen.clone()), at(2)), "once");
        assert_eq!(lives.others_of_ours(at(2)), [("d_p".to_owned(), seen.clone())]);
        assert_eq!(lives.others_of_ours(at(3 + limits::SAME_KEY_RECENT.as_secs())), []);
        assert!(!lives.record_report("d_p", None, at(4)) && lives.others_of_ours(at(4)).is_empty());
        assert!(lives.record_report("d_p", Some(seen), at(5)));
        lives.forget("d_p");
        assert_eq!(lives.others_of_ours(at(5)), []);
    }
}
