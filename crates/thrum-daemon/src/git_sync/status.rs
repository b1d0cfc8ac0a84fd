//! What is shown of sync through git: the answers to `git.status`, to `sync.verify` and to those who list daemons.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use thrum_core::{Error, ErrorKind, Timestamp, heads::Difference};
use thrum_git::{SeenState, limits};
use thrum_sync::peers::{Compared, Verdict};

use super::{
    GitSync,
    places::LeftBehind,
    state::{Known, fingerprint},
};

/// The answer to `git.status`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GitStatus {
    /// `off`, `starting`, `ok` or `failing`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    encrypted: bool,
    /// The fingerprint of this daemon, for those who are to trust it.
    own_fingerprint: String,
    /// Seconds between two exchanges without news.
    interval: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_exchange_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_published_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_exchange_at: Option<Timestamp>,
    events_stored: u64,
    events_published: u64,
    /// The daemons whose events are stored, and those that cannot be read.
    daemons: Vec<GitDaemon>,
    /// The daemons that want in.
    pub(super) waiting: Vec<Waiting>,
    /// Number of daemons on the remote that were not looked at, because together they publish too much.
    left_out: usize,
    /// Refs of this daemon at other remotes or under other prefixes, where it published before.
    left_behind: Vec<LeftBehind>,
}

/// The daemons that are reached through git.
#[derive(Clone, Debug, Default)]
pub(crate) struct GitReach {
    /// The ids of trusted ones that are on the remote.
    pub(crate) trusted: BTreeSet<String>,
    /// The ids of trusted ones that were not there at the last exchange.
    pub(crate) absent: BTreeSet<String>,
    /// The ids of those that a person does not trust.
    pub(crate) distrusted: BTreeSet<String>,
    /// Whether the last exchange failed.
    pub(crate) is_failing: bool,
}

/// A daemon on the remote.
#[derive(Clone, Debug, Serialize)]
struct GitDaemon {
    name: String,
    daemon_id: String,
    fingerprint: String,
    /// `trusted`, `distrusted`, `unusable`, `over_quota` or `absent`.
    state: &'static str,
    /// Why, if it is unusable or over its quota, or which segments are not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<Timestamp>,
    /// Whether what it publishes is encrypted; absent if its manifest cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted: Option<bool>,
    /// Events that it has and that are missing here, as far as its version vector says.
    missing_here: u64,
    /// Events that are here and missing at it.
    missing_there: u64,
    /// Events that it still publishes although they were purged here.
    purged: u64,
}

/// A daemon on the remote that wants in: no person here has decided about it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Waiting {
    name: String,
    daemon_id: String,
    fingerprint: String,
    first_seen: Timestamp,
}

/// What is known of a trusted daemon that is not on the remote.
const ABSENT: &str = "it is no longer on the remote, or uses another git.ref_prefix";

impl GitSync {
    /// Makes an exchange, and compares this daemon's version vector with those of the trusted daemons on the remote
    /// that are no peers. Empty while sync through git is off.
    pub(crate) async fn verify(&self) -> Vec<Compared> {
        let Some(remote) = self.0.state().remote.clone() else { return Vec::new() };
        if !self.is_on() {
            return Vec::new();
        }
        let exchanged = tokio::time::timeout(thrum_core::limits::VERIFY, self.force()).await;
        let late = || Err(Error::new(ErrorKind::TryAgain, "the remote did not answer in time"));
        if let Err(error) = exchanged.unwrap_or_else(|_| late()) {
            let (name, error) = (format!("git remote {remote}"), Some(error.message));
            let status = Verdict::Unreachable;
            return vec![Compared {
                name,
                daemon_id: String::new(),
                status,
                differences: Vec::new(),
                missing: Vec::new(),
                error,
            }];
        }
        let shown = self.0.shown.borrow().clone();
        let own = shown.report.heads.unwrap_or_default();
        let peers = self.0.peers.list();
        let others = shown.report.daemons.into_iter().filter(|(id, _)| !peers.iter().any(|peer| peer.daemon_id == *id));
        let distrusted = self.reach().distrusted;
        let absent = {
            let state = self.0.state();
            let absent = state.known.iter().filter(|(_, known)| known.is_gone);
            absent.map(|(id, known)| (id.clone(), known.name.clone())).collect::<Vec<_>>()
        };
        let absent = absent.into_iter().filter(|(id, _)| !peers.iter().any(|peer| peer.daemon_id == *id));
        let absent = absent.map(|(daemon_id, name)| Compared {
            name,
            daemon_id,
            status: Verdict::Unreachable,
            differences: Vec::new(),
            missing: Vec::new(),
            error: Some(ABSENT.to_owned()),
        });
        let compared = others.filter_map(|(daemon_id, seen)| {
            let mut differences = own.differences(&seen.heads?);
            // What others hold of a daemon that is not trusted here stays there.
            differences.retain(|one| !distrusted.contains(&one.origin) || missing_there(one) > 0);
            let is_missing_here = differences.iter().any(|one| missing_here(one) > 0);
            let (status, error) = if differences.is_empty() {
                (Verdict::Equal, None)
            } else if is_missing_here {
                (Verdict::Differs, Some("it has events that it does not publish, or that cannot be read".to_owned()))
            } else {
                (Verdict::Waiting, Some("it takes the rest with its next exchange, or purges it then".to_owned()))
            };
            Some(Compared { name: seen.name, daemon_id, status, differences, missing: Vec::new(), error })
        });
        compared.chain(absent).collect()
    }

    /// The daemons that are reached through git, as of the last exchange, which may have been before a restart; empty
    /// while sync through git is off.
    pub(crate) fn reach(&self) -> GitReach {
        if !self.is_on() {
            return GitReach::default();
        }
        let state = self.0.state();
        let of = |wanted: fn(&Known) -> bool| {
            state.known.iter().filter(move |(_, known)| wanted(known)).map(|(id, _)| id.clone())
        };
        GitReach {
            trusted: of(|known| known.counts_as_trusted() && !known.is_gone).collect(),
            absent: of(|known| known.counts_as_trusted() && known.is_gone).collect(),
            distrusted: of(|known| known.is_trusted == Some(false)).collect(),
            is_failing: self.0.shown.borrow().last_error.is_some(),
        }
    }

    /// When the last exchange succeeded; `None` while sync through git is off.
    pub(crate) fn last_exchange(&self) -> Option<Timestamp> {
        if self.is_on() { self.0.state().exchanged_at } else { None }
    }

    /// The names of daemons whose events were stored once, by id, also while sync through git is off.
    pub(crate) fn names(&self) -> BTreeMap<String, String> {
        let state = self.0.state();
        let stored = state.known.iter().filter(|(_, known)| known.was_trusted);
        stored.map(|(id, known)| (id.clone(), known.name.clone())).collect()
    }

    /// What is known of sync through git.
    pub(crate) fn status(&self) -> GitStatus {
        let state = self.0.state().clone();
        let shown = self.0.shown.borrow().clone();
        let is_on = self.is_on();
        let own = shown.report.heads.clone().unwrap_or_default();
        let daemons = shown.report.daemons.iter().filter(|(_, seen)| is_on && seen.state != SeenState::Waiting);
        let daemons = daemons.map(|(id, seen)| {
            let differences = seen.heads.as_ref().map(|heads| own.differences(heads)).unwrap_or_default();
            let (word, reason) = word(&seen.state);
            let bad = seen.bad_segments.as_ref().map(|(count, last)| format!("{count} segments are not used: {last}"));
            // A manifest that cannot be read now may have been readable before.
            let former = state.known.get(id).map(|known| &known.name);
            GitDaemon {
                name: former.filter(|_| seen.name.is_empty()).unwrap_or(&seen.name).clone(),
                daemon_id: id.clone(),
                fingerprint: fingerprint(id),
                state: word,
                reason: reason.or(bad),
                published_at: seen.at,
                encrypted: seen.is_encrypted,
                missing_here: differences.iter().map(missing_here).fold(0, u64::saturating_add),
                missing_there: differences.iter().map(missing_there).fold(0, u64::saturating_add),
                purged: seen.purged,
            }
        });
        let absent = state.known.iter().filter(|(id, known)| {
            is_on
                && known.counts_as_trusted()
                && shown.report.heads.is_some()
                && !shown.report.daemons.contains_key(*id)
        });
        let absent = absent.map(|(id, known)| GitDaemon {
            name: known.name.clone(),
            daemon_id: id.clone(),
            fingerprint: fingerprint(id),
            state: "absent",
            reason: Some(ABSENT.to_owned()),
            published_at: None,
            encrypted: None,
            missing_here: 0,
            missing_there: 0,
            purged: 0,
        });
        let daemons = by_name(daemons.chain(absent), |one| (&one.name, &one.daemon_id));
        let waiting = state.known.iter().filter(|(id, _)| {
            is_on && shown.report.daemons.get(*id).is_some_and(|seen| seen.state == SeenState::Waiting)
        });
        let waiting = waiting.map(|(id, known)| Waiting {
            name: known.name.clone(),
            daemon_id: id.clone(),
            fingerprint: fingerprint(id),
            first_seen: known.first_seen,
        });
        GitStatus {
            state: match (is_on, &shown.last_error, state.exchanged_at) {
                _ if self.0.broken.is_some() => "failing",
                (false, ..) => "off",
                (true, Some(_), _) => "failing",
                (true, None, Some(_)) => "ok",
                (true, None, None) => "starting",
            },
            encrypted: state.encrypts,
            own_fingerprint: fingerprint(&self.0.me.daemon_id),
            interval: shown.interval.unwrap_or(limits::INTERVAL).as_secs(),
            last_exchange_at: state.exchanged_at,
            last_published_at: state.published_at,
            last_error: (self.0.broken.as_ref())
                .or(shown.last_error.as_ref().filter(|_| is_on))
                .map(|error| error.message.clone()),
            next_exchange_at: shown.next.filter(|_| is_on),
            events_stored: shown.applied,
            events_published: shown.published,
            daemons,
            waiting: by_name(waiting, |one| (&one.name, &one.daemon_id)),
            left_out: shown.report.left_out,
            left_behind: state.places.left_behind(&self.0.me.daemon_id, !is_on),
            remote: state.remote.filter(|_| is_on),
        }
    }
}

/// Sorts daemons by name, and those of one name by id.
fn by_name<T>(daemons: impl Iterator<Item = T>, key: impl Fn(&T) -> (&String, &String)) -> Vec<T> {
    let mut daemons: Vec<T> = daemons.collect();
    daemons.sort_by(|one, other| key(one).cmp(&key(other)));
    daemons
}

/// How many events of a log are missing here, and were not purged here.
const fn missing_here(one: &Difference) -> u64 {
    one.there.saturating_sub(one.here.saturating_add(one.purged_here))
}

/// How many events of a log are missing there, and were not purged there.
const fn missing_there(one: &Difference) -> u64 {
    one.here.saturating_sub(one.there.saturating_add(one.purged_there))
}

/// The word for a state, and the reason for it.
fn word(state: &SeenState) -> (&'static str, Option<String>) {
    match state {
        SeenState::Waiting => ("waiting", None),
        SeenState::Distrusted => ("distrusted", None),
        SeenState::Trusted => ("trusted", None),
        SeenState::Unusable(why) => ("unusable", Some(why.to_string())),
        SeenState::OverQuota(over) => ("over_quota", Some(over.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_are_sorted_by_name_and_those_of_one_name_by_id() {
        let daemons = [("d_1", "desk"), ("d_2", "attic"), ("d_3", "attic"), ("d_0", "laptop")];
        let daemons = daemons.map(|(id, name)| (id.to_owned(), name.to_owned())).into_iter().rev();
        let sorted = by_name(daemons, |(id, name)| (name, id));
        let ids: Vec<&str> = sorted.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["d_2", "d_3", "d_1", "d_0"]);
    }
}
