//! The places where this daemon publishes and has published: a remote and the beginning of the names of refs.

use serde::{Deserialize, Serialize};
use thrum_core::{Error, ErrorKind, Timestamp, name};

/// The most former places that are remembered. The oldest are forgotten.
const MOST: usize = 100;

/// A place where this daemon publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The name of a git remote, or a URL.
    pub(super) remote: String,
    /// The addresses of the remote at that time, without those that hold a password.
    pub(super) addresses: Vec<String>,
    pub(super) prefix: String,
}

/// A place where this daemon's ref is to be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Former {
    #[serde(flatten)]
    pub(super) place: Place,
    /// When it was tried last, and why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<(Timestamp, String)>,
}

/// Where this daemon publishes and has published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Places {
    /// Where something was published last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) current: Option<Place>,
    /// Where it was published before, and is to be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) former: Vec<Former>,
}

/// A ref of this daemon that is still on a remote.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LeftBehind {
    /// The address of the remote, or its name.
    remote: String,
    #[serde(rename = "ref")]
    reference: String,
    /// Why it could not be removed; absent before the first attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl LeftBehind {
    /// The error of a removal that failed.
    pub(super) fn error(&self) -> Error {
        let (remote, reason) = (name::quoted(&self.remote), self.reason.as_deref().unwrap_or("it was not tried"));
        Error::new(ErrorKind::TryAgain, format!("it is off, but {} is still at {remote}: {reason}", self.reference))
            .hint(format!("git push {} :{}", self.remote, self.reference))
    }
}

impl Place {
    pub(super) fn new(remote: &str, addresses: &[String], prefix: &str) -> Self {
        let kept = addresses.iter().filter(|address| !has_password(address)).cloned();
        Self { remote: remote.to_owned(), addresses: kept.collect(), prefix: prefix.to_owned() }
    }
}

impl Places {
    /// Notes that this daemon publishes at a place now. What it published elsewhere is to be removed.
    pub(super) fn publishes_at(&mut self, place: Place) {
        if self.current.as_ref() != Some(&place) {
            self.publishes_nowhere();
            self.former.retain(|former| former.place != place);
            self.current = Some(place);
        }
    }

    /// Notes that what this daemon published is to be removed.
    pub(super) fn publishes_nowhere(&mut self) {
        if let Some(place) = self.current.take() {
            self.former.push(Former { place, failed: None });
            self.former.drain(..self.former.len().saturating_sub(MOST));
        }
    }

    /// The refs of this daemon on remotes where it published before; while it `is_off`, also that where it published
    /// last.
    pub(super) fn left_behind(&self, daemon_id: &str, is_off: bool) -> Vec<LeftBehind> {
        let left = |place: &Place, reason: Option<&str>| LeftBehind {
            remote: place.addresses.first().unwrap_or(&place.remote).clone(),
            reference: format!("{}{daemon_id}", place.prefix),
            reason: reason.map(str::to_owned),
        };
        let off = "switching off keeps what was published: thrum sync git off --remove";
        let former = self.former.iter();
        let former = former.map(|one| left(&one.place, one.failed.as_ref().map(|(_, reason)| reason.as_str())));
        former.chain(self.current.iter().filter(|_| is_off).map(|place| left(place, Some(off)))).collect()
    }
}

/// Returns `true` for a URL with a password in it.
pub(super) fn has_password(remote: &str) -> bool {
    let authority = remote.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    authority.and_then(|authority| authority.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(remote: &str) -> Place {
        let addresses = [format!("/srv/{remote}.git"), "https://ann:secret@example.com/a.git".to_owned()];
        Place::new(remote, &addresses, "refs/thrum/")
    }

    #[test]
    fn a_place_that_is_left_is_remembered_until_it_is_used_again() {
        let mut places = Places::default();
        let shown = |places: &Places| {
            places.left_behind("d_k", false).into_iter().map(|left| (left.remote, left.reference)).collect::<Vec<_>>()
        };
        places.publishes_at(place("one"));
        places.publishes_at(place("one"));
        assert_eq!(shown(&places), []);
        places.publishes_at(place("two"));
        assert_eq!(shown(&places), [("/srv/one.git".into(), "refs/thrum/d_k".into())]);
        places.publishes_at(place("one"));
        assert_eq!(shown(&places), [("/srv/two.git".into(), "refs/thrum/d_k".into())]);
        assert_eq!(places.left_behind("d_k", true).len(), 2, "what it publishes now stays while it is off");
        for n in 0..MOST + 2 {
            places.publishes_at(place(&n.to_string()));
        }
        assert_eq!(places.former.len(), MOST);
        assert!(!serde_json::to_string(&places).unwrap().contains("secret"));
    }
}
